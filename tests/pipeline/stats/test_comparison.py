"""Intervals against published tables, closed forms, naive resampling and how often they hold the truth."""

import math

import numpy as np
import pytest

from pipeline.base.errors import InputError
from pipeline.stats import comparison
from pipeline.stats.comparison import Interval


def wrong(levels, rows: int, *, seed=0) -> np.ndarray:
    """(seeds, rows) bool: one net per level, below 0.5, with 2 · level² of rows wrong; some rows are harder for all nets."""
    generator = np.random.default_rng(seed)
    ease = generator.random(rows)
    return np.stack([(ease + generator.random(rows)) / 2 < level for level in levels])


# ---------------------------------------------------------------- Student's t


@pytest.mark.parametrize(
    ("freedom", "published"),  # of the table of the NIST/SEMATECH e-Handbook, 1.3.6.7.2
    [
        (1, 12.706),
        (2, 4.303),
        (3, 3.182),
        (4, 2.776),
        (5, 2.571),
        (9, 2.262),
        (10, 2.228),
        (29, 2.045),
        (30, 2.042),
        (100, 1.984),
    ],
)
def test_t_as_published(freedom, published):
    assert comparison.t_quantile(freedom) == pytest.approx(published, abs=5.1e-4)


def test_t_of_other_confidences_as_published():
    assert comparison.t_quantile(4, 0.99) == pytest.approx(4.604, abs=5.1e-4)
    assert comparison.t_quantile(7, 0.9) == pytest.approx(1.895, abs=5.1e-4)


def test_t_in_closed_form():
    """One degree of freedom is Cauchy's distribution, two have an inverse without series, many are nearly normal."""
    normal = 1.959963984540054
    assert comparison.t_quantile(1) == pytest.approx(math.tan(math.pi * 0.475), rel=1e-12)
    assert comparison.t_quantile(2) == pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2)), rel=1e-12)
    assert comparison.t_quantile(10_000) == pytest.approx(normal + (normal**3 + normal) / 40_000, abs=1e-7)


@pytest.mark.parametrize("freedom", [3, 4, 8, 15])
def test_t_against_its_density_summed_up(freedom):
    """Simpson's rule on the density between −t and t gives back the confidence."""
    reach = comparison.t_quantile(freedom)
    grid = np.linspace(-reach, reach, 20_001)
    scale = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    density = scale * (1 + grid**2 / freedom) ** (-(freedom + 1) / 2)
    weights = np.where(np.arange(len(grid)) % 2, 4, 2).astype(float)
    weights[[0, -1]] = 1
    assert (weights * density).sum() * (grid[1] - grid[0]) / 3 == pytest.approx(0.95, abs=1e-9)


# ---------------------------------------------------------------- over seeds


def test_paired_by_hand():
    """Differences 2, 4, 9: mean 5, variance (9 + 1 + 16) / 2 = 13, standard error √(13/3), t of two degrees 4.302653."""
    found = comparison.paired({0: 12, 1: 14, 2: 20, 7: 99}, {2: 11, 1: 10, 0: 10, 8: 0})
    assert found.mean == pytest.approx(5)
    assert found.high - found.mean == pytest.approx(4.302653 * math.sqrt(13 / 3), abs=1e-5)
    assert found.mean - found.low == pytest.approx(4.302653 * math.sqrt(13 / 3), abs=1e-5)


def test_what_all_seeds_share_cancels():
    """Paired, a seed that is bad for both settings widens nothing."""
    assert comparison.paired({0: 10, 1: 90}, {0: 7, 1: 87}) == Interval(3, 3, 3)


@pytest.mark.parametrize(("baseline", "student"), [({}, {}), ({0: 5}, {0: 3}), ({0: 5, 1: 6}, {1: 3, 2: 4})])
def test_fewer_than_two_common_seeds_say_nothing(baseline, student):
    assert comparison.paired(baseline, student) is None


def test_paired_holds_the_truth_as_often_as_it_says():
    """4000 experiments of 3 seeds: 95 % ± 1.4 (four standard errors). With the normal 1.96 for t it would be 81 %."""
    gains = np.random.default_rng(0).normal(4, 3, (4000, 3))
    found = [comparison.paired(dict(enumerate(row)), dict.fromkeys(range(3), 0.0)) for row in gains]
    assert np.mean([one.low <= 4 <= one.high for one in found]) == pytest.approx(0.95, abs=0.014)


# ---------------------------------------------------------------- over test rows


