"""Draws: where the steps of a policy get their chance from. A step is a pure function of its inputs and its draws."""

import functools
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.base import randomness
from pipeline.base.randomness import Use

WIDE = 1 << 32  # `high` of a draw that a share or a range of varying length is made of


class Draw(Protocol):
    """What a step draws with."""

    def __call__(self, high: int, slot: int) -> np.ndarray:
        """Random integers in [0, high), one per row of the batch: (B,) int64. A step's draws have different slots."""


@dataclass(frozen=True)
class Addressed:
    """Draws by the address (seed, row, view, step, slot).

    state: (B,) uint64, the hash of its first four parts. still: which rows keep their inputs, (B,) bool. identities: for each
    slot, the draw that changes nothing, which those rows get; none where the step has no such draws.
    """

    state: np.ndarray
    still: np.ndarray
    identities: tuple[int, ...] = ()

    @classmethod
    def of(cls, seed: int, rows: np.ndarray, views: np.ndarray) -> "Addressed":
        """The draws of these views of these rows, (B,) int64 both, before a step is chosen."""
        return cls(randomness.extended(_start(seed), rows, views), np.asarray(views) == 0)

    def of_step(self, number: int, identities: tuple[int, ...] = ()) -> "Addressed":
        """The draws of the step with this number in its policy."""
        return Addressed(randomness.extended(self.state, number), self.still, identities)

    def __call__(self, high: int, slot: int) -> np.ndarray:
        found: np.ndarray = (randomness.extended(self.state, slot) % np.uint64(high)).view(np.int64)
        return np.where(self.still, self.identities[slot], found) if self.identities else found

    def bits(self, count: int, slot: int) -> np.ndarray:
        """64 random bits for each of `count` elements of each row: (B, count) uint64."""
        return randomness.extended(randomness.extended(self.state, slot)[:, None], np.arange(count))


@dataclass(frozen=True)
class Enumerated:
    """Draws that go through all outcomes: view v is outcome v of the policy, whatever the seed and the row.

    views: (B,) int64. slots: for each draw of the step (high, identity, place): how many outcomes it has, which of them
    changes nothing, and in how many consecutive views it stays the same.
    """

    views: np.ndarray
    slots: tuple[tuple[int, int, int], ...]

    def __call__(self, high: int, slot: int) -> np.ndarray:
        outcomes, identity, place = self.slots[slot]
        assert high == outcomes, "a step draws what its outcomes say"
        found: np.ndarray = (self.views // place + identity) % high
        return found


@functools.lru_cache
def _start(seed: int) -> np.ndarray:
    """The hash of the seed, which all batches begin with."""
    return randomness.bits(seed, Use.POLICY)


def below(draw: Draw, limits: np.ndarray | int, slot: int) -> np.ndarray:
    """Random integers in [0, limit) where each row has a limit of its own, at most 2^31: (B,) int64."""
    found: np.ndarray = draw(WIDE, slot) * limits >> 32
    return found
