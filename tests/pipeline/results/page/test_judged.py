"""Judged: teacher, student and baseline."""

from charted import best, chapter, students
from pipeline.results.page.judged import judged
from runs import rows


def test_teacher_student_and_baseline_are_judged(tmp_path):
    every = rows("a", "teacher") + students("s", 1, 4) + rows("s-hard", "baseline", "s") + students("t", 4)
    nets = judged(chapter(tmp_path, every, best=[best("s", "s-T4-0.5")]))
    assert [(net.line.run, net.label) for net in nets] == [
        ("a", "teacher a"), ("s-T4-0.5", "s at T = 4"), ("s-hard", "s on hard labels"),
    ]  # fmt: skip
    assert nets[1].colour == nets[2].colour != nets[0].colour
    assert len({net.shape for net in nets}) == 3
