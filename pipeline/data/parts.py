"""Parts: the Parquet files that the rows of a split lie in: one file, or some in a folder, each of whole spans but the last."""

import contextlib
import functools
import os
import struct
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.base import files, nearby
from pipeline.base.background import ahead
from pipeline.base.places import ObjectPlace, Pieces, Place

_MAGIC = b"PAR1"  # the end of a Parquet file, after the size of its footer
_FOOTERS = 16  # that are held at a time: one of a thousand row groups takes 3 MB
_READERS = 8  # parts whose labels are read at a time


@dataclass(frozen=True)
class Part:
    """A file of a split.

    name: in the folder of the split; empty where the split is that file. footer: the sha256 of its footer.
    """

    name: str
    rows: int
    footer: str


def footer_of(path: Place) -> bytes:
    """A Parquet file's footer: its metadata, their size, and the magic bytes. Raises ValueError if it has none."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 8))
        try:
            size, magic = struct.unpack("<I4s", file.read(8))
        except struct.error:
            size, magic = 0, b""
        if magic != _MAGIC or size + 8 > end:
            raise ValueError("a file without the footer of Parquet")
        file.seek(end - size - 8)
        return file.read()


def part_name(number: int) -> str:
    """What the file of a part is called."""
    return f"part-{number:05d}.parquet"


class Parts:
    """The rows of a split, read a span at a time. Whatever is damaged raises one of pyarrow's errors, OSError or ValueError.

    path: the file, or the folder. span: rows of a span. A few footers are held, and no file is kept open.
    """

    def __init__(self, path: Place, parts: Sequence[Part], span: int):
        self._path, self._parts, self._span = path, parts, span
        self._spans = [0, *accumulate(-(-part.rows // span) for part in parts)]  # before each part
        self._lock = threading.Lock()
        self._footer = functools.lru_cache(_FOOTERS)(self._read_footer)

    def place(self, span: int) -> Place:
        """The file of a span."""
        return self._place(bisect_right(self._spans, span) - 1)

    @contextlib.contextmanager
    def batches(self, span: int, columns: Sequence[str], digest: str) -> Iterator[Iterator[pa.RecordBatch]]:
        """The rows of a span, which are whole row groups. digest: of them.

        What a store gave is kept nearby, unless the block raises an error.
        """
        number = bisect_right(self._spans, span) - 1
        footer, groups = self._held_footer(number)
        wanted, path = groups[span - self._spans[number]], self._place(number)
        source: Any = path
        with contextlib.ExitStack() as stack:
            if isinstance(path, ObjectPlace):
                start, stop = _extent(footer, wanted)
                name = files.sha256(files.canonical_json([digest, self._parts[number].footer, start, stop]))
                fetch = partial(path.read_range, start, stop)
                source = _excerpt(stack.enter_context(nearby.sound(name, fetch)), start)
            file = stack.enter_context(pq.ParquetFile(source, metadata=footer))
            yield file.iter_batches(row_groups=wanted, columns=list(columns))

    def labels(self, column: str, missing: int) -> np.ndarray:
        """The whole numbers of a column of all rows, (N,) int64. missing: what stands for null."""
        jobs = (partial(self._numbers, number, column, missing) for number in range(len(self._parts)))
        return np.concatenate(list(ahead(jobs, depth=_READERS, workers=_READERS)))

    def _numbers(self, number: int, column: str, missing: int) -> np.ndarray:
        path, (footer, _) = self._place(number), self._held_footer(number)
        source: Any = path.open("rb").detach() if isinstance(path, ObjectPlace) else path  # unbuffered: a column lies in pieces
        with pq.ParquetFile(source, metadata=footer) as file:  # read_table imports ten times as much
            found: np.ndarray = file.read(columns=[column]).column(column).fill_null(missing).to_numpy().astype(np.int64)
        return found

    def _place(self, number: int) -> Place:
        name = self._parts[number].name
        return self._path / name if name else self._path

    def _held_footer(self, number: int) -> tuple[pq.FileMetaData, list[list[int]]]:
        with self._lock:  # it takes a while to parse
            return self._footer(number)

    def _read_footer(self, number: int) -> tuple[pq.FileMetaData, list[list[int]]]:
        """The footer of a part, and the row groups of each of its spans."""
        part, path = self._parts[number], self._place(number)

        def fetch() -> nearby.Data:
            data = footer_of(path)
            if files.sha256(data) != part.footer:
                raise ValueError("another footer")
            return data

        data = nearby.data(part.footer, fetch) if isinstance(path, ObjectPlace) else fetch()
        footer = pq.read_metadata(pa.BufferReader(data))
        groups: list[list[int]] = [[] for _ in range(-(-part.rows // self._span))]
        first_row = 0
        for group in range(footer.num_row_groups):
            if first_row < part.rows:
                groups[first_row // self._span].append(group)
            first_row += footer.row_group(group).num_rows
        return footer, groups


def _extent(footer: pq.FileMetaData, groups: Sequence[int]) -> tuple[int, int]:
    """Where in a file the bytes of row groups begin and end, which follow each other."""
    columns = [footer.row_group(group).column(number) for group in groups for number in range(footer.num_columns)]
    starts = [min(filter(None, (each.dictionary_page_offset, each.data_page_offset))) for each in columns]
    return min(starts), max(start + each.total_compressed_size for start, each in zip(starts, columns, strict=True))


def _excerpt(data: nearby.Data, start: int) -> Pieces:
    """Some bytes of a file, as if they were the whole of it. start: where in the file they begin."""
    held = memoryview(data)
    return Pieces(start + len(held), lambda first, stop: held[max(first - start, 0) : max(stop - start, 0)])
