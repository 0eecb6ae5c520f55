"""Which setting is best and what it gains, worked out by hand."""

import numpy as np
import pytest

from pipeline.base.errors import InputError
from pipeline.results.choice import best, compared, headline
from runs import RUNS, run


def test_the_best_temperature_is_chosen_on_validation_though_another_wins_on_test():
    (row,) = best(RUNS)
    assert (row.student, row.temperature) == ("s", 4.0)
    assert row.valid_nll == pytest.approx(0.3)


def test_gains_are_paired_by_seed():
    """Seed 0: 10 − 10, seed 1: 12 − 8, seed 2: 14 − 9."""
    (row,) = best(RUNS)
    assert row.errors_saved == pytest.approx(3)
    assert row.errors_saved_std == pytest.approx((((0 - 3) ** 2 + (4 - 3) ** 2 + (5 - 3) ** 2) / 2) ** 0.5)
    assert (row.test_errors, row.baseline_test_errors) == (9, 12)


def test_both_intervals_are_of_that_gain():
    """Over seeds: 3 ± t(2 degrees of freedom, 97.5 %) · √7 / √3. Over rows: the runs are right on rows 14 to 99 alike."""
    (row,) = best(RUNS)
    reach = 4.30265 * 7**0.5 / 3**0.5
    assert (row.over_seeds_low, row.over_seeds_high) == pytest.approx((3 - reach, 3 + reach), rel=1e-5)
    assert 0 <= row.over_rows_low < 3 < row.over_rows_high < 7


def test_nets_that_diverged_take_no_part():
    """Not in means, not in pairs; a setting of which none is left is not chosen, a baseline of which none is left is none."""
    baseline = run("baseline", "s", None, (0, 2), [10, 14], [0.5, 0.5], diverged={1: 4})
    lost = run("student", "s", 1.0, (), np.zeros((0, 1)), [], diverged={0: 1, 1: 1, 2: 1})
    (row,) = best([baseline, lost, RUNS[2]])
    assert (row.temperature, row.seeds, row.errors_saved) == (4.0, 2, pytest.approx((0 + 5) / 2))
    assert row.baseline_test_errors == 12
    assert best([baseline, lost]) == []
    assert best([run("baseline", "s", None, (), np.zeros((0, 1)), [], diverged={0: 1}), RUNS[2]]) == []
    assert best([run("baseline", "s", None, (1,), [3], [0.5], diverged={0: 1, 2: 1}), RUNS[2]])[0].seeds == 1
    assert best([run("baseline", "s", None, (5,), [3], [0.5], diverged={0: 1}), RUNS[2]]) == []


def test_a_setting_of_which_a_net_diverged_is_chosen_only_where_there_is_no_other():
    """Though its mean over the seeds that are left is lower."""
    hurt = run("student", "s", 1.0, (0, 2), [1, 1], [0.1, 0.1], diverged={1: 3})
    (row,) = best([RUNS[0], hurt, RUNS[2]])
    assert (row.temperature, row.seeds, row.lost) == (4.0, 3, 0)
    (row,) = best([RUNS[0], hurt])
    assert (row.temperature, row.seeds, row.lost) == (1.0, 2, 1)
    assert row.baseline_test_errors == 12  # of seeds 0 and 2: 10 and 14


def test_all_of_a_row_is_of_the_seeds_that_both_sides_have():
    baseline = run("baseline", "s", None, (0, 1), [10, 12], [0.5, 0.5], diverged={2: 4})
    student = run("student", "s", 4.0, (1, 2), [6, 90], [0.3, 0.9], diverged={0: 1})
    (row,) = best([baseline, student])
    assert (row.seeds, row.lost, row.errors_saved) == (1, 2, 6)
    assert (row.test_errors, row.baseline_test_errors, row.valid_nll) == (6, 12, pytest.approx(0.3))
    assert row.over_seeds_low is row.over_seeds_high is None  # nothing varies over one seed
    apart = run("student", "s", 4.0, (2,), [6], [0.3], diverged={0: 1, 1: 1})
    assert best([baseline, apart]) == []


def test_settings_are_compared_on_seeds_that_all_of_them_have():
    """A lucky survivor is not better than what is better on its own seed; one of fewer seeds is not chosen for its luck."""
    baseline = run("baseline", "s", None, (0, 1, 2), [10, 10, 10], [0.5, 0.5, 0.5])
    lucky = run("student", "s", 1.0, (2,), [1], [0.1], diverged={0: 1, 1: 1})
    better = run("student", "s", 2.0, (1, 2), [2, 2], [0.9, 0.05], diverged={0: 1})
    third = run("student", "s", 3.0, (0, 2), [3, 3], [0.01, 0.2], diverged={1: 1})
    (row,) = best([baseline, lucky, better, third])
    assert (row.temperature, row.seeds, row.lost) == (2.0, 2, 1)  # on seed 2, 0.05 against 0.2
    (row,) = best([run("baseline", "s", None, (0, 1), [1, 1], [1, 1], diverged={2: 1}), lucky, third])
    assert (row.temperature, row.seeds) == (3.0, 1)  # the lucky one shares no seed with this baseline


def test_seeds_of_which_none_is_shared_are_a_mistake_unless_nets_diverged():
    assert best([run("baseline", "s", None, (0,), [1], [1], diverged={1: 1})]) == []  # without settings, nothing to say
    with pytest.raises(InputError, match="some in common"):
        best([RUNS[0], run("student", "s", 4.0, (5,), [1], [1], diverged={6: 1})])
    with pytest.raises(
        InputError, match=r"seeds of s-baseline and s-4.0: expected some in common, found \[0, 1\] and \[5, 6\]"
    ):
        best([run("baseline", "s", None, (0, 1), [1, 1], [1, 1]), run("student", "s", 4.0, (5, 6), [1, 1], [1, 1])])


def test_the_student_to_show_is_the_best_setting_of_the_best_student():
    """By validation NLL: 0.3 on the mean, of which seed 1 has 0.3, 2 has 0.2 and 0 has 0.4. A baseline is never shown."""
    other = [
        run("baseline", "u", None, (0, 1, 2), [1, 1, 1], [0.1, 0.1, 0.1]),
        run("student", "u", 4.0, (0, 1, 2), [0, 0, 0], [1, 1, 1]),
    ]
    shown, seed = headline(best([*RUNS, *other]), [*RUNS, *other])
    assert (shown.name, seed) == ("s-4.0", 2)
    assert [each.name for each in compared(best([*RUNS, *other]), [*RUNS, *other])] == [
        "s-baseline",
        "s-4.0",
        "u-baseline",
        "u-4.0",
    ]
    shown, seed = headline([], RUNS)  # nothing to compare it with
    assert (shown.name, seed) == ("s-4.0", 2)
    assert headline([], RUNS[:1]) is None


def test_the_student_to_show_is_that_of_the_lowest_row_though_seeds_without_a_baseline_are_worse():
    """x has 0.2 on the seeds that it shares with its baseline, and 0.5 on all; y has 0.3."""
    hard = {"errors": [9, 9], "valid_nll": [1, 1]}
    runs = [
        run("baseline", "x", None, (0, 1), **hard, diverged={2: 3}),
        run("student", "x", 4.0, (0, 1, 2), [1, 1, 1], [0.2, 0.2, 1.1]),
        run("baseline", "y", None, (0, 1), **hard), run("student", "y", 4.0, (0, 1), [1, 1], [0.3, 0.3]),
    ]  # fmt: skip
    assert headline(best(runs), runs)[0].name == "x-4.0"
