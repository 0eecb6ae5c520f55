"""Assignment: which row of which source goes to which place of which split.

It is decided by labels, ids and a seed alone, before any input is read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.base import randomness
from pipeline.base.errors import InputError
from pipeline.base.randomness import Use
from pipeline.data.index import Index
from pipeline.data.selection import stratified

SPLITS = ("train", "valid", "test", "transfer")
NOWHERE = -1


@dataclass(frozen=True)
class Assignment:
    """places: for each index, by the name of a split, (N,) int32 or int64: the place of each row there, NOWHERE if it has none.

    sizes: rows of each split. twice: rows of the validation split whose ids the transfer set has as well, where they are
    folded: (digests of ids), whose inputs must be equal too.
    """

    indices: Sequence[Index]
    places: Sequence[Mapping[str, np.ndarray]]
    sizes: Mapping[str, int]
    twice: np.ndarray

    @classmethod
    def plan(
        cls, given: Mapping[str, Sequence[Index]], amounts: Mapping[str, float | int], *, seed: int, fold: bool
    ) -> "Assignment":
        """Carve splits out of the training rows, shuffle every split, and fold validation rows in.

        given: the sources of every split that has some. amounts: shares or counts of those that are carved out of train,
        in that order. Raises InputError for an amount that leaves a split empty.
        """
        indices = [index for name in SPLITS for index in given.get(name, ())]
        places: list[dict[str, np.ndarray]] = [{} for _ in indices]
        sizes: dict[str, int] = {}
        kind = np.int32 if 2 * sum(map(len, indices)) < 2**31 else np.int64

        def put(number: int, split: str, rows: np.ndarray) -> None:
            """Put rows of a source into a split, shuffled, after those that it has."""
            order = randomness.permutation(len(rows), seed, Use.SHUFFLE, SPLITS.index(split))
            place = np.full(len(indices[number]), NOWHERE, kind)
            place[rows[order]] = sizes.get(split, 0) + np.arange(len(rows))
            places[number][split] = place
            sizes[split] = sizes.get(split, 0) + len(rows)

        left = np.arange(len(indices[0]))  # train comes first, and has one source
        for split, amount in amounts.items():
            rest, carved = carve(indices[0].labels[left], amount, split, seed)
            put(0, split, left[carved])
            left = left[rest]
        put(0, "train", left)
        for number, index in enumerate(indices[1:], 1):
            put(number, index.role, np.arange(len(index)))
        twice = np.array([], indices[0].ids.dtype)
        if fold:
            source = next(number for number, found in enumerate(places) if "valid" in found)
            valid, ids = places[source]["valid"], indices[source].ids
            folded = valid != NOWHERE
            places[source]["train"] = _after(places[source].get("train"), sizes, "train", valid, folded)
            if "transfer" in sizes:
                there = np.concatenate([index.ids for index in given["transfer"]])
                both = np.isin(ids, there) & folded
                twice = ids[both]
                places[source]["transfer"] = _after(None, sizes, "transfer", valid, folded & ~both)
        return cls(indices, places, sizes, twice)

    def without_ids(self) -> "Assignment":
        """The same without the digests of ids; see Index.without_ids."""
        return replace(self, indices=[index.without_ids() for index in self.indices])

    def split_of(self, number: int, row: int) -> str:
        """The split that a row of a source is in; of several, because it is folded, its own."""
        found = [name for name in SPLITS[::-1] if self.places[number].get(name, np.full(row + 1, NOWHERE))[row] != NOWHERE]
        return "valid" if "valid" in found else found[0]

    def require_unique(self) -> None:
        """Raise InputError unless every id is unique within the transfer set, and within the other splits together."""
        for transfer in (False, True):
            numbers = [number for number, index in enumerate(self.indices) if (index.role == "transfer") == transfer]
            if not numbers:
                continue
            ids = np.concatenate([self.indices[number].ids for number in numbers])
            order = np.argsort(ids, kind="stable")
            same = np.flatnonzero(ids[order][1:] == ids[order][:-1])
            if len(same):
                ends = np.cumsum([len(self.indices[number]) for number in numbers])
                spots = []
                for row in sorted(map(int, order[same[0] : same[0] + 2])):
                    which = int(np.searchsorted(ends, row, side="right"))
                    spots.append((numbers[which], row - int(ends[which]) + len(self.indices[numbers[which]])))
                one, other = (self.split_of(*spot) for spot in spots)
                name = self.indices[spots[0][0]].name(spots[0][1])
                found = f"{name!r} " + (f"in {one} and in {other}" if one != other else "twice")
                raise InputError(f"{other} split, ids", expected="each id once", found=found, fix="Make the ids unique.")


def carve(labels: np.ndarray, amount: float | int, name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split rows into (the rest, the carved), as their numbers, ascending: every class gives the same share, to within one row.

    labels: (N,) int64. amount: a share in (0, 1) of all rows, or a count.
    """
    total = len(labels)
    count = round(amount * total) if amount < 1 else int(amount)
    if not 0 < count < total or (amount >= 1 and amount != count):
        fix = f"Correct the setting `{name}`."
        expected = f"a share in (0, 1) or a count below {total:,}"
        raise InputError(f"{name} split", expected=f"{expected} that leaves rows on both sides", found=str(amount), fix=fix)
    # The rows that come first in their classes are carved.
    shuffled = randomness.permutation(total, seed, Use.CARVE, SPLITS.index(name))
    carved = shuffled[np.argsort(stratified(labels, shuffled)[shuffled], kind="stable")][:count]
    mask = np.zeros(total, bool)
    mask[carved] = True
    return np.flatnonzero(~mask), np.flatnonzero(mask)


def _after(held: np.ndarray | None, sizes: dict[str, int], split: str, order: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The places of a source's rows in a split, with these rows appended in this order. rows: (N,) bool."""
    places = np.full(len(order), NOWHERE, order.dtype) if held is None else held.copy()
    added = np.flatnonzero(rows)
    places[added[np.argsort(order[added])]] = sizes[split] + np.arange(len(added))
    sizes[split] += len(added)
    return places
