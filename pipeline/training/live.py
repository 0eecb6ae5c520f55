"""Live: the teachers run in the training loop, as a reference for the results and the speed of caches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.base import files
from pipeline.data.splits import Split
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.ensemble import Ensemble
from pipeline.models.modelfile import Kind


@dataclass(frozen=True)
class Live:
    """Teachers that run on every batch: a signal.Signal, made by `Live.open`."""

    nets: Sequence[torch.nn.Module]
    ensemble: Ensemble
    digests: Mapping[str, str]
    witnesses: Sequence[files.Witness]
    kind: Kind = "live"
    shape: tuple[int, ...] = (0,)
    dtype: torch.dtype = torch.float32

    @classmethod
    def open(
        cls,
        teachers: Mapping[str, Path],
        split: Split,
        device: torch.device,
        *,
        temperatures: Sequence[float],
        rule: str,
        weights: Sequence[float] | None = None,
    ) -> "Live":
        """Load the teachers in these folders, by name, to run them on rows of `split`.

        Raises InputError for a teacher of other classes or another pixel shape, IntegrityError for damaged weights.
        """
        ensemble = Ensemble.of(list(teachers), rule=rule, temperatures=temperatures, weights=weights)
        taught = {name: Checkpoint.teacher(folder) for name, folder in teachers.items()}
        for each in taught.values():
            each.require_fit(split)
        return cls(
            nets=[each.load(each.nets[0], device) for each in taught.values()],
            ensemble=ensemble,
            digests={name: _digest(each) for name, each in taught.items()},
            witnesses=[each.witness for each in taught.values()],
        )

    def read(self, view: int, span: int, out: torch.Tensor) -> None:
        """There is nothing to read."""

    @torch.no_grad()
    def targets(self, stored: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        """The combined logits of the teachers for these pixels, float32."""
        members = [net(pixels).float() for net in self.nets]
        layers = range(len(self.ensemble.temperatures))
        return torch.stack([self.ensemble.combine(members, layer) for layer in layers], dim=1)


def _digest(taught: Checkpoint) -> str:
    """What its logits are a function of, besides pixels."""
    return files.sha256(files.canonical_json([taught.model, taught.behaviour, taught.weights_sha256]))
