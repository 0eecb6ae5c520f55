"""Arrays: numbers of one fixed shape and dtype, stored as they are in memory, little-endian."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from pipeline.base.errors import InputError
from pipeline.data.inputs.form import Form
from pipeline.data.inputs.resizing import Resizing

_WIDER = {"uint16": "int32", "uint32": "int64", "uint64": "int64"}  # what torch can compute with instead


@dataclass(frozen=True)
class Arrays:
    """The facts of a split of arrays. array_dtype: as they are stored. shape: of one row."""

    array_dtype: str
    shape: tuple[int, ...]
    kind: Literal["array"] = "array"

    COLUMN: ClassVar[str] = "array"

    @property
    def dtype(self) -> np.dtype:
        """Of what is read: as it is stored, but a signed type that is wider for unsigned ones of more than 8 bits."""
        return np.dtype(_WIDER.get(self.array_dtype, self.array_dtype))

    def row_bytes(self, stored: float) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @staticmethod
    def examine(form: Form, stored: bytes, where: str) -> Hashable:
        """Nothing; raises InputError for NaN, infinity, and integers that int64 does not hold."""
        dtype, shape = np.dtype(form.dtype).newbyteorder("<"), form.shape or ()
        if len(stored) != (size := math.prod(shape) * dtype.itemsize):
            found = f"{len(stored):,} bytes"
            raise InputError(where, expected=f"{form}, in {size:,} bytes", found=found, fix="Correct the source.")
        numbers = np.frombuffer(stored, dtype)
        if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
            first = int(np.flatnonzero(~np.isfinite(numbers))[0])
            index = [int(each) for each in np.unravel_index(first, shape)]
            fix = "Correct the row, or leave it out."
            raise InputError(where, expected="finite numbers", found=f"{numbers[first]} at {index}", fix=fix)
        if form.dtype == "uint64" and numbers.size and int(numbers.max()) > np.iinfo(np.int64).max:
            expected, fix = f"numbers up to {np.iinfo(np.int64).max}", "Correct the row, or leave it out."
            raise InputError(where, expected=expected, found=str(numbers.max()), fix=fix)
        return None

    @classmethod
    def settle(cls, form: Form, seen: Mapping[Hashable, str], resizing: Resizing) -> "Arrays":
        return cls(form.dtype or "", form.shape or ())

    @staticmethod
    def column(stored: pa.Array) -> pa.Array:
        return stored

    @staticmethod
    def stored(column: pa.Array) -> list[bytes | None]:
        found: list[bytes | None] = column.to_pylist()
        return found

    def read(self, stored: Sequence[bytes], place: Callable[[int], str]) -> np.ndarray:
        rows = np.frombuffer(b"".join(stored), np.dtype(self.array_dtype).newbyteorder("<")).reshape(len(stored), *self.shape)
        return rows.astype(self.dtype)
