"""Live: the teachers run in the training loop, as a reference for the results and the speed of caches."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pipeline.base import files
from pipeline.data.splits import Split
from pipeline.data.views import Policy
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.encoding import example
from pipeline.models.ensemble import Ensemble
from pipeline.models.modelfile import Kind
from pipeline.models.showing import span_in_views

NONE = Policy.parse("none", 0)


@dataclass(frozen=True)
class Live:
    """Teachers that run on every batch: a signal.Signal, made by `Live.open`.

    They take the inputs of the batch. Of texts, which every net encodes by itself, each has its own encoding instead, which is
    stored: `shape` is the sum of their lengths. encoded: the length and shape of each; none for numbers.
    """

    nets: Sequence[torch.nn.Module]
    ensemble: Ensemble
    digests: Mapping[str, str]
    witnesses: Sequence[files.Witness]
    kind: Kind = "live"
    shape: tuple[int, ...] = (0,)
    dtype: torch.dtype = torch.float32
    texts: Split | None = None
    policy: Policy = NONE
    encoded: Sequence[tuple[int, ...]] = ()

    @classmethod
    def open(
        cls,
        teachers: Mapping[str, Path],
        split: Split,
        policy: Policy,
        device: torch.device,
        *,
        temperatures: Sequence[float],
        rule: str,
        weights: Sequence[float] | None = None,
    ) -> "Live":
        """Load the teachers in these folders, by name, to run them on rows of `split` in views of `policy`.

        Raises InputError for a teacher of other classes or inputs, IntegrityError for damaged weights.
        """
        ensemble = Ensemble.of(list(teachers), rule=rule, temperatures=temperatures, weights=weights)
        taught = {name: Checkpoint.teacher(folder) for name, folder in teachers.items()}
        for each in taught.values():
            each.require_fit(split)
        live = cls(
            nets=[each.load(each.nets[0], device) for each in taught.values()],
            ensemble=ensemble,
            digests={name: _digest(each) for name, each in taught.items()},
            witnesses=[each.witness for each in taught.values()],
        )
        if split.inputs.kind != "text":
            return live
        shown = [example(net, split.inputs) for net in live.nets]
        encoded = [tuple(each.shape[1:]) for each in shown]
        dtype = functools.reduce(torch.promote_types, [each.dtype for each in shown])
        size = sum(map(math.prod, encoded))
        return replace(live, texts=split, policy=policy, encoded=encoded, shape=(size,), dtype=dtype)

    def read(self, view: int, span: int, out: torch.Tensor) -> None:
        """The encodings of every teacher, side by side; nothing for numbers."""
        if self.texts is None:
            return
        start, stop = self.texts.spans()[span]
        wanted, views = np.arange(stop - start), np.full(stop - start, view)
        found = [span_in_views(net, self.texts, span, wanted, views, self.policy) for net in self.nets]
        out.copy_(torch.cat([each.flatten(1) for each in found], dim=1))

    @torch.no_grad()
    def targets(self, stored: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """The combined logits of the teachers for these rows, float32."""
        own = [inputs] * len(self.nets)
        if self.texts is not None:
            parts = stored.split([math.prod(shape) for shape in self.encoded], dim=1)
            own = [part.view(len(stored), *shape) for part, shape in zip(parts, self.encoded, strict=True)]
        members = [net(each).float() for net, each in zip(self.nets, own, strict=True)]
        layers = range(len(self.ensemble.temperatures))
        return torch.stack([self.ensemble.combine(members, layer) for layer in layers], dim=1)


def _digest(taught: Checkpoint) -> str:
    """What its logits are a function of, besides inputs."""
    return files.sha256(files.canonical_json([taught.model, taught.behaviour, taught.weights_sha256]))
