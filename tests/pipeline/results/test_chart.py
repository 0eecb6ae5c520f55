"""The chart: what it is drawn against, and which points, lines and words are in it."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from pipeline.results.chart import axis_of, draw
from pipeline.results.line import Line

SYMBOL = r'aria-label="([^"]*)" role="graphics-symbol" aria-roledescription="'


def line(run: str, kind: str, student=None, temperature=None, alpha=0.5, accuracy=(0.86, 0.02), seeds=2) -> Line:
    cells = {("test", "accuracy"): accuracy} if seeds else {}
    return Line(run, kind, student, temperature, alpha if temperature else None, 9, seeds, 2 - seeds, 0, cells)


def students(*temperatures: float, name: str = "s", alpha: float = 0.5) -> list[Line]:
    return [line(f"{name}-T{each}", "student", name, each, alpha) for each in temperatures]


@pytest.mark.parametrize(
    ("lines", "axis"),
    [
        ([], ("temperature", 0)),
        ([line("a", "teacher"), line("s-hard", "baseline", "s")], ("temperature", 0)),
        (students(4), ("temperature", 1)),
        (students(1, 4) + students(4, name="t"), ("temperature", 2)),
        (students(4) + students(4, alpha=0.9), ("alpha", 2)),
        (students(1, 4) + students(4, alpha=0.9), ("temperature", 2)),
        ([*students(4), line("s-T1", "student", "s", 1, seeds=0)], ("temperature", 1)),  # where all diverged is no point
        ([*students(20), line("s-T30", "uncorrected", "s", 30)], ("temperature", 1)),
    ],
)
def test_what_students_are_drawn_against(lines, axis):
    assert axis_of(lines) == axis


def test_every_student_is_a_point_and_nothing_else_is():
    others = [line("a", "teacher"), line("s-raw", "uncorrected", "s", 30), line("s-T8", "student", "s", 8, seeds=0)]
    picture = draw([*others, *students(20), line("u", "student", "u", 2.5, accuracy=(0.5, None))], "", "temperature")
    root = ElementTree.fromstring(picture)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "temperature T" in "".join(root.itertext())
    assert re.findall(SYMBOL + 'point"', picture) == [
        "temperature T (log scale): 20; test accuracy, %: 86; student: s",
        "temperature T (log scale): 2.5; test accuracy, %: 50; student: u",
    ]


def test_one_temperature_and_several_alphas_are_drawn_against_alpha():
    picture = draw(students(4, alpha=0.1) + students(4, alpha=0.9), "", "alpha")
    points = re.findall(SYMBOL + 'point"', picture)
    assert points == [
        f"alpha, the weight of the soft targets: {alpha}; test accuracy, %: 86; student: s" for alpha in (0.1, 0.9)
    ]
    assert "temperature T" not in picture


def test_lines_of_several_alphas_are_told_apart():
    picture = draw([*students(1, 4), *students(1, 4, alpha=0.9), line("s-hard", "baseline", "s")], "", "temperature")
    assert {label.partition("student: ")[2] for label in re.findall(SYMBOL + 'point"', picture)} == {
        "s, alpha 0.5", "s, alpha 0.9",
    }  # fmt: skip
    assert "s, hard labels" in picture


def test_the_title_has_the_name_of_the_folder():
    """As text, whatever it is."""
    said = ["".join(ElementTree.fromstring(draw(students(1), name, "temperature")).itertext()) for name in ("<b>", "")]
    assert "Students distilled from cached logits: <b>" in said[0]
    assert "logits:" not in said[1]


def test_the_ensemble_stands_for_the_teachers():
    teachers = [line("a", "teacher"), line("b", "teacher")]
    several = draw([*teachers, line("ensemble", "ensemble"), *students(1)], "", "temperature")
    assert ("teacher ensemble" in several, "teacher a" in several, "teacher b" in several) == (True, False, False)
    assert "teacher a" in draw([*teachers[:1], *students(1)], "", "temperature")


def test_one_student_needs_no_legend():
    one, two = (draw(lines, "", "temperature") for lines in (students(1, 4), students(1) + students(1, name="t")))
    assert ["legend" in picture for picture in (one, two)] == [False, True]


def test_dashes_are_explained_where_there_are_any():
    for baselines in ([line("s-hard", "baseline", "s")], []):
        assert ("dashed" in draw([*baselines, *students(1)], "", "temperature")) == bool(baselines)


def test_labels_of_close_temperatures_do_not_overlap():
    picture = draw(students(1, 2, 2.5, 20, 20.1, 1000), "", "temperature")
    assert re.findall('opacity="1">([0-9.]+)</text>', picture)[:5] == ["1", "2", "2.5", "20", "1000"]
