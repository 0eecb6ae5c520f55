"""Trial: models side by side on validation rows: whether they give what torch gives, how often they are right, how fast."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.base import runtime
from pipeline.base.errors import InputError, IntegrityError, first_line, lacks_memory
from pipeline.data.splits import Split
from pipeline.models.latency import latency, one_thread
from pipeline.models.rows import Rows
from softcache_export import INT8, TILE, softmax

CHECKED = 10_000  # rows, at most
ALONE = 16  # rows, at most, that are also looked at by themselves
WITHIN = 1e-5  # of a probability: how far another program may be from torch
ROUNDED = 0.05  # the same, where a last bit of a float may decide which of 256 values another one is rounded to
BATCHES = (1, 64)  # rows of a batch whose latency is measured
_HELD_BYTES = 1 << 28  # of inputs: larger ones are read again in every pass

Run = Callable[[np.ndarray], np.ndarray]  # inputs (n, *shape) to logits (n, classes) float32


@dataclass(frozen=True)
class Trial:
    """The first rows of a split, CHECKED at most, as a net takes them, with their labels (n,) int64."""

    rows: Rows
    labels: np.ndarray

    @classmethod
    def of(cls, split: Split, net: torch.nn.Module) -> "Trial":
        """On the CPU. net: encodes texts."""
        return cls(Rows(split, torch.device("cpu"), _HELD_BYTES).of(net), split.labels()[:CHECKED])

    def probabilities(self, runs: Mapping[str, Run]) -> dict[str, np.ndarray]:
        """By name, (n, classes) float32. Rows are read once for all."""
        found: dict[str, list[np.ndarray]] = {name: [] for name in runs}
        pieces = runtime.counting(self._pieces(), ", ".join(runs), len, total=len(self.labels))
        with one_thread():
            for piece in pieces:
                for name, run in runs.items():
                    found[name].append(softmax(run(piece).astype(np.float32)))
        return {name: np.concatenate(pieces) for name, pieces in found.items()}

    def alone(self, runs: Mapping[str, Run], what: str) -> dict[str, np.ndarray]:
        """By name, (ALONE, classes) float32, of the first rows: each is a batch of its own. Fewer where there are fewer.

        what: whose they are, for the message of the InputError where one cannot do it.
        """
        rows = next(self._pieces())[:ALONE]
        with one_thread():
            return {
                name: softmax(np.concatenate([_one(run, row[None], f"{what}, {name}") for row in rows]))
                for name, run in runs.items()
            }

    def seconds(self, runs: Mapping[str, Run]) -> dict[str, dict[int, float]]:
        """By name and rows of a batch: the median latency on one thread."""
        piece = next(self._pieces())
        batches = {size: np.resize(piece, (size, *piece.shape[1:])) for size in BATCHES}
        with one_thread():
            return {name: {size: latency(run, batch) for size, batch in batches.items()} for name, run in runs.items()}

    def _pieces(self) -> Iterator[np.ndarray]:
        seen = 0
        for piece in self.rows.split(TILE):
            yield piece[: CHECKED - seen].numpy()
            seen += len(piece)
            if seen >= CHECKED:
                return


def in_torch(net: torch.nn.Module) -> Run:
    """A net on the CPU as a function of numpy arrays."""

    def run(inputs: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            found: np.ndarray = net(torch.from_numpy(inputs)).to(torch.float32).numpy()
        return found

    return run


def _one(run: Run, row: np.ndarray, what: str) -> np.ndarray:
    """The logits (1, classes) of a batch of one row. Raises InputError where there are none."""
    expected, fix = "logits (1, classes) of a batch of one row", "Write the net for any number of rows."
    try:
        logits = run(row)
    except Exception as error:  # of many kinds, as the net's own code may raise
        if lacks_memory(error):
            raise
        raise InputError(what, expected=expected, found=first_line(error).rstrip("."), fix=fix) from error
    if logits.ndim != 2 or len(logits) != 1:
        raise InputError(what, expected=expected, found=f"shape {logits.shape}", fix=fix)
    return logits.astype(np.float32)


def apart(found: np.ndarray, other: np.ndarray) -> float:
    """The largest difference of two arrays of probabilities."""
    return float(np.abs(found - other).max())


def require_equal(shares: Mapping[str, np.ndarray], usual: str, what: str) -> None:
    """Raise IntegrityError unless all probabilities are those of `usual`, to WITHIN. what: whose they are, for the message."""
    for name, found in shares.items():
        far = apart(found, shares[usual])
        if not far <= WITHIN:  # nor NaN
            expected = f"probabilities within {WITHIN:g} of those in {usual}, on {len(found):,} validation rows"
            fix = "Nothing was written, because it would predict otherwise. Export another net."
            raise IntegrityError(f"{what}, {name}", expected=expected, found=f"some {far:.2g} apart", fix=fix)


def require_steady(alone: Mapping[str, np.ndarray], shares: Mapping[str, np.ndarray], what: str) -> None:
    """Raise IntegrityError unless the first rows have the same probabilities alone as among others. what: as above."""
    for name, found in alone.items():
        most = ROUNDED if name == INT8 else WITHIN
        far = apart(found, shares[name][: len(found)])
        if not far <= most:  # nor NaN
            expected = f"probabilities of a row by itself within {most:g} of those among other rows"
            fix = "Nothing was written, because it would predict otherwise. Write the net for any number of rows."
            raise IntegrityError(f"{what}, {name}", expected=expected, found=f"some {far:.2g} apart", fix=fix)
