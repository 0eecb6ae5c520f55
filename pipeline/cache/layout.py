"""The layout: how a zarr v3 array stores logits, hidden states or a feature; zarr's own codecs encode each span in memory."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from zarr.codecs import Crc32cCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

SPLITS = ("transfer", "valid", "test")  # the splits that a cache covers
CHUNK_BYTES = 1 << 20
CHUNKS = 16  # of a span, at least: the last span of a split is filled up to a whole chunk
ENDING = ".zarr"  # of the folder in a cache that holds an array for each split, named after what they are of


class Damaged(ValueError):
    """Stored bytes that disagree with their checksums."""


class Unholdable(ValueError):
    """A number that the dtype cannot hold. row, column: its indices in the block, of all numbers of a row. array: its name."""

    array = "logits"

    def __init__(self, row: int, column: int, value: float):
        super().__init__(f"row {row}, number {column}: {value}")
        self.row, self.column, self.value = row, column, value


@dataclass(frozen=True)
class Layout:
    """How an array is stored. shape: of a row. span, chunk: rows of a shard and of each of its inner chunks, powers of two.

    axes: what the axes of a row are called in zarr's metadata.
    """

    shape: tuple[int, ...]
    dtype: str
    span: int
    chunk: int
    axes: tuple[str | None, ...] = ("class",)

    @classmethod
    def plan(cls, shape: tuple[int, ...], dtype: str, span: int, axes: tuple[str | None, ...] = ("class",)) -> "Layout":
        """Choose the inner chunk: the largest power of two of rows within 1 MB, at most a sixteenth of a span."""
        fitting = max(1, CHUNK_BYTES // (math.prod(shape) * np.dtype(dtype).itemsize))
        return cls(shape, dtype, span, min(max(1, span // CHUNKS), 1 << (fitting.bit_length() - 1)), axes)

    def to_dict(self) -> dict[str, int | str]:
        """The part of the layout that belongs to a cache's identity."""
        return {"dtype": self.dtype, "span": self.span, "chunk": self.chunk, "codecs": "bytes(little), crc32c"}

    @property
    def row_bytes(self) -> int:
        """Bytes of the numbers of a row."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def shard_bytes(self, rows: int) -> int:
        """Bytes of the file of a span with so many rows: whole chunks and their checksums, and the index with its own."""
        chunks = -(-rows // self.chunk)
        return chunks * (self.chunk * self.row_bytes + 4) + self.span // self.chunk * 16 + 4

    def rounded(self, block: np.ndarray) -> np.ndarray:
        """Floats (rows, *shape) to the layout's dtype; raises Unholdable for NaN, infinity, and what rounds to infinity."""
        with np.errstate(over="ignore"):
            if not np.isfinite(np.array(ends(block)).astype(self.dtype)).all():
                flat = block.reshape(len(block), -1)
                row, column = map(int, np.argwhere(~np.isfinite(flat.astype(self.dtype)))[0])
                raise Unholdable(row, column, float(flat[row, column]))
        return block.astype(self.dtype, copy=False)

    def rounding(self, block: np.ndarray) -> np.ndarray:
        """By how much each stored number can be off because it was rounded to a float: of the shape of the block, float32."""
        size = np.abs(block.astype(np.float32, copy=False))
        # half of the last of 11 significant bits; and of the smallest number that float16 has
        return size * np.float32(2.0**-11) + np.float32(2.0**-25) if self.dtype == "float16" else np.zeros_like(size)

    def encode(self, block: np.ndarray) -> bytes:
        """The bytes of one shard. block: (rows, *shape) of the layout's dtype, at most a span of rows."""
        if block.shape[1:] != self.shape or not 0 < len(block) <= self.span:
            raise ValueError(f"expected at most {self.span} rows of {self.shape} numbers, found {block.shape}")
        held: dict[str, Buffer] = {}
        self._array(held, (1, *block.shape))[0] = block
        return held[str(self.shard(0, 0))].to_bytes()

    def decode(self, data: bytes | memoryview, rows: int, out: np.ndarray | None = None) -> np.ndarray:
        """The numbers in the bytes of one shard: (rows, *shape) of the layout's dtype, in `out` if given.

        It takes half of zarr's time, because it makes no task per chunk. Raises Damaged unless all checksums match.
        """
        out = np.empty((rows, *self.shape), self.dtype) if out is None else out
        held = np.frombuffer(data, np.uint8)
        stored = np.dtype(self.dtype).newbyteorder("<")
        count, size = self.span // self.chunk, self.chunk * self.row_bytes
        index = _checked(held[len(held) - 16 * count - 4 :]).view("<u8").reshape(count, 2)  # offset and size of each chunk
        for start in range(0, rows, self.chunk):
            offset, length = map(int, index[start // self.chunk])
            if length != size + 4:
                raise Damaged(f"chunk from row {start}: {length} bytes, not {size + 4}")
            chunk = _checked(held[offset : offset + length]).view(stored).reshape(self.chunk, *self.shape)
            out[start : start + self.chunk] = chunk[: rows - start]
        return out

    def metadata(self, views: int, rows: int) -> bytes:
        """The bytes of an array's zarr.json."""
        held: dict[str, Buffer] = {}
        self._array(held, (views, rows, *self.shape))
        return held["zarr.json"].to_bytes()

    def shard(self, view: int, span: int) -> Path:
        """The file of one span of one view, in an array's folder."""
        return Path("c", str(view), str(span), *("0" for _ in self.shape))

    def _array(self, held: dict[str, Buffer], shape: tuple[int, ...]) -> zarr.Array[Any]:
        return zarr.create_array(
            MemoryStore(held),
            shape=shape,
            dtype=self.dtype,
            chunks=(1, self.chunk, *self.shape),
            shards=(1, self.span, *self.shape),
            filters=None,
            compressors=[Crc32cCodec()],  # logits hardly compress; without a checksum a flipped bit would go unnoticed
            fill_value=0 if self.dtype == "int8" else np.nan,
            zarr_format=3,
            dimension_names=("view", "row", *self.axes),
            config={"write_empty_chunks": True},
        )


def ends(block: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest number; one of them at least is NaN if any number is.

    Of float16 numpy compares one number after the other, which takes far longer than to write them. Read as integers they have
    the order of their sizes, and the sign before that.
    """
    if block.dtype != np.float16:
        return float(block.min()), float(block.max())
    signed, unsigned = block.view(np.int16), block.view(np.uint16)
    low = unsigned.max() if signed.min() < 0 else unsigned.min()
    high = signed.max() if signed.max() >= 0 else signed.min()
    found = np.array([int(low), int(high) & 0xFFFF], np.uint16).view(np.float16)
    return float(found[0]), float(found[1])


def require_finite(block: np.ndarray) -> None:
    """Raise Unholdable, which names the first, for NaN and infinity among floats (rows, numbers)."""
    if not np.isfinite(ends(block)).all():
        row, column = map(int, np.argwhere(~np.isfinite(block))[0])
        raise Unholdable(row, column, float(block[row, column]))


def _checked(stored: np.ndarray) -> np.ndarray:
    """Bytes without the crc32c at their end; raises Damaged unless it matches."""
    found, expected = google_crc32c.value(stored[:-4]), int.from_bytes(stored[-4:].tobytes(), "little")
    if found != expected:
        raise Damaged(f"crc32c {found:08x}, not {expected:08x}")
    return stored[:-4]
