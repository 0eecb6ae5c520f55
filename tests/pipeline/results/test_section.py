"""Sections: what a folder has to show, and whether there is something to draw."""

import pytest

from conftest import write_tables
from pipeline.results.section import Section
from pipeline.results.tables import Tables
from runs import lost, rows

TEACHER, BASELINE = rows("a", "teacher"), rows("s-hard", "baseline", "s", None, (20, 22))
COOL, WARM = rows("s-T1", "student", "s", 1.0), rows("s-T4", "student", "s", 4.0)
MILD = rows("s-mild", "student", "s", 4.0, alpha=0.1)
RAW = rows("s-T4-raw", "uncorrected", "s", 30.0)


def opened(folder, runs: list[dict], best=()) -> Tables:
    return Tables.open(write_tables(folder, runs=runs, best=list(best)))


def test_what_a_folder_has_to_show(tmp_path):
    best = {"student": "s", "temperature": 4.0}
    found = Section.of("all", opened(tmp_path, RAW + TEACHER + COOL, [best]))
    assert (found.name, [line.run for line in found.lines]) == ("all", ["a", "s-T1", "s-T4-raw"])
    assert [(row.student, row.temperature) for row in found.best] == [("s", 4.0)]


@pytest.mark.parametrize(
    ("runs", "named", "unnamed"),
    [
        (TEACHER + BASELINE, None, None),
        (BASELINE + WARM, None, "temperature"),
        (WARM + RAW, None, "temperature"),  # 4 and 30 are not two of the same kind
        (WARM + [lost(row) for row in COOL], None, "temperature"),
        (COOL + WARM, "temperature", "temperature"),
        (WARM + MILD, "alpha", "alpha"),
    ],
    ids=["none", "one", "uncorrected", "diverged", "two", "alphas"],
)
def test_a_folder_with_a_name_is_drawn_from_two_values_on(tmp_path, runs, named, unnamed):
    tables = opened(tmp_path, runs)
    for name, axis in (("all", named), ("", unnamed)):
        found = Section.of(name, tables)
        assert (found.axis if found.picture else None) == axis
