"""The signal: the target logits that students learn from besides labels. They come from caches or nets, or there are none."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from pipeline.base import files
from pipeline.models.ensemble import Ensemble
from pipeline.models.modelfile import Kind


class Signal(Protocol):
    """Target logits for the examples of a batch.

    A signal may store logits, or inputs of its own: `shape` and `dtype` say what is kept in memory of one row in one view.
    """

    @property
    def kind(self) -> Kind:
        """The kind of a student that learns from it, as model.json names it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what is stored for a row, with 0 elements where nothing is stored."""

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of what is stored."""

    @property
    def ensemble(self) -> Ensemble:
        """How the logits of several teachers become one, and at which temperatures."""

    @property
    def digests(self) -> Mapping[str, str]:
        """For each teacher by name: the digest of its cache, or of the teacher itself."""

    @property
    def witnesses(self) -> Sequence[files.Witness]:
        """They tell later whether caches and teachers are still what was read."""

    def read(self, view: int, span: int, out: torch.Tensor) -> None:
        """Write what is stored for one span of the transfer set into `out`: (rows, *shape) of this dtype, on any device."""

    def targets(self, stored: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Target logits (B, layers, classes), from what is stored, (B, *shape), and the inputs of the batch."""


class NoTeacher:
    """The signal of students that learn from labels alone: it stores nothing."""

    kind: Kind = "baseline"
    shape = (0,)
    dtype = torch.float32
    ensemble = Ensemble("logits", (), (1.0,))
    digests: Mapping[str, str] = {}
    witnesses: Sequence[files.Witness] = ()

    def read(self, view: int, span: int, out: torch.Tensor) -> None:
        """There is nothing to read."""

    def targets(self, stored: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Empty: (B, 0)."""
        return stored
