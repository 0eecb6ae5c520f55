"""A source: rows of one form, read in chunks, in the same order every time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from pipeline.base.errors import InputError
from pipeline.base.spec import Spec
from pipeline.data.inputs.form import Form

CHUNK_ROWS, CHUNK_BYTES = 1024, 8 << 20  # that a chunk holds at most; a larger input is a chunk of its own

Label = int | str | None  # a number, the name of a class, or None where unknown
Input = bytes | InputError  # of a row; the error where the row is damaged so that it cannot be read
T = TypeVar("T")


@dataclass(frozen=True)
class Chunk:
    """Some rows of a source, in its order.

    ids: one a row; None if the source has none. They are UTF-8, and the same in every chunk: there or not.
    inputs: for `image` the bytes of an image file, for `array` its numbers, little-endian, in C order, for `text` UTF-8.
        Empty where only an index was asked for. An InputError stands for a row that is damaged, and says what is wrong.
    labels: one a row, None where unknown. All that are known are numbers, or all are names.
    place: what the row of a number, counted within the chunk, is called in messages: its file, its number or line there.
    """

    ids: Sequence[str] | None
    inputs: Sequence[Input]
    labels: Sequence[Label]
    place: Callable[[int], str]


@dataclass(frozen=True)
class SourcePart:
    """Some rows of a source, which follow each other. chunks: gives them, as Source.chunks all; it can be pickled."""

    rows: int
    chunks: Callable[[bool], Iterator[Chunk]]


@dataclass(frozen=True)
class Source:
    """Rows of one form. A function that returns one, without text and spec, is a source, built in or a plug-in.

    form: what every row is.
    chunks: all rows, in the same order at every call. True: with their inputs. False: ids and labels only, which is cheap.
        Raises InputError for a row or a file that is wrong; images are not decoded, and NaN is not looked for.
    files: what it reads, resolved; by these two splits are found to read the same. Empty if it is built in.
    size_bytes: about how much all inputs take.
    classes: names in label order, if it knows them.
    unlabelled: of a source without labels, what would hold them, such as "a column `label`", for a message; else empty.
    written: whether labels are texts, of which those that look like whole numbers are given as such, as in CSV.
    parts: all rows in order, for several processes, which read them at the same time; empty where one has to read them.
    empty: where rows of more classes would be, such as folders, but none are.
    text: as the user wrote it. spec: what it stands for.
    """

    form: Form
    chunks: Callable[[bool], Iterator[Chunk]]
    files: tuple[Path, ...]
    size_bytes: int
    classes: tuple[str, ...] | None = None
    unlabelled: str = ""
    written: bool = False
    empty: tuple[str, ...] = ()
    parts: tuple[SourcePart, ...] = ()
    text: str = ""
    spec: Spec | None = None

    @property
    def labelled(self) -> bool:
        """Whether it has labels; of some rows they may be unknown even then."""
        return not self.unlabelled


def chunked(rows: Iterable[tuple[str | None, Input | None, Label, T]], place: Callable[[T], str]) -> Iterator[Chunk]:
    """Chunks of single rows.

    rows: the id, or None if the source has none; the input, or None for an index; the label; and what `place` needs.
    """
    held: list[tuple[str | None, Input | None, Label, T]] = []
    size = 0
    for row in rows:
        added = len(row[1]) if isinstance(row[1], bytes) else 0
        if held and (len(held) == CHUNK_ROWS or size + added > CHUNK_BYTES):
            yield _chunk(held, place)
            held, size = [], 0
        held.append(row)
        size += added
    if held:
        yield _chunk(held, place)


def _chunk(held: list[tuple[str | None, Input | None, Label, T]], place: Callable[[T], str]) -> Chunk:
    ids, inputs, labels, where = zip(*held, strict=True)
    return Chunk(None if ids[0] is None else ids, () if inputs[0] is None else inputs, labels, lambda row: place(where[row]))


def pieces(sizes: Sequence[int] | np.ndarray) -> Iterator[slice]:
    """Slices of inputs of these sizes, in bytes, so that each fits a chunk."""
    ends, start = np.cumsum(sizes), 0
    while start < len(ends):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + CHUNK_BYTES, side="right")))
        yield slice(start, min(stop, start + CHUNK_ROWS))
        start = min(stop, start + CHUNK_ROWS)


def rows_that_fit(row_bytes: int) -> int:
    """How many rows of this size a chunk holds: at least one."""
    return min(CHUNK_ROWS, max(1, CHUNK_BYTES // max(1, row_bytes)))


def chain(parts: Sequence[SourcePart], with_inputs: bool) -> Iterator[Chunk]:
    """The chunks of all parts, in order."""
    for part in parts:
        yield from part.chunks(with_inputs)


def without_rows(what: str) -> InputError:
    """The error for a source that has none."""
    return InputError(what, expected="rows", found="none", fix="Give a source that has rows.")
