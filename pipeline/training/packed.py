"""Packed: several tensors of a row side by side in its bytes, so that they are read, shuffled and cut into batches as one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

ALIGNED = 8  # bytes: each tensor begins at a multiple of them, so that it is read where it lies


@dataclass(frozen=True)
class Field:
    """What each row has of one tensor: its shape and dtype."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, values: torch.Tensor) -> "Field":
        """That of these rows: (n, *shape)."""
        return cls(tuple(values.shape[1:]), values.dtype)

    @property
    def size(self) -> int:
        """Bytes of a row."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Packed:
    """How rows of several tensors are stored: as (n, size) uint8."""

    fields: Sequence[Field]

    @property
    def size(self) -> int:
        """Bytes of a row."""
        return self._starts[-1]

    def split(self, stored: torch.Tensor) -> list[torch.Tensor]:
        """The tensors in (n, size) uint8 whose rows lie one behind the other, each (n, *shape): they share its memory."""
        parts = (stored[:, start : start + each.size] for start, each in zip(self._starts, self.fields, strict=False))
        return [part.view(each.dtype).view(len(part), *each.shape) for part, each in zip(parts, self.fields, strict=True)]

    @property
    def _starts(self) -> list[int]:
        """Where each field begins, and where the last one ends."""
        return list(accumulate((-(-each.size // ALIGNED) * ALIGNED for each in self.fields), initial=0))
