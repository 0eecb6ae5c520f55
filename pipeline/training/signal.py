"""The signal: what teachers say of rows, which students learn from besides labels. Out of caches, from nets, or none at all."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from pipeline.base import files
from pipeline.models.modelfile import Kind


class Signal(Protocol):
    """Target logits for the rows of a batch.

    Some of it may be stored: `shape` and `dtype` are those of what is kept in memory of a row in one view.
    """

    @property
    def kind(self) -> Kind:
        """What a student that learns from it is called in model.json."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is stored of a row; of no elements where nothing is."""

    @property
    def dtype(self) -> torch.dtype:
        """Of what is stored."""

    @property
    def weights(self) -> tuple[float, ...]:
        """One per teacher, summing to 1."""

    @property
    def digests(self) -> Mapping[str, str]:
        """Of each teacher by name: the digest of its cache, or of its weights."""

    @property
    def witnesses(self) -> Sequence[files.Witness]:
        """Tell later whether all of it is still what was read."""

    def read(self, view: int, span: int, out: torch.Tensor) -> None:
        """Put what is stored of one span of the transfer set into `out`: (rows, *shape) of this dtype, on any device."""

    def targets(self, stored: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        """Target logits (B, layers, classes) of rows of which this is stored, (B, *shape), and seen, (B, C, H, W) uint8."""

    def layer(self, temperature: float) -> int:
        """Which layer of the target logits is for a temperature."""


class NoTeacher:
    """Labels alone: nothing is stored, and nothing said."""

    kind: Kind = "baseline"
    shape = (0,)
    dtype = torch.float32
    weights = ()
    digests: Mapping[str, str] = {}
    witnesses: Sequence[files.Witness] = ()

    def read(self, view: int, span: int, out: torch.Tensor) -> None:
        """There is nothing to read."""

    def targets(self, stored: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 0)."""
        return stored

    def layer(self, temperature: float) -> int:
        """Of no use where nothing is said."""
        return 0
