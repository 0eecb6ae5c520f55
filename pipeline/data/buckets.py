"""Buckets: rows that arrive in one order and leave in another, on disk meanwhile, so that memory holds few of them.

A bucket is a file with the rows of a range of places; it is sorted when it is read. Several processes may fill the same ones,
each through Buckets of its own, and read different places of them.
"""

import fcntl
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.base import runtime
from pipeline.data.splitfile import Rows

BUCKET_BYTES = (4 << 20, 64 << 20)  # about, of a bucket: least and most
FILES = 1024  # buckets, as long as they are smaller than the most
HELD_BYTES = 8 << 20  # of rows of all splits, before they are written
_SCHEMA = pa.schema([("place", pa.int64()), ("id", pa.string()), ("stored", pa.binary()), ("label", pa.int64())])


class Buckets:
    """The rows of one split.

    places: how many it may have. size_bytes: about how large they are together. share: of HELD_BYTES, that may wait in memory.
    """

    def __init__(self, folder: Path, places: int, size_bytes: int, share: float = 1):
        self._folder, self._places = folder, places
        each = min(max(BUCKET_BYTES[0], size_bytes // FILES), BUCKET_BYTES[1])
        self._rows = max(1, -(-places // max(1, size_bytes // each)))  # places of a bucket
        self._count = -(-places // self._rows)
        self._most_bytes = int(HELD_BYTES * share)
        self._held: list[tuple[np.ndarray, Rows]] = []
        self._held_bytes = 0
        folder.mkdir(exist_ok=True)

    def add(self, places: np.ndarray, rows: Rows) -> None:
        """Take rows, with the place of each, (n,) int64."""
        if not len(places):
            return
        self._held.append((places, rows))
        self._held_bytes += int(rows.ends()[-1])
        if self._held_bytes > self._most_bytes:
            self.flush()

    def between(self, start: int, stop: int) -> Iterator[Rows]:
        """The rows whose places are from start to stop, in their order, a bucket at a time, once all are flushed.

        A bucket is removed when it was read, unless it has other places too.
        """
        for bucket in range(start // self._rows, -(-stop // self._rows)):
            path, first = self._folder / str(bucket), bucket * self._rows
            if path.exists():  # if not, all of its rows are damaged
                yield _sorted(path, start, stop)
                if start <= first and min(first + self._rows, self._places) <= stop:
                    path.unlink()
                runtime.release_memory()

    def flush(self) -> None:
        """Append the held rows to their buckets."""
        if not self._held:
            return
        places = np.concatenate([places for places, _ in self._held])
        rows = Rows.joined([rows for _, rows in self._held])
        self._held, self._held_bytes = [], 0
        order = np.argsort(places, kind="stable")
        places, rows = places[order], rows.take(order)
        columns = [pa.array(places, pa.int64()), rows.ids, rows.stored, pa.array(rows.labels)]
        batch = pa.record_batch(columns, schema=_SCHEMA)
        buckets = places // self._rows
        for start, stop in pairwise([0, *(np.flatnonzero(np.diff(buckets)) + 1).tolist(), len(buckets)]):
            with (self._folder / str(buckets[start])).open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
                file.write(batch.slice(start, stop - start).serialize())
        del rows, columns, batch
        runtime.release_memory()


def _sorted(path: Path, start: int, stop: int) -> Rows:
    """The rows of a bucket whose places are from start to stop, in their order."""
    batches = []
    with pa.memory_map(str(path)) as file:
        while file.tell() < file.size():
            batches.append(pa.ipc.read_record_batch(pa.ipc.read_message(file), _SCHEMA))
        batch = pa.concat_batches(batches)
    places, ids, stored, labels = batch.columns
    order = np.argsort(places.to_numpy())
    first, end = np.searchsorted(places.to_numpy(), (start, stop), sorter=order)
    return Rows(ids, stored, labels.to_numpy()).take(order[first:end])
