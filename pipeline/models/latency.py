"""Latency: how long a model takes for a batch, the median of many runs on one thread."""

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np

SECONDS = 0.5  # after which no run begins; over less, such as 200 runs of 30 µs, one hitch of the machine decides
WARM = 3  # runs before the first one that counts, at most
SLOW = 5.0  # seconds: a run that takes longer counts at once, because a second one would hardly be faster


def latency(run: Callable[[np.ndarray], object], batch: np.ndarray) -> float:
    """The median seconds of a run, after some that do not count. batch: (n, *shape), what `run` takes."""
    first, *_ = _timed(run, batch, WARM)
    return first if first > SLOW else statistics.median(_timed(run, batch))


def _timed(run: Callable[[np.ndarray], object], batch: np.ndarray, most: float = math.inf) -> list[float]:
    """The seconds of each of as many runs as begin in time, of `most` at most, and of one at least."""
    found: list[float] = []
    started = time.perf_counter()
    while len(found) < most and (not found or time.perf_counter() < started + SECONDS):
        before = time.perf_counter()
        run(batch)
        found.append(time.perf_counter() - before)
    return found


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Within the block, torch uses one thread."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
