"""The layout: how a zarr v3 array stores logits; zarr's own codecs encode each span in memory."""

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
CHUNKS = 16  # of a span, at least: the last span of a split is filled up to a whole chunk
DTYPES = ("float32", "float16")


class Damaged(ValueError):
    """Stored bytes that disagree with their checksums."""


class Unholdable(ValueError):
    """A logit that the dtype cannot hold. row, column: its indices in the block."""

    def __init__(self, row: int, column: int, value: float):
        super().__init__(f"row {row}, class {column}: {value}")
        self.row, self.column, self.value = row, column, value


@dataclass(frozen=True)
class Layout:
    """How logits are stored. span, chunk: rows of a shard and of each of its inner chunks, powers of two."""

    classes: int
    dtype: str
    span: int
    chunk: int

    @classmethod
    def plan(cls, classes: int, dtype: str, span: int) -> "Layout":
        """Choose the inner chunk: the largest power of two of rows within 1 MB, at most a sixteenth of a span.

        Raises InputError for a dtype other than float32 (exact) or float16 (half the size, 11 significant bits).
        """
        if dtype not in DTYPES:
            raise InputError("cache dtype", expected=" or ".join(DTYPES), found=repr(dtype), fix="Correct the setting `dtype`.")
        fitting = max(1, CHUNK_BYTES // (classes * np.dtype(dtype).itemsize))
        return cls(classes, dtype, span, min(max(1, span // CHUNKS), 1 << (fitting.bit_length() - 1)))

    def to_dict(self) -> dict[str, int | str]:
        """The part of the layout that belongs to a cache's identity."""
        return {"dtype": self.dtype, "span": self.span, "chunk": self.chunk, "codecs": "bytes(little), crc32c"}

    def shard_bytes(self, rows: int) -> int:
        """Bytes of the file of a span with so many rows: whole chunks and their checksums, and the index with its own."""
        chunks = -(-rows // self.chunk)
        return chunks * (self.chunk * self.classes * np.dtype(self.dtype).itemsize + 4) + self.span // self.chunk * 16 + 4

    def rounded(self, logits: np.ndarray) -> np.ndarray:
        """(rows, classes) float32 to the layout's dtype; raises Unholdable for NaN, infinity, and what rounds to infinity."""
        ends = np.array([logits.min(), logits.max()])  # both are NaN if any logit is
        with np.errstate(over="ignore"):
            if not np.isfinite(ends.astype(self.dtype)).all():
                row, column = map(int, np.argwhere(~np.isfinite(logits.astype(self.dtype)))[0])
                raise Unholdable(row, column, float(logits[row, column]))
        return logits.astype(self.dtype, copy=False)

    def encode(self, block: np.ndarray) -> bytes:
        """The bytes of one shard. block: (rows, classes) of the layout's dtype, at most a span of rows."""
        if block.shape[1] != self.classes or not 0 < len(block) <= self.span:
            raise ValueError(f"expected at most {self.span} rows of {self.classes} logits, found {block.shape}")
        held: dict[str, Buffer] = {}
        self._array(held, (1, *block.shape))[0] = block
        return held["c/0/0/0"].to_bytes()

    def decode(self, data: bytes, rows: int, out: np.ndarray | None = None) -> np.ndarray:
        """The logits in the bytes of one shard: (rows, classes) of the layout's dtype, in `out` if given.

        It takes half of zarr's time, because it makes no task per chunk. Raises Damaged unless all checksums match.
        """
        out = np.empty((rows, self.classes), self.dtype) if out is None else out
        held = np.frombuffer(data, np.uint8)
        stored = np.dtype(self.dtype).newbyteorder("<")
        count, size = self.span // self.chunk, self.chunk * self.classes * stored.itemsize
        index = _checked(held[len(held) - 16 * count - 4 :]).view("<u8").reshape(count, 2)  # offset and size of each chunk
        for start in range(0, rows, self.chunk):
            offset, length = map(int, index[start // self.chunk])
            if length != size + 4:
                raise Damaged(f"chunk from row {start}: {length} bytes, not {size + 4}")
            chunk = _checked(held[offset : offset + length]).view(stored).reshape(self.chunk, self.classes)
            out[start : start + self.chunk] = chunk[: rows - start]
        return out

    def metadata(self, views: int, rows: int) -> bytes:
        """The bytes of an array's zarr.json."""
        held: dict[str, Buffer] = {}
        self._array(held, (views, rows, self.classes))
        return held["zarr.json"].to_bytes()

    def _array(self, held: dict[str, Buffer], shape: tuple[int, ...]) -> zarr.Array[Any]:
        return zarr.create_array(
            MemoryStore(held),
            shape=shape,
            dtype=self.dtype,
            chunks=(1, self.chunk, self.classes),
            shards=(1, self.span, self.classes),
            filters=None,
            compressors=[Crc32cCodec()],  # logits hardly compress; without a checksum a flipped bit would go unnoticed
            fill_value=np.nan,
            zarr_format=3,
            dimension_names=("view", "row", "class"),
            config={"write_empty_chunks": True},
        )


def _checked(stored: np.ndarray) -> np.ndarray:
    """Bytes without the crc32c at their end; raises Damaged unless it matches."""
    found, expected = google_crc32c.value(stored[:-4]), int.from_bytes(stored[-4:].tobytes(), "little")
    if found != expected:
        raise Damaged(f"crc32c {found:08x}, not {expected:08x}")
    return stored[:-4]


def shard(array: Path, view: int, span: int) -> Path:
    """The file of one span of one view in an array's folder."""
    return array / "c" / str(view) / str(span) / "0"
