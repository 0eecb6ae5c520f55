"""The layout: how logits lie in a zarr v3 array, and the bytes of one span made by zarr's own codecs, in memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from zarr.codecs import Crc32cCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from pipeline.base.errors import InputError

ARRAYS = "logits.zarr"  # the folder in a cache that holds one array per split
SPLITS = ("transfer", "valid", "test")  # the splits that a cache covers
CHUNK_BYTES = 1 << 20
DTYPES = ("float32", "float16")


class Damaged(ValueError):
    """Stored bytes that disagree with their checksums."""


class Unholdable(ValueError):
    """A logit that the dtype cannot hold; row, column: where in the block, both from 0."""

    def __init__(self, row: int, column: int, value: float):
        super().__init__(f"row {row}, class {column}: {value}")
        self.row, self.column, self.value = row, column, value


@dataclass(frozen=True)
class Layout:
    """How logits lie on disk. span, chunk: rows of a shard and of one of its inner chunks, powers of two."""

    classes: int
    dtype: str
    span: int
    chunk: int

    @classmethod
    def plan(cls, classes: int, dtype: str, span: int) -> "Layout":
        """The inner chunk is the largest power of two of rows within 1 MB, at most a span.

        Raises InputError for a dtype other than float32 (exact) or float16 (half the size, 11 significant bits).
        """
        if dtype not in DTYPES:
            raise InputError("cache dtype", expected=" or ".join(DTYPES), found=repr(dtype), fix="Correct the setting `dtype`.")
        fitting = max(1, CHUNK_BYTES // (classes * np.dtype(dtype).itemsize))
        return cls(classes, dtype, span, min(span, 1 << (fitting.bit_length() - 1)))

    def to_dict(self) -> dict[str, int | str]:
        """What of the layout is part of a cache's identity."""
        return {"dtype": self.dtype, "span": self.span, "chunk": self.chunk, "codecs": "bytes(little), crc32c"}

    def shard_bytes(self) -> int:
        """Size of the file of one span: the chunks, a checksum and an index entry for each, the index's checksum."""
        return self.span * self.classes * np.dtype(self.dtype).itemsize + self.span // self.chunk * 20 + 4

    def rounded(self, logits: np.ndarray) -> np.ndarray:
        """(rows, classes) float32 to the layout's dtype.

        Raises Unholdable for NaN, infinity, and what rounds to infinity.
        """
        ends = np.array([logits.min(), logits.max()])  # NaN where there is one
        with np.errstate(over="ignore"):
            if not np.isfinite(ends.astype(self.dtype)).all():
                row, column = (int(place) for place in np.argwhere(~np.isfinite(logits.astype(self.dtype)))[0])
                raise Unholdable(row, column, float(logits[row, column]))
        return logits.astype(self.dtype, copy=False)

    def encode(self, block: np.ndarray) -> bytes:
        """(rows, classes) of the layout's dtype, rows at most a span, to the bytes of one shard."""
        if block.shape[1] != self.classes or not 0 < len(block) <= self.span:
            raise ValueError(f"expected at most {self.span} rows of {self.classes} logits, found {block.shape}")
        held: dict[str, Buffer] = {}
        self._array(held, (1, *block.shape))[0] = block
        return held["c/0/0/0"].to_bytes()

    def decode(self, data: bytes, rows: int, out: np.ndarray | None = None) -> np.ndarray:
        """The bytes of one shard to (rows, classes) of the layout's dtype, in `out` where that is given.

        What zarr does, without a task per chunk: half the time. Every chunk and the index are compared with their
        checksums; raises Damaged where they disagree.
        """
        out = np.empty((rows, self.classes), self.dtype) if out is None else out
        held = np.frombuffer(data, np.uint8)
        count, size = self.span // self.chunk, self.chunk * self.classes * np.dtype(self.dtype).itemsize
        index = _checked(held[len(held) - 16 * count - 4 :]).view("<u8").reshape(count, 2)  # offset and size of each chunk
        for start in range(0, rows, self.chunk):
            offset, stored = (int(value) for value in index[start // self.chunk])
            if stored != size + 4:
                raise Damaged(f"chunk of rows {start} and on: {stored} bytes, not {size + 4}")
            chunk = _checked(held[offset : offset + stored]).view(self._stored).reshape(self.chunk, self.classes)
            out[start : start + self.chunk] = chunk[: rows - start]
        return out

    def metadata(self, views: int, rows: int) -> bytes:
        """The bytes of an array's zarr.json."""
        held: dict[str, Buffer] = {}
        self._array(held, (views, rows, self.classes))
        return held["zarr.json"].to_bytes()

    @property
    def _stored(self) -> np.dtype:
        return np.dtype(self.dtype).newbyteorder("<")

    def _array(self, held: dict[str, Buffer], shape: tuple[int, ...]) -> zarr.Array[Any]:
        return zarr.create_array(
            MemoryStore(held),
            shape=shape,
            dtype=self.dtype,
            chunks=(1, self.chunk, self.classes),
            shards=(1, self.span, self.classes),
            filters=None,
            compressors=[Crc32cCodec()],  # logits hardly compress; without this a flipped bit reads as a wrong number
            fill_value=np.nan,
            zarr_format=3,
            dimension_names=("view", "row", "class"),
            config={"write_empty_chunks": True},
        )


def _checked(stored: np.ndarray) -> np.ndarray:
    """Bytes without the crc32c that follows them, compared with it."""
    found, expected = google_crc32c.value(stored[:-4]), int.from_bytes(stored[-4:].tobytes(), "little")
    if found != expected:
        raise Damaged(f"crc32c {found:08x}, not {expected:08x}")
    return stored[:-4]


def shard(array: Path, view: int, span: int) -> Path:
    """The file that holds one span of one view, below the folder of its array."""
    return array / "c" / str(view) / str(span) / "0"
