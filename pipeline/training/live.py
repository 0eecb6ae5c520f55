"""Live: the teachers in the training loop, as a reference for what caches give, and for what they save."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.base import files
from pipeline.base.errors import InputError
from pipeline.data.splits import Split
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.ensemble import combine, normalised


@dataclass(frozen=True)
class Live:
    """Teachers that are asked about every batch. temperature, rule, weights: see `ensemble.combine`.

    digests: of each one's weights, by name. witnesses: tell later whether the teachers are still these.
    """

    nets: Sequence[torch.nn.Module]
    temperature: float
    rule: str
    weights: Sequence[float]
    digests: Mapping[str, str]
    witnesses: Sequence[files.Witness]

    @classmethod
    def open(
        cls,
        teachers: Mapping[str, Path],
        split: Split,
        temperature: float,
        rule: str,
        weights: Sequence[float] | None,
        device: torch.device,
    ) -> "Live":
        """Load the teachers in these folders, by name. split: the rows that they are to be asked about.

        Raises InputError where a teacher is not one of these data, IntegrityError for damaged weights.
        """
        if not teachers:
            raise InputError("teachers", expected="at least one", found="none", fix="Name them in the setting `teachers`.")
        taught = [Checkpoint.teacher(folder) for folder in teachers.values()]
        for each in taught:
            each.require_fit(split)
        nets = [each.load(each.nets[0], device) for each in taught]
        digests = {name: each.nets[0].sha256 for name, each in zip(teachers, taught, strict=True)}
        witnesses = [each.witness for each in taught]
        return cls(nets, temperature, rule, normalised(weights, len(nets)), digests, witnesses)

    @torch.no_grad()
    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Target logits of a batch: pixels (B, C, H, W) uint8 as a view shows them → (B, classes) float32."""
        return combine([net(pixels).float() for net in self.nets], self.temperature, self.rule, self.weights)
