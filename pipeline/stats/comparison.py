"""Comparison: how sure a difference in test errors between two settings is.

The difference is always baseline − student, in errors: above 0 is a gain. It has two intervals, which answer two questions
and must not be taken for each other. `paired`: would other seeds say the same, on these test rows? `bootstrap`: would other
test rows say the same, of these trained nets? Handed the same seeds, they have the same mean.
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
    """A mean difference in errors, and the ends of its interval at CONFIDENCE."""

    mean: float
    low: float
    high: float


def paired(baseline: Mapping[int, float], student: Mapping[int, float]) -> Interval | None:
    """Student's t-interval of the mean difference over the n seeds both have, with n − 1 degrees of freedom.

    baseline, student: seed → errors. None where they have fewer than two seeds in common. It takes the differences for
    normal, and knows of no other test rows than these.
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

    baseline, student: (seeds, N) bool, true where that seed's net is wrong on that row; the numbers of seeds may differ.
    Both are averaged over their seeds, then rows are drawn with replacement, N each time, the same for both. Returns errors
    on N rows. The same arguments give the same interval, as long as numpy draws multinomials as it does. Raises InputError
    for arrays of other shapes or types.

    A resample's difference is a function of how often it holds each distinct difference of a row, and those counts are
    multinomial: they are drawn, not the rows.
    """
    sides = (baseline, student)
    fits = all(side.dtype == bool and side.ndim == 2 and side.size for side in sides)
    if not fits or baseline.shape[1] != student.shape[1]:
        found = " and ".join(f"{side.dtype} {side.shape}" for side in sides)
        fix = "Compare predictions with labels, seed by seed, on the same split."
        raise InputError("bootstrap", expected="two bool arrays (seeds, N) of the same N rows", found=found, fix=fix)
    scale = len(baseline) * len(student)  # makes the difference of a row a whole number
    gains = baseline.sum(axis=0) * len(student) - student.sum(axis=0) * len(baseline)
    values, counts = np.unique(gains, return_counts=True)
    generator = np.random.Generator(np.random.PCG64(randomness.torch_seed(seed, Use.BOOTSTRAP)))
    drawn = generator.multinomial(len(gains), counts / len(gains), size=resamples) @ values / scale
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(gains.sum() / scale), float(low), float(high))


def t_quantile(freedom: int, confidence: float = CONFIDENCE) -> float:
    """The t that Student's distribution with `freedom` degrees of freedom, at least 1, stays within ± with `confidence`."""
    from scipy import special  # as scipy.stats has it, which takes three times as long to import

    return float(special.stdtrit(freedom, (1 + confidence) / 2))
