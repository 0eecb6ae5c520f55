"""Inputs: the rows of a split as a net takes them, read span by span."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import Protocol

import numpy as np
import torch
from torch import nn

from pipeline.data.splits import Split
from pipeline.data.views import Policy
from pipeline.models.encoding import example
from pipeline.models.showing import texts_in_views


class Inputs(Protocol):
    """Rows in the order of a split."""

    @property
    def rows(self) -> int:
        """Number of rows."""

    @property
    def span(self) -> int:
        """Number of rows in a span; the last span may have fewer."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a row."""

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of a row."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes, in label order."""

    @property
    def replays(self) -> bool:
        """Whether `read` gives rows in views. Otherwise it gives them untouched, and views are made batch by batch."""

    def read(self, span: int, indices: np.ndarray | None, views: Sequence[np.ndarray]) -> Iterator[torch.Tensor]:
        """Rows of a span on the CPU, read once, for each of `views`: (n, *shape).

        indices: which rows, counted from its first one; None for all. views: one view for each row, (n,) int64.
        """

    def example(self, count: int) -> torch.Tensor:
        """Rows to try a net with, made up, on the CPU."""


@dataclass(frozen=True)
class _OfSplit:
    """What the rows of a split have in common, numbers or texts."""

    split: Split

    @property
    def rows(self) -> int:
        return self.split.rows

    @property
    def span(self) -> int:
        return self.split.span

    @property
    def classes(self) -> Sequence[str]:
        return self.split.classes


@dataclass(frozen=True)
class Numbers(_OfSplit):
    """Images or arrays, untouched."""

    replays: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.split.inputs.shape

    @property
    def dtype(self) -> torch.dtype:
        return torch.from_numpy(np.empty(0, self.split.inputs.dtype)).dtype

    def read(self, span: int, indices: np.ndarray | None, views: Sequence[np.ndarray]) -> Iterator[torch.Tensor]:
        return repeat(torch.from_numpy(self.split.read(span, indices)), len(views))

    def example(self, count: int) -> torch.Tensor:
        return example(None, self.split.inputs, count)


@dataclass(frozen=True)
class Encoded(_OfSplit):
    """Texts in views, as a net encodes them. net: None as long as none is chosen; a text then counts as its bytes."""

    policy: Policy
    net: nn.Module | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._example.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        return self._example.dtype

    @property
    def replays(self) -> bool:
        return self.policy.augments

    def read(self, span: int, indices: np.ndarray | None, views: Sequence[np.ndarray]) -> Iterator[torch.Tensor]:
        if self.net is None:
            raise ValueError("expected a net, which encodes the texts")
        texts = self.split.read(span, indices)
        rows = span * self.span + (np.arange(len(texts)) if indices is None else indices)
        for each in views:
            yield texts_in_views(self.net, texts, rows, each, self.policy)

    def example(self, count: int) -> torch.Tensor:
        return self._example[np.arange(count) % len(self._example)]

    @cached_property
    def _example(self) -> torch.Tensor:
        if self.net is None:
            return torch.zeros(2, 256, dtype=torch.uint8)
        return example(self.net, self.split.inputs, 2).cpu()


@dataclass(frozen=True)
class Computed(_OfSplit):
    """What a frozen net makes of the rows, which was computed once. values: (N, width) float32, on the CPU."""

    values: torch.Tensor
    replays: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        return self.values.dtype

    def read(self, span: int, indices: np.ndarray | None, views: Sequence[np.ndarray]) -> Iterator[torch.Tensor]:
        held = self.values[slice(*self.split.spans()[span])]
        return repeat(held if indices is None else held[torch.from_numpy(indices)], len(views))

    def example(self, count: int) -> torch.Tensor:
        return self.values[np.arange(count) % len(self.values)]


@dataclass(frozen=True)
class NoInputs:
    """No inputs, for training loops that keep those of the transfer set themselves, in the same order."""

    rows: int
    span: int
    classes: Sequence[str]
    shape: tuple[int, ...] = (0,)
    dtype: torch.dtype = torch.uint8
    replays: bool = False

    def read(self, span: int, indices: np.ndarray | None, views: Sequence[np.ndarray]) -> Iterator[torch.Tensor]:
        count = min(self.span, self.rows - span * self.span) if indices is None else len(indices)
        return repeat(self.example(count), len(views))

    def example(self, count: int) -> torch.Tensor:
        return torch.empty((count, *self.shape), dtype=self.dtype)


def inputs_of(split: Split, policy: Policy, net: nn.Module | None = None) -> Inputs:
    """The rows of a split, for a net."""
    return Encoded(split, policy, net) if split.inputs.kind == "text" else Numbers(split)
