"""Confusions: maps of few classes, pairs of many."""

from charted import chapter, drawn, students
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
