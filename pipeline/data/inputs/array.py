"""Arrays: numbers of one fixed shape and dtype, stored as they are in memory, little-endian."""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from pipeline.base.errors import InputError
from pipeline.data.inputs.form import Form
from pipeline.data.inputs.resizing import Resizing

DTYPES = ("float32", "float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


@dataclass(frozen=True)
class Arrays:
    """The facts of a split of arrays. array_dtype: one of DTYPES. shape: of one row."""

    array_dtype: str
    shape: tuple[int, ...]
    kind: Literal["array"] = "array"

    COLUMN: ClassVar[str] = "array"

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.array_dtype)

    def row_bytes(self, stored: float) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @staticmethod
    def examine(form: Form, stored: bytes, where: str) -> Hashable:
        """Nothing; raises InputError for NaN and infinity."""
        numbers = np.frombuffer(stored, np.dtype(form.dtype).newbyteorder("<"))
        if len(numbers) != math.prod(form.shape):
            found = f"{len(numbers):,} numbers"
            raise InputError(where, expected=f"{form}", found=found, fix="Correct the source.")
        if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
            first = int(np.flatnonzero(~np.isfinite(numbers))[0])
            index = [int(each) for each in np.unravel_index(first, form.shape)] if form.shape else []
            fix = "Correct the row, or leave it out."
            raise InputError(where, expected="finite numbers", found=f"{numbers[first]} at {index}", fix=fix)
        return None

    @classmethod
    def settle(cls, form: Form, seen: Iterable[Hashable], resizing: Resizing) -> "Arrays":
        if form.dtype not in DTYPES:
            expected, fix = " or ".join(DTYPES), "Convert the numbers."
            raise InputError("arrays, dtype", expected=expected, found=form.dtype, fix=fix)
        return cls(form.dtype, form.shape)

    @staticmethod
    def column(stored: Sequence[bytes]) -> pa.Array:
        return pa.array(stored, pa.binary())

    @staticmethod
    def stored(column: pa.Array) -> list[bytes | None]:
        found: list[bytes | None] = column.to_pylist()
        return found

    def read(self, stored: Sequence[bytes], place: Callable[[int], str]) -> np.ndarray:
        rows = np.frombuffer(b"".join(stored), self.dtype.newbyteorder("<")).reshape(len(stored), *self.shape)
        return rows.astype(self.dtype)