def test_bootstrap_against_resampling_the_rows_themselves():
    """2000 plain resamples of 300 rows, three seeds against two: the ends agree within the error of 2000 draws."""
    baseline, student = wrong([0.4, 0.42, 0.38], 300), wrong([0.3, 0.33], 300, seed=1)
    generator, totals = np.random.default_rng(2), []
    for _ in range(2000):
        rows = generator.integers(0, 300, 300)
        totals.append(baseline[:, rows].sum(axis=1).mean() - student[:, rows].sum(axis=1).mean())
    found = comparison.bootstrap(baseline, student)
    assert found.mean == pytest.approx(baseline.sum() / 3 - student.sum() / 2)
    # a 2.5 % quantile of n normal draws has a standard error of 2.67 standard deviations / √n
    slack = 4 * 2.67 * np.std(totals) * math.sqrt(1 / 2000 + 1 / 10_000)
    low, high = np.quantile(totals, [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=slack)
    assert found.high == pytest.approx(high, abs=slack)
    assert slack < 0.15 * (high - low)


def test_bootstrap_against_its_exact_distribution():
    """With one seed a side a resample is a sum of N independent −1, 0 and 1: N-fold convolution gives every probability."""
    baseline, student = wrong([0.3], 60), wrong([0.2], 60, seed=1)
    step = np.array([np.mean(baseline[0].astype(int) - student[0] == value) for value in (-1, 0, 1)])
    exact = np.ones(1)
    for _ in range(60):
        exact = np.convolve(exact, step)  # of −60 … 60
    below = np.cumsum(exact)
    found = comparison.bootstrap(baseline, student, resamples=100_000)
    for end, share in ((found.low, 0.025), (found.high, 0.975)):
        place = round(end) + 60
        assert end == round(end)
        assert below[place - 1] < share + 0.002  # 0.002: four standard errors of 100,000 draws
        assert below[place] > share - 0.002


def test_bootstrap_of_many_rows_is_normal():
    """√N times the standard deviation of the rows' differences, averaged over seeds. 2 % is far above the draws' error."""
    baseline, student = wrong([0.4, 0.42], 20_000), wrong([0.39, 0.4], 20_000, seed=1)
    gains = baseline.mean(axis=0) - student.mean(axis=0)
    reach = 1.959964 * math.sqrt(20_000) * gains.std()
    found = comparison.bootstrap(baseline, student, resamples=100_000)
    assert found.low == pytest.approx(gains.sum() - reach, abs=0.02 * reach)
    assert found.high == pytest.approx(gains.sum() + reach, abs=0.02 * reach)


def test_rows_that_are_hard_for_both_cancel():
    """Paired by row: against itself a setting differs by nothing, however many errors it makes."""
    baseline = wrong([0.4, 0.5], 200)
    assert comparison.bootstrap(baseline, baseline) == Interval(0, 0, 0)
    assert comparison.bootstrap(baseline, wrong([0.4, 0.5], 200, seed=1)).high > 0


def test_bootstrap_holds_the_truth_about_as_often_as_it_says():
    """1000 test splits of 400 rows, on which 400 · 2 · (0.4² − 0.35²) = 30 fewer errors are expected: 95 % ± 2.8."""
    held = 0
    for split in range(1000):
        nets = wrong([0.4, 0.4, 0.35, 0.35], 400, seed=split)
        found = comparison.bootstrap(nets[:2], nets[2:], resamples=1000)
        held += found.low <= 30 <= found.high
    assert held / 1000 == pytest.approx(0.95, abs=0.028)


def test_bootstrap_is_the_same_every_time_and_its_seed_matters():
    baseline, student = wrong([0.4, 0.5, 0.3], 300), wrong([0.3, 0.4, 0.3], 300, seed=1)
    first = comparison.bootstrap(baseline, student)
    np.random.default_rng().random(10)
    assert comparison.bootstrap(baseline, student) == first
    assert comparison.bootstrap(baseline, student, seed=1) != first


def test_the_order_of_rows_and_seeds_is_nothing():
    baseline, student = wrong([0.4, 0.5, 0.3], 300), wrong([0.3, 0.4, 0.3], 300, seed=1)
    order = np.random.default_rng(0).permutation(300)
    assert comparison.bootstrap(baseline[::-1, order], student[:, order]) == comparison.bootstrap(baseline, student)


def test_both_intervals_have_one_mean():
    baseline, student = wrong([0.4, 0.5, 0.3], 300), wrong([0.3, 0.4, 0.3], 300, seed=1)
    counts = [dict(enumerate(side.sum(axis=1).tolist())) for side in (baseline, student)]
    assert comparison.bootstrap(baseline, student).mean == pytest.approx(comparison.paired(*counts).mean)


@pytest.mark.parametrize(
    ("baseline", "student"),
    [
        (np.zeros((2, 5), bool), np.zeros((2, 6), bool)),
        (np.zeros(5, bool), np.zeros(5, bool)),
        (np.zeros((2, 5), bool), np.zeros((2, 5))),
        (np.zeros((0, 5), bool), np.zeros((2, 5), bool)),
    ],
)
def test_what_is_not_wrong_or_right_per_seed_and_row_is_refused(baseline, student):
    with pytest.raises(InputError, match=r"two bool arrays \(seeds, N\)"):
        comparison.bootstrap(baseline, student)
