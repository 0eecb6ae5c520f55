"""Comparison: the difference in test errors between two settings, with confidence intervals.

The difference is always baseline − student, in errors: above 0 is a gain. The two intervals answer different questions.
`paired`: would other seeds give the same difference on these test rows? `bootstrap`: would other test rows give the same
difference for these trained nets? Both have the same mean if they get the same seeds.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.base import randomness
from pipeline.base.errors import InputError
from pipeline.base.randomness import Use

CONFIDENCE = 0.95
RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """A mean difference in errors, and the ends of its interval with confidence CONFIDENCE."""

    mean: float
    low: float
    high: float


def paired(baseline: Mapping[int, float], student: Mapping[int, float]) -> Interval | None:
    """Student's paired t-interval of the mean difference over the n seeds that both have, with n − 1 degrees of freedom.

    It assumes that the differences are normally distributed. It says nothing about other test rows.

    Args:
        baseline: Test errors of the baseline by seed.
        student: Test errors of the student by seed.

    Returns:
        The interval, in errors; None if fewer than two seeds are in both.
    """
    seeds = sorted(baseline.keys() & student.keys())
    if len(seeds) < 2:
        return None
    gains = np.array([baseline[seed] - student[seed] for seed in seeds], np.float64)
    mean, error = float(gains.mean()), float(gains.std(ddof=1)) / math.sqrt(len(gains))
    reach = t_quantile(len(gains) - 1) * error
    return Interval(mean, mean - reach, mean + reach)


def bootstrap(baseline: np.ndarray, student: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Percentile interval of the difference over resampled test rows (Efron, Tibshirani 1993, chapter 13).

    Both sides are averaged over their seeds. Each resample then draws N rows with replacement, the same rows for both sides.
    The same arguments always give the same interval, unless numpy changes how it draws multinomial numbers.

    Args:
        baseline: (seeds, N) bool, true if the net of that seed is wrong on that row.
        student: The same for the student, (seeds, N) bool; its number of seeds may differ.
        seed: The seed of the resamples.
        resamples: The number of resamples.

    Returns:
        The interval, in errors on N rows.

    Raises:
        InputError: The arrays have other shapes or types.
    """
    sides = (baseline, student)
    fits = all(side.dtype == bool and side.ndim == 2 and side.size for side in sides)
    if not fits or baseline.shape[1] != student.shape[1]:
        found = " and ".join(f"{side.dtype} {side.shape}" for side in sides)
        fix = "Compare predictions with labels, seed by seed, on the same split."
        raise InputError("bootstrap", expected="two bool arrays (seeds, N) of the same N rows", found=found, fix=fix)
    scale = len(baseline) * len(student)  # makes the difference on each row a whole number
    gains = baseline.sum(axis=0) * len(student) - student.sum(axis=0) * len(baseline)
    # A resample's mean depends only on how often each distinct value occurs. Those counts are multinomial: draw them directly.
    values, counts = np.unique(gains, return_counts=True)
    generator = np.random.Generator(np.random.PCG64(randomness.torch_seed(seed, Use.BOOTSTRAP)))
    drawn = generator.multinomial(len(gains), counts / len(gains), size=resamples) @ values / scale
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(gains.sum() / scale), float(low), float(high))


def t_quantile(freedom: int, confidence: float = CONFIDENCE) -> float:
    """The t for which Student's distribution with `freedom` (at least 1) degrees has mass `confidence` in [−t, t]."""
    from scipy import special  # scipy.stats gives the same value, but takes three times as long to import

    return float(special.stdtrit(freedom, (1 + confidence) / 2))
