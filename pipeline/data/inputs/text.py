"""Texts: strings, stored as they are. A net for text says itself how they become numbers."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from pipeline.data.inputs.form import Form
from pipeline.data.inputs.resizing import Resizing


@dataclass(frozen=True)
class Texts:
    """A split of texts: they have nothing else in common."""

    kind: Literal["text"] = "text"

    COLUMN: ClassVar[str] = "text"

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(object)

    def row_bytes(self, stored: float) -> int:
        return 1 << max(0, round(stored) - 1).bit_length()  # a power of two, which a few rows more do not change

    @staticmethod
    def examine(form: Form, stored: bytes, where: str) -> Hashable:
        """Nothing: sources refuse what is no UTF-8."""
        return None

    @classmethod
    def settle(cls, form: Form, seen: Mapping[Hashable, str], resizing: Resizing) -> "Texts":
        return cls()

    @staticmethod
    def column(stored: pa.Array) -> pa.Array:
        return stored.cast(pa.string())

    @staticmethod
    def stored(column: pa.Array) -> list[bytes | None]:
        found: list[bytes | None] = column.cast(pa.binary()).to_pylist()
        return found

    def read(self, stored: Sequence[bytes], place: Callable[[int], str]) -> np.ndarray:
        texts = np.empty(len(stored), object)
        texts[:] = [text.decode() for text in stored]
        return texts
