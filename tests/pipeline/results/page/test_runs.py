"""All runs: tables of both splits, in which each student's best setting is shaded."""

from conftest import write_tables
from pipeline.results.page.chapter import Chapter
from pipeline.results.page.runs import runs
from pipeline.results.tables import Tables
from runs import rows


def test_every_run_is_in_it(tmp_path):
    nets = rows("a", "teacher") + rows("s-T4", "student", "s", 4.0)
    section = runs(Chapter("", Tables.open(write_tables(tmp_path, runs=nets))))
    assert (section.name, [line.run for line in section.content["lines"]]) == ("runs", ["a", "s-T4"])
    assert section.content["chosen"] == set()
    assert list(section.content["splits"]) == ["test", "valid"]
