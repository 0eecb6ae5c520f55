"""The section of temperature: what students are drawn against, and which points, lines and words are there."""

import pytest

from charted import chapter, drawn, students
from pipeline.results.page.students import students as found
from pipeline.results.page.temperature import axis_of, temperature
from runs import lost, rows


@pytest.mark.parametrize(
    ("every", "axis"),
    [
        (students("s", 4), ("temperature", 1)),
        (students("s", 1, 4) + students("t", 4), ("temperature", 2)),
        (students("s", 4) + students("s", 4, alpha=0.9), ("alpha", 2)),
        (students("s", 1, 4) + students("s", 4, alpha=0.9), ("temperature", 2)),
        (students("s", 4) + [lost(row) for row in students("s", 1)], ("temperature", 1)),  # where all diverged is no point
        (students("s", 20) + rows("s-raw", "uncorrected", "s", 30.0), ("temperature", 1)),
    ],
)
def test_what_students_are_drawn_against(tmp_path, every, axis):
    assert axis_of(found(chapter(tmp_path, every))) == axis


def test_every_setting_is_a_point_and_nothing_else_is(tmp_path):
    """12 and 16 errors of 100: 86 % and a deviation of √8."""
    others = rows("a", "teacher") + rows("s-raw", "uncorrected", "s", 30.0) + [lost(row) for row in students("s", 8)]
    section = temperature(chapter(tmp_path, others + students("s", 1, 20) + students("u", 2.5, errors=(50,))))
    accuracy, nll = section.figures
    points = {(row["student"], row["temperature"]): row for row in drawn(accuracy) if "temperature" in row}
    assert set(points) == {("s", "1"), ("s", "20"), ("u", "2.5")}
    point = points["s", "20"]
    assert (point["y"], point["shown"]) == (86, "86.00 ± 2.83 %")
    assert (point["high"] - point["low"]) / 2 == pytest.approx(8**0.5)
    assert points["u", "2.5"]["low"] == points["u", "2.5"]["high"] == 50
    assert point["x"] == pytest.approx(20, rel=0.03)  # beside the point of another student
    assert "s: 86.00 ± 2.83 % at T = 1, 86.00 ± 2.83 % at T = 20." in accuracy.text
    assert "teacher a: 90.00 %." in accuracy.text
    assert {row["y"] for row in drawn(nll) if "temperature" in row} == {0.25}


def test_one_temperature_and_several_alphas_are_drawn_against_alpha(tmp_path):
    section = temperature(chapter(tmp_path, students("s", 4, alpha=0.1) + students("s", 4, alpha=0.9)))
    assert [row["x"] for row in drawn(section.figures[0])] == [0.1, 0.9]
    assert "at alpha = 0.9" in section.figures[0].text


def test_lines_of_several_alphas_are_told_apart_and_too_many_are_not_drawn(tmp_path):
    every = [row for number in range(1, 5) for row in students("s", 1, 4, alpha=number / 10)]
    series = {row["series"] for row in drawn(temperature(chapter(tmp_path, every)).figures[0])}
    assert series == {"0.1", "0.2", "0.3", "0.4"}
    every += [row | {"nll": 0.1} for row in students("s", 1, 4, alpha=0.9)]
    section = temperature(chapter(tmp_path, every))
    assert {(row["temperature"], row["alpha"]) for row in drawn(section.figures[0])} == {("1", "0.9"), ("4", "0.9")}
    assert "At each T: the best of 5 alphas by validation NLL." in section.content["sentences"]


def test_hard_labels_and_the_ensemble_are_lines(tmp_path):
    teachers = rows("a", "teacher") + rows("b", "teacher") + rows("ensemble", "ensemble", errors=(5,))
    every = teachers + students("s", 1, 4) + rows("s-hard", "baseline", "s", errors=(20,))
    figure = temperature(chapter(tmp_path, every, teachers=("a", "b"))).figures[0]
    rules = [row for row in drawn(figure) if "temperature" not in row]
    assert {(row.get("name", row.get("how")), row.get("value", row.get("y"))) for row in rules} == {
        ("hard labels", 80), ("teacher ensemble", 95),
    }  # fmt: skip
    assert "Dashed" in figure.note


def test_one_temperature_is_drawn_as_dots_and_no_student_as_nothing(tmp_path):
    section = temperature(chapter(tmp_path, students("s", 4)))
    assert section.content["sentences"][0] == "All students were trained at T = 4 and alpha = 0.5."
    assert [(figure.name, figure.title) for figure in section.figures] == [
        ("temperature-accuracy", "s: test accuracy 86.0 % at T = 4"), ("temperature-nll", "s: test NLL 0.250 nats at T = 4"),
    ]  # fmt: skip
    assert temperature(chapter(tmp_path, rows("a", "teacher"))) is None


def test_titles_say_what_temperature_does_to_the_best_student(tmp_path):
    """Which is that of the lowest validation NLL, not of the best accuracy; of alphas, where only these vary."""
    every = students("s", 2, errors=(10,)) + students("s", 8, errors=(30,)) + students("s", 1, errors=(20,))
    other = [row | {"nll": 0.5} for row in students("t", 2, errors=(1,)) + students("t", 4, errors=(90,))]
    accuracy, nll = temperature(chapter(tmp_path / "1", other + every)).figures
    assert accuracy.title == "s: test accuracy between 70.0 % at T = 8 and 90.0 % at T = 2"
    assert nll.title == "s: test NLL 0.250 nats at every setting"
    assert accuracy.note == "One seed of each. Points at one T stand side by side."
    every = students("s", 4, alpha=0.1, errors=(10,)) + students("s", 4, alpha=0.9, errors=(5,))
    (title, _) = (figure.title for figure in temperature(chapter(tmp_path / "2", every)).figures)
    assert title == "s: test accuracy between 90.0 % at alpha = 0.1 and 95.0 % at alpha = 0.9"
    every += students("s", 1, alpha=0.9, errors=(20,))
    (title, _) = (figure.title for figure in temperature(chapter(tmp_path / "3", every)).figures)
    assert title == "s: test accuracy between 80.0 % at T = 1 and alpha = 0.9 and 95.0 % at T = 4 and alpha = 0.9"
