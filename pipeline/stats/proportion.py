"""Proportion: the interval of a share, such as an accuracy, over the rows that it might have been measured on."""

import math
from statistics import NormalDist

from pipeline.stats.comparison import CONFIDENCE


def wilson(count: int, total: int) -> tuple[float, float]:
    """The score interval of `count` of `total`, with confidence CONFIDENCE (Wilson 1927, JASA 22, 209-212).

    Args:
        count: How many, from 0 to `total`.
        total: Of how many, at least 1.

    Returns:
        Its ends, in [0, 1]: the shares p for which |count / total − p| is z standard errors √(p (1 − p) / total).
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share, spread = count / total, z**2 / total
    middle = (share + spread / 2) / (1 + spread)
    reach = math.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    return max(0.0, middle - reach), min(1.0, middle + reach)
