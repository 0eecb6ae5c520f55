"""Images: files of PNG, JPEG or WebP, stored as they came, and decoded to pixels of one size when they are read."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from pipeline.base import runtime
from pipeline.base.errors import InputError
from pipeline.data import pixels
from pipeline.data.inputs.form import Form
from pipeline.data.inputs.resizing import Resizing

_LARGE = 4096  # bytes of a file, on average: threads get into each other's way with smaller ones, which take 10 µs
_PART = 32  # rows that a thread decodes at a time
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # as Hugging Face datasets write it


@dataclass(frozen=True)
class Images:
    """The facts of a split of images. mode: L or RGB. shape: (channels, height, width). decoder: name and version.

    fit: how images of other sizes are brought to this one, see resizing.py; None where all have it.
    """

    mode: str
    shape: tuple[int, int, int]
    decoder: str = pixels.DECODER
    fit: str | None = None
    kind: Literal["image"] = "image"

    COLUMN: ClassVar[str] = "image"

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8)

    def row_bytes(self, stored: float) -> int:
        return math.prod(self.shape)

    @staticmethod
    def examine(form: Form, stored: bytes, where: str) -> Hashable:
        """(mode, height, width); the image is decoded, to prove that it is sound."""
        return pixels.peek(stored, where)

    @classmethod
    def settle(cls, form: Form, seen: Mapping[Any, str], resizing: Resizing) -> "Images":
        """RGB if any image is in colour. Raises InputError for images of several sizes that are not to be resized."""
        mode = "RGB" if any(mode == "RGB" for mode, _, _ in seen) else "L"
        (_, *first), *others = seen
        for other in others:
            if resizing.size is None and list(other[1:]) != first:
                wanted, found = (f"{height}×{width} pixels" for height, width in (first, other[1:]))
                expected = f"{wanted} as in {next(iter(seen.values()))}"
                raise InputError(seen[other], expected=expected, found=found, fix="Set `size`, and how images `fit` it.")
        (height, width), fit = (first, None) if resizing.size is None else (resizing.size, resizing.fit)
        return cls(mode, (pixels.CHANNELS[mode], height, width), fit=fit)

    @staticmethod
    def column(stored: pa.Array) -> pa.Array:
        return pa.StructArray.from_arrays([stored, pa.nulls(len(stored), pa.string())], fields=list(_IMAGE))

    @staticmethod
    def stored(column: pa.Array) -> list[bytes | None]:
        found: list[bytes | None] = column.field("bytes").to_pylist()
        return found

    def read(self, stored: Sequence[bytes], place: Callable[[int], str]) -> np.ndarray:
        """Pixels: (n, channels, height, width) uint8. Files that are large enough are decoded by several threads."""
        channels, height, width = self.shape
        shown = np.empty((len(stored), height, width, channels), np.uint8)

        def decode(rows: range) -> None:
            for row in rows:
                try:
                    shown[row] = pixels.decode(stored[row], self.mode, "an image", (height, width), self.fit)
                except InputError as error:  # it was sound when it was ingested
                    raise InputError(place(row), expected=error.expected, found=error.found, fix=error.fix) from error

        parts = [range(start, min(start + _PART, len(stored))) for start in range(0, len(stored), _PART)]
        if sum(map(len, stored)) < _LARGE * len(stored) or len(parts) < 2:
            decode(range(len(stored)))
        else:
            with ThreadPoolExecutor(runtime.cores()) as pool:
                list(pool.map(decode, parts))
        return shown.transpose(0, 3, 1, 2)
