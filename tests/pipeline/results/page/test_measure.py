"""Measures in words."""

import pytest

from charted import best, chapter, students
from pipeline.results.page.measure import ACCURACY, NLL, verdict
from runs import rows


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ((10, 20), "level with"),
        ((4, 6), "10.0 points above"),  # two standard errors: 2 √(50 / 2 + 2 / 2) = 10.2, so this is noise
        ((1, 1), "14.0 points above"),  # 2 √25 = 10
        ((30, 40), "20.0 points below"),  # 2 √(25 + 25) = 14.1
    ],
)
def test_a_difference_is_named_and_so_is_noise(tmp_path, errors, said):
    made = chapter(tmp_path, students("s", 4, errors=errors) + rows("s-hard", "baseline", "s", errors=(10, 20)))
    student, baseline = made.lines
    assert ACCURACY.compared(student, baseline, "it") == f"{said} it" + (
        " (within the noise of the seeds)" if said.startswith("10.0") else ""
    )
    assert NLL.compared(student, baseline, "it") == "level with it"


def test_the_verdict_compares_with_hard_labels_and_the_teacher(tmp_path):
    """14 and 21 errors of 100; the teacher makes 10. Alpha is named where there are several."""
    every = students("s", 4, errors=(14, 14)) + rows("s-hard", "baseline", "s", errors=(21, 21)) + rows("a", "teacher")
    found = "test accuracy 7.0 points above hard labels and 4.0 points below the teacher"
    assert verdict(chapter(tmp_path, every, best=[best("s", "s-T4-0.5")]), ACCURACY) == f"s at T = 4: {found}"
    every += students("s", 4, alpha=0.9)
    made = chapter(tmp_path, every, best=[best("s", "s-T4-0.5")])
    assert verdict(made, ACCURACY) == f"s at T = 4 and alpha = 0.5: {found}"
    assert verdict(chapter(tmp_path, students("s", 4, errors=(14,))), NLL) == "s at T = 4: test NLL 0.2500 nats"
