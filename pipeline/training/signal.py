"""The signal: what students learn from besides labels: target logits, and features of teachers.

It comes from caches or nets, or there is none.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from pipeline.base import files
from pipeline.models.ensemble import Ensemble
from pipeline.models.modelfile import Kind


class Signal(Protocol):
    """Target logits, and features, for the examples of a batch.

    A signal may store these, or inputs of its own: `shape` and `dtype` say what is kept in memory of one row in one view.
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
    def feature_bytes(self) -> int:
        """How many of the stored bytes are those of features."""

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

    def features(self, stored: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Features of the teachers, (B, …) each, from what is stored, (B, *shape)."""


class NoTeacher:
    """The signal of students that learn from labels alone: it stores nothing."""

    kind: Kind = "baseline"
    shape = (0,)
    dtype = torch.float32
    feature_bytes = 0
    ensemble = Ensemble("logits", (), (1.0,))
    digests: Mapping[str, str] = {}
    witnesses: Sequence[files.Witness] = ()

    def read(self, view: int, span: int, out: torch.Tensor) -> None:
        """There is nothing to read."""

    def targets(self, stored: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Empty: (B, 0)."""
        return stored

    def features(self, stored: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """None."""
        return ()
