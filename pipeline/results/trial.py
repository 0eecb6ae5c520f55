"""Trial: models side by side on validation rows: whether they give what torch gives, how often they are right, how fast."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.base.errors import IntegrityError
from pipeline.data.splits import Split
from pipeline.models.latency import latency, one_thread
from pipeline.models.rows import Rows
from softcache_export import TILE, softmax

CHECKED = 10_000  # rows, at most
WITHIN = 1e-5  # of a probability: how far another program may be from torch
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
        with one_thread():
            for piece in self._pieces():
                for name, run in runs.items():
                    found[name].append(softmax(run(piece).astype(np.float32)))
        return {name: np.concatenate(pieces) for name, pieces in found.items()}

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
