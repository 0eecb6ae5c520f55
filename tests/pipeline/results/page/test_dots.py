"""Dots: a student at its best setting beside its baseline."""

from charted import best, chapter, drawn, students
from pipeline.results.page.dots import dots
from pipeline.results.page.measure import ACCURACY
from runs import rows


def test_the_best_setting_and_the_baseline(tmp_path):
    every = rows("a", "teacher") + students("s", 1, 4) + rows("s-hard", "baseline", "s", errors=(20, 22)) + students("t", 2)
    figure = dots("name", chapter(tmp_path, every, best=[best("s", "s-T4-0.5")]), ACCURACY, "title")
    points = {(row["student"], row["setting"], row["x"]) for row in drawn(figure) if "student" in row}
    assert points == {
        ("s", "distilled at T = 4 and alpha = 0.5", 86), ("s", "hard labels", 79),
        ("t", "distilled at T = 2 and alpha = 0.5", 86),
    }  # fmt: skip
    assert "s: 86.00 ± 2.83 %, 79.00 ± 1.41 % on hard labels; t: 86.00 ± 2.83 %; teacher a: 90.00 %." in figure.text
