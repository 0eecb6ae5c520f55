"""The section of trust: a diagram and maps, as far as tables have them."""

from charted import chapter, students
from pipeline.results.page.trust import trust
from runs import rows


def test_the_section_has_what_the_tables_say(tmp_path):
    every = rows("a", "teacher") + students("s", 4)
    row = {"run": "a", "label": 0, "predicted": 1, "rows": 2.0}
    bin_ = {"run": "a", "bin": 14, "rows": 100, "confidence": 0.95, "accuracy": 0.9}
    section = trust(chapter(tmp_path / "1", every, confusions=[row], bins=[bin_]))
    assert [figure.name for figure in section.figures] == ["reliability", "confusions-teacher"]
    assert trust(chapter(tmp_path / "2", every)) is None
