"""Confusions: maps of few classes, pairs of many."""

import numpy as np
import pytest
from colours import DARK, LIGHT, PRINT, contrast

from charted import chapter, drawn, students
from pipeline.results.page import theme
from pipeline.results.page.confusions import MAPPED, confusions
from pipeline.results.page.judged import judged
from runs import rows

PAIRS = [("a", 0, 1, 4.0), ("a", 1, 2, 1.0), ("s-T4-0.5", 0, 1, 2.5), ("s-T4-0.5", 2, 0, 3.0)]


def figures(folder, classes):
    held = [dict(zip(("run", "label", "predicted", "rows"), pair, strict=True)) for pair in PAIRS]
    made = chapter(folder, rows("a", "teacher") + students("s", 4), classes=classes, confusions=held)
    return confusions(made, judged(made))


def cells(figure):
    return {(row["label"], row["taken"]): row["rows"] for row in drawn(figure) if "rows" in row}


def test_teacher_student_and_their_difference(tmp_path):
    teacher, student, difference = figures(tmp_path, ("x", "y", "z"))
    assert cells(teacher) == {("x", "y"): 4, ("y", "z"): 1}
    assert cells(student) == {("x", "y"): 2.5, ("z", "x"): 3}
    assert cells(difference) == {("x", "y"): -1.5, ("y", "z"): -1, ("z", "x"): 3}
    assert student.title == "s at T = 4 most often takes z for x: 3 test rows"
    assert difference.title == "Where s at T = 4 goes wrong more often than the teacher: z for x, 3 test rows more"


def test_many_classes_are_pairs(tmp_path):
    (figure,) = figures(tmp_path, [f"class {number}" for number in range(MAPPED + 1)])
    assert [(row["pair"], row["net"], row["rows"]) for row in drawn(figure)][:4] == [
        ("class 0 → class 1", "teacher a", 4), ("class 0 → class 1", "s at T = 4", 2.5),
        ("class 2 → class 0", "teacher a", 0), ("class 2 → class 0", "s at T = 4", 3),
    ]  # fmt: skip


def test_nets_that_the_table_does_not_have_are_left_out(tmp_path):
    made = chapter(tmp_path, rows("a", "teacher") + students("s", 4))
    assert confusions(made, judged(made)) == []


def ramp(colours):
    """Steps of a scale (N, 4), with opacity, between colours #rrggbbaa; Vega interpolates each part by itself."""
    ends = np.array([[int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5, 7)] for colour in colours])
    places = np.linspace(0, len(ends) - 1, 201)
    return np.stack([np.interp(places, range(len(ends)), part) for part in ends.T], axis=1)


@pytest.mark.parametrize("colours", [LIGHT, DARK, PRINT, {"page": "#ffffff", "text": theme.standing_alone()["text"]["color"]}])
def test_letters_can_be_read_on_every_cell(tmp_path, colours):
    """They have the colour of the text; by 4.5 to 1, as WCAG 2.2 asks of letters (1.4.3)."""
    digits = colours["page"].lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    page = np.array([int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4)])
    for figure in figures(tmp_path, ("x", "y", "z")):
        _, cells, letters = figure.spec["layer"]
        assert "color" not in letters["encoding"]
        assert "color" not in letters["mark"]
        for *hue, opacity in ramp(cells["encoding"]["color"]["scale"]["range"]):
            seen = np.rint(255 * (opacity * np.array(hue) + (1 - opacity) * page)).astype(int)
            assert contrast("#" + "".join(f"{part:02x}" for part in seen), colours["text"]) >= 4.5
