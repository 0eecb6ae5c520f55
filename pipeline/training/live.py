"""Live: the teachers in the training loop, as a reference for what caches give, and for what they save."""

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
    """Teachers that are asked about every batch; make it with `Live.open`. See signal.Signal.

    nets, digests, witnesses: of each of them, digests by name. ensemble: how they are combined.
    """

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
        """Load the teachers in these folders, by name. split: the rows that they are to be asked about.

        Raises InputError where a teacher is not one of these data, IntegrityError for damaged weights.
        """
        ensemble = Ensemble.of(list(teachers), rule=rule, temperatures=temperatures, weights=weights)
        taught = {name: Checkpoint.teacher(folder) for name, folder in teachers.items()}
        for each in taught.values():
            each.require_fit(split)
        return cls(
            nets=[each.load(each.nets[0], device) for each in taught.values()],
            ensemble=ensemble,
            digests={name: each.weights_sha256 for name, each in taught.items()},
            witnesses=[each.witness for each in taught.values()],
        )

    @property
    def weights(self) -> tuple[float, ...]:
        return self.ensemble.weights

    def read(self, view: int, span: int, out: torch.Tensor) -> None:
        """Nothing is stored."""

    @torch.no_grad()
    def targets(self, stored: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        """What the teachers say of these pixels, float32."""
        members = [net(pixels).float() for net in self.nets]
        layers = range(len(self.ensemble.temperatures))
        return torch.stack([self.ensemble.combine(members, layer) for layer in layers], dim=1)

    def layer(self, temperature: float) -> int:
        return self.ensemble.layer(temperature)
