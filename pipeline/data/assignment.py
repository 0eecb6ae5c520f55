"""Assignment: which row of which source goes to which place of which split.

It is decided by labels, ids and a seed alone, before any input is read.
"""

from collections.abc import Iterator, Mapping, Sequence
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
class Places:
    """Where the rows of one source go.

    splits: (N,) int8, the split of each row, as its number in SPLITS. places: (N,) int32 or int64, its place there.
    also: by the name of another split, (N,) of the same: the places that some rows have there too, NOWHERE for the others.
    """

    splits: np.ndarray
    places: np.ndarray
    also: Mapping[str, np.ndarray]

    @classmethod
    def empty(cls, rows: int, dtype: type) -> "Places":
        """Places of rows that go nowhere yet."""
        return cls(np.full(rows, NOWHERE, np.int8), np.empty(rows, dtype), {})

    def of(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[str, np.ndarray]]:
        """Every split that some rows from start to stop go to, with the place of each row there, or NOWHERE."""
        splits, places = self.splits[start:stop], self.places[start:stop]
        for number, name in enumerate(SPLITS):
            found = np.where(splits == number, places, NOWHERE)
            if name in self.also:
                found = np.maximum(found, self.also[name][start:stop])  # a row has one place in a split
            if (found != NOWHERE).any():
                yield name, found

    def cut(self, start: int, stop: int) -> "Places":
        """Those of the rows from start to stop."""
        return Places(
            self.splits[start:stop], self.places[start:stop], {name: held[start:stop] for name, held in self.also.items()}
        )

    def with_also(self, split: str, places: np.ndarray) -> "Places":
        """The same, and these places of rows that the split does not have yet: (N,), NOWHERE for the others."""
        held = self.also.get(split, np.full_like(places, NOWHERE))
        return replace(self, also={**self.also, split: np.maximum(held, places)})


@dataclass(frozen=True)
class Assignment:
    """indices: of every source, without the labels that are not kept. places: of each index.

    sizes: rows of each split. twice: rows of the validation split whose ids the transfer set has as well, where they are
    folded: (digests of ids), whose inputs must be equal too.
    """

    indices: Sequence[Index]
    places: Sequence[Places]
    sizes: Mapping[str, int]
    twice: np.ndarray

    @classmethod
    def plan(
        cls,
        given: Mapping[str, Sequence[Index]],
        amounts: Mapping[str, float | int],
        *,
        seed: int,
        fold: bool,
        labels: int | None = None,
    ) -> "Assignment":
        """Carve splits out of the training rows, shuffle every split, and fold validation rows in.

        given: the sources of every split that has some. amounts: shares or counts of those that are carved out of train,
        in that order. labels: how many of what is left keep their label in each class. These are the training split; all
        that is left is the transfer set, of which nothing is given then. Raises InputError for an amount that leaves a split
        empty, and for a class with fewer rows than that.
        """
        indices = [index for name in SPLITS for index in given.get(name, ())]
        kind = np.int32 if 2 * sum(map(len, indices)) < 2**31 else np.int64
        places = [Places.empty(len(index), kind) for index in indices]
        sizes: dict[str, int] = {}

        def put(number: int, split: str, rows: np.ndarray) -> None:
            """Put rows of a source into a split, shuffled, after those that it has."""
            order = randomness.permutation(len(rows), seed, Use.SHUFFLE, SPLITS.index(split))
            before = sizes.get(split, 0)
            sizes[split] = before + len(rows)
            places[number].splits[rows] = SPLITS.index(split)
            places[number].places[rows[order]] = np.arange(before, sizes[split], dtype=kind)

        left = np.arange(len(indices[0]))  # train comes first, and has one source
        for split, amount in amounts.items():
            rest, carved = carve(indices[0].labels[left], amount, split, seed)
            put(0, split, left[carved])
            left = left[rest]
        if labels is None:
            put(0, "train", left)
        else:
            put(0, "transfer", left)
            kept = left[labelled(indices[0].labels[left], left, labels, indices[0].classes or (), seed)]
            there = np.full_like(places[0].places, NOWHERE)
            there[kept] = places[0].places[kept]
            put(0, "train", kept)
            places[0] = places[0].with_also("transfer", there)
            indices[0] = indices[0].without_labels(np.setdiff1d(left, kept, assume_unique=True))
        for number, index in enumerate(indices[1:], 1):
            put(number, index.role, np.arange(len(index)))
        twice = np.array([], indices[0].ids.dtype)
        if fold:
            source = next(number for number, found in enumerate(places) if (found.splits == SPLITS.index("valid")).any())
            own, ids = places[source], indices[source].ids
            rows = own.splits == SPLITS.index("valid")
            folded = own.with_also("train", _after(sizes, "train", own.places, rows))
            if "transfer" in sizes:
                there = np.concatenate([ids[:0], *(index.ids for index in given.get("transfer", ()))])
                both = np.isin(ids, there) & rows
                twice = ids[both]
                folded = folded.with_also("transfer", _after(sizes, "transfer", own.places, rows & ~both))
            places[source] = folded
        return cls(indices, places, sizes, twice)

    def without_ids(self) -> "Assignment":
        """The same without the digests of ids; see Index.without_ids."""
        return replace(self, indices=[index.without_ids() for index in self.indices])

    def split_of(self, number: int, row: int) -> str:
        """The split that a row of a source is in; of several, because it is folded or keeps its label, its own."""
        return SPLITS[self.places[number].splits[row]]

    def require_unique(self) -> None:
        """Raise InputError unless every id is unique within the transfer set, and within the other splits together."""
        for transfer in (False, True):
            numbers = [number for number, index in enumerate(self.indices) if (index.role == "transfer") == transfer]
            if not numbers:
                continue
            ids = np.concatenate([self.indices[number].ids for number in numbers])
            ids.sort()
            twice = ids[1:][ids[1:] == ids[:-1]]
            if len(twice):
                every = np.concatenate([self.indices[number].ids for number in numbers])
                ends = np.cumsum([len(self.indices[number]) for number in numbers])
                spots = []
                for row in np.flatnonzero(every == twice[0])[:2].tolist():
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


def labelled(labels: np.ndarray, rows: np.ndarray, count: int, classes: Sequence[str], seed: int) -> np.ndarray:
    """Which rows keep their labels: `count` of every class, by their places among these, ascending.

    labels: (n,) int64. rows: (n,) int64, their numbers in their source, which decide: with a larger count the same rows keep
    theirs, and others too. Raises InputError for a class with fewer rows.
    """
    sizes = np.bincount(labels, minlength=len(classes))
    if sizes.min() < count:
        expected = f"{count:,} rows or more of every class beside those of test and valid"
        found = f"{sizes.min():,} of class {classes[int(sizes.argmin())]}"
        fix = f"Set it to {sizes.min():,} at most, or add rows." if sizes.min() else "Add rows."
        raise InputError("labels", expected=expected, found=found, fix=fix)
    shuffled = randomness.order(rows, seed, Use.LABELS)
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]  # every class's rows together
    firsts = np.cumsum(sizes) - sizes
    return np.sort(by_class[(firsts[:, None] + np.arange(count)).ravel()])


def _after(sizes: dict[str, int], split: str, order: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The places that these rows of a source get when they are appended to a split in this order. rows: (N,) bool."""
    places = np.full(len(order), NOWHERE, order.dtype)
    added = np.flatnonzero(rows)
    places[added[np.argsort(order[added])]] = sizes[split] + np.arange(len(added))
    sizes[split] += len(added)
    return places
