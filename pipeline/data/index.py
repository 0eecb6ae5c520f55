"""An index: the ids and labels of all rows of a source, read before their inputs, to decide which row goes where.

It takes a byte or two a row for labels, and until ids have been compared 16 for a digest of each.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.base import runtime
from pipeline.base.errors import InputError
from pipeline.data.sources.source import Chunk, Source, SourcePart, without_rows
from pipeline.data.splits import UNLABELLED, narrow

_DIGEST = "S16"  # of an id; equal digests mean equal ids


@dataclass(frozen=True)
class Index:
    """The rows of one source, in its order.

    role: train, valid, test or transfer. first: number of its first row, in ids that are made of role and number.
    ids: (N,) digests; empty after `without_ids`. parts: those of the source. labels: (N,) of the smallest signed type that
    holds them, in the order of `classes`, -1 where unknown. classes: None where labels are numbers without names.
    """

    source: Source
    role: str
    first: int
    ids: np.ndarray
    parts: tuple["IndexedPart", ...]
    labels: np.ndarray
    classes: tuple[str, ...] | None

    @classmethod
    def read(cls, source: Source, role: str, first: int = 0) -> "Index":
        """Read ids and labels, of one kind and within int64: see sources.table. Raises InputError for a source without rows."""
        digests = bytearray()  # it grows in place
        labels: list[np.ndarray] = []
        codes: dict[str, int] = {name: number for number, name in enumerate(source.classes or ())}
        known = len(codes)
        rows = 0
        pieces = source.chunks(False)
        for chunk in runtime.counting(pieces, f"reading the labels of {role}", lambda chunk: len(chunk.labels)):
            digests += id_digests(names(chunk, role, first + rows)).data
            values = chunk.labels
            for name in (value for value in values if isinstance(value, str)):
                if codes.setdefault(name, len(codes)) >= known > 0:
                    row = list(values).index(name)
                    expected = f"a class of {', '.join(source.classes or ())}"
                    where = place(chunk, row, names(chunk, role, first + rows)[row])
                    raise InputError(where, expected=expected, found=repr(name), fix="Correct the label.")
            coded = [UNLABELLED if value is None else codes[value] if isinstance(value, str) else value for value in values]
            labels.append(narrow(np.array(coded, np.int64)))
            rows += len(values)
        if not rows:
            raise without_rows(f"{role} source {source.text}")
        found_labels, classes = np.concatenate(labels), source.classes
        if codes and not known:
            classes = tuple(sorted(codes))
            order = np.array([classes.index(name) for name in codes], np.int64)
            found_labels = narrow(np.where(found_labels < 0, found_labels, order[found_labels]))
        ids = np.frombuffer(digests, _DIGEST)
        parts, start = [], 0
        for part in source.parts or (SourcePart(rows, source.chunks),):
            stop = start + part.rows
            digest = hashlib.sha256(ids[start:stop].tobytes()).digest()
            parts.append(IndexedPart(part.chunks, role, source.text, start, stop, first + start, digest))
            start = stop
        if start != rows:
            raise _changed(role, source.text)
        return cls(source, role, first, ids, tuple(parts), found_labels, classes)

    def __len__(self) -> int:
        return len(self.labels)

    def without_ids(self) -> "Index":
        """The same without the digests of ids, which take most of its memory."""
        return replace(self, ids=self.ids[:0].copy())

    def without_labels(self, rows: np.ndarray) -> "Index":
        """The same without the labels of these rows, (n,) int64."""
        labels = self.labels.copy()
        labels[rows] = UNLABELLED
        return replace(self, labels=labels)

    def place(self, row: int) -> str:
        """What a row is called in messages."""
        return place(*self._found(row))

    def name(self, row: int) -> str:
        """The id of a row."""
        return self._found(row)[2]

    def _found(self, row: int) -> tuple[Chunk, int, str]:
        """The chunk of a row, its number there, and its id. Reads the source once more."""
        start = 0
        for chunk in self.source.chunks(False):
            if row < start + len(chunk.labels):
                return chunk, row - start, names(chunk, self.role, self.first + start)[row - start]
            start += len(chunk.labels)
        raise _changed(self.role, self.source.text)

    def present(self) -> np.ndarray:
        """The labels that some row has, ascending."""
        return np.unique(self.labels[self.labels != UNLABELLED])

    def first_gap(self) -> int | None:
        """The first label from 0 that no row has though one has a larger label; None if there is none."""
        present = self.present()
        gaps = np.flatnonzero(present != np.arange(len(present)))
        return int(gaps[0]) if len(gaps) else None

    def named(self) -> "Index":
        """The same rows; where labels are numbers without names, each number as it is written is the name of a class."""
        numbers, codes = np.unique(self.labels, return_inverse=True)
        is_known = numbers != UNLABELLED
        if self.classes is not None or not is_known.any():
            return self
        order = np.where(is_known, np.cumsum(is_known) - 1, UNLABELLED)
        return replace(self, labels=narrow(order[codes]), classes=tuple(map(str, numbers[is_known].tolist())))

    def renamed(self, classes: tuple[str, ...]) -> "Index":
        """The same rows with labels in the order of other class names, which must hold all that these rows have."""
        if self.classes in (None, classes):
            return replace(self, classes=classes)
        own = self.classes or ()
        order = np.array([classes.index(name) if name in classes else len(classes) for name in own], np.int64)
        labels = np.where(self.labels < 0, self.labels, order[np.clip(self.labels, 0, len(own) - 1)])
        return replace(self, labels=narrow(labels), classes=classes)


@dataclass(frozen=True)
class IndexedPart:
    """Rows of a source that are read by themselves, whoever reads the others.

    chunks: gives them, see source.SourcePart. role: that of the index. source: its text. start, stop: their numbers in the
    source. first: number of the first one, in ids. digest: of the digests of their ids.
    """

    chunks: Callable[[bool], Iterator[Chunk]]
    role: str
    source: str
    start: int
    stop: int
    first: int
    digest: bytes

    def read(self) -> Iterator[tuple[int, Chunk, Sequence[str]]]:
        """Each chunk with its inputs, after the number of its first row, counted from `start`, and before its ids.

        Raises InputError where the source has other rows than when the index was made.
        """
        count, digest = 0, hashlib.sha256()
        for chunk in self.chunks(True):
            ids = names(chunk, self.role, self.first + count)
            digest.update(id_digests(ids).tobytes())
            if self.start + count + len(ids) > self.stop:
                raise _changed(self.role, self.source)
            yield count, chunk, ids
            count += len(ids)
        if self.start + count != self.stop or digest.digest() != self.digest:
            raise _changed(self.role, self.source)


def _changed(role: str, source: str) -> InputError:
    fix = "Run this again when it is left alone."
    return InputError(f"{role} source {source}", expected="the same rows all the time", found="others", fix=fix)


def names(chunk: Chunk, role: str, first: int) -> Sequence[str]:
    """The ids of a chunk; where it has none they are made: train-000007. first: the number of its first row."""
    if chunk.ids is not None:
        return chunk.ids
    return [f"{role}-{first + row:06d}" for row in range(max(len(chunk.labels), len(chunk.inputs)))]


def place(chunk: Chunk, row: int, name: str) -> str:
    """What a row of a chunk is called in messages. name: its id."""
    where = chunk.place(row)
    return where if name in where else f"{where}, id {name}"


def id_digests(ids: Sequence[str]) -> np.ndarray:
    """A digest of 16 bytes for each id."""
    joined = b"".join(hashlib.blake2b(each.encode(), digest_size=16).digest() for each in ids)
    return np.frombuffer(joined, _DIGEST)
