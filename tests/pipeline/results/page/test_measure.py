"""Measures in words."""

import pytest

from charted import best, chapter, students
from pipeline.results.page.measure import ACCURACY, NLL, over_seeds, verdict
from runs import rows

HARD = (10, 20, 30)  # errors of three seeds


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        (HARD, "level with it"),
        ((3, 12, 25), "6.7 points above it"),  # 7, 8, 5: 6.67 ± 4.303 · 1.528 / √3 = 3.80; apart, sides differ by 10 within
        ((1, 20, 30), "not clearly above it (3.0 points)"),  # 9, 0, 0: 3 ± 4.303 · 5.196 / √3 = 12.9
        ((20, 29, 41), "10.0 points below it"),  # -10, -9, -11
        ((4,), "6.0 points above it (one seed)"),
        ((3, 12), "not clearly above it (7.5 points)"),  # 7, 8 of the two seeds in common: ± 12.7 / 2; over rows it is not
    ],
)
def test_a_difference_is_of_paired_seeds_and_clear_where_its_intervals_say_so(tmp_path, errors, said):
    every = students("s", 4, errors=errors) + rows("s-hard", "baseline", "s", errors=HARD)
    low = -1.0 if len(errors) == 2 else -12.0 if errors[0] == 20 else 2.0
    made = chapter(tmp_path, every, best=[best("s", "s-T4-0.5", over_rows_low=low, over_rows_high=low + 10)])
    student, baseline = made.lines
    assert ACCURACY.compared(made, student, baseline, "it") == said
    assert NLL.compared(made, student, baseline, "it") == "level with it" + (" (one seed)" if errors == (4,) else "")


def test_a_teacher_is_one_net_and_nlls_have_intervals_of_their_own(tmp_path):
    """NLLs of 0.20, 0.21 and 0.22 against 0.25, and against the teacher's 0.215: 0.210 ± 4.303 · 0.01 / √3 = 0.025."""
    every = students("s", 4, errors=(12, 12, 13)) + rows("s-hard", "baseline", "s", errors=HARD) + rows("a", "teacher")
    for row in every:
        row["nll"] = 0.2 + row["seed"] / 100 if row["kind"] == "student" else 0.215 if row["kind"] == "teacher" else 0.25
    made = chapter(tmp_path, every, best=[best("s", "s-T4-0.5", over_rows_low=-1.0)])
    student, baseline, teacher = made.lines
    assert NLL.compared(made, student, baseline, "it") == "0.040 nats below it"
    assert NLL.compared(made, student, teacher, "it") == "not clearly below it (0.005 nats)"
    assert ACCURACY.compared(made, student, teacher, "it") == "2.3 points below it"  # 2.33 ± 4.303 / 3
    assert ACCURACY.compared(made, student, baseline, "it") == "not clearly above it (7.7 points)"  # -2, 8, 17


def test_what_the_bars_are_of(tmp_path):
    one, several = chapter(tmp_path, rows("a", "teacher") + students("s", 4)).lines
    assert [over_seeds(lines) for lines in ([one], [several], [one, several])] == [
        "One seed of each.", "Mean ± standard deviation over seeds.",
        "Mean ± standard deviation over seeds, where there are several.",
    ]  # fmt: skip


def test_the_verdict_compares_with_hard_labels_and_the_teacher(tmp_path):
    """14 and 21 errors of 100; the teacher makes 10. Alpha is named where there are several."""
    every = students("s", 4, errors=(14, 14)) + rows("s-hard", "baseline", "s", errors=(21, 21)) + rows("a", "teacher")
    found = "test accuracy 7.0 points above hard labels and 4.0 points below the teacher"
    assert verdict(chapter(tmp_path, every, best=[best("s", "s-T4-0.5")]), ACCURACY) == f"s at T = 4: {found}"
    every += students("s", 4, alpha=0.9)
    made = chapter(tmp_path, every, best=[best("s", "s-T4-0.5")])
    assert verdict(made, ACCURACY) == f"s at T = 4 and alpha = 0.5: {found}"
    assert verdict(chapter(tmp_path, students("s", 4, errors=(14,))), NLL) == "s at T = 4: test NLL 0.2500 nats"
