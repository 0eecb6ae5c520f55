"""Live: the teachers run in the training loop, as a reference for the results and the speed of caches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from pipeline.base import files
from pipeline.base.places import Place
from pipeline.data.splits import Split
from pipeline.data.views import NONE, Policy
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.encoding import encode, example
from pipeline.models.ensemble import Ensemble
from pipeline.models.modelfile import Kind
from pipeline.training.packed import Field, Packed

_NOTHING = Packed(())


@dataclass(frozen=True)
class Live:
    """Teachers that run on every batch: a signal.Signal, made by `Live.open`.

    They take the inputs of the batch. Of texts, which every net encodes by itself, each has its own encoding instead. These are
    stored side by side. encoded: what each is of a text; none for numbers.
    """

    nets: Sequence[torch.nn.Module]
    ensemble: Ensemble
    digests: Mapping[str, str]
    witnesses: Sequence[files.Witness]
    kind: Kind = "live"
    feature_bytes: int = 0
    shape: tuple[int, ...] = (0,)
    dtype: torch.dtype = torch.uint8
    texts: Split | None = None
    policy: Policy = NONE
    encoded: Packed = _NOTHING

    @classmethod
    def open(
        cls,
        teachers: Mapping[str, Place],
        split: Split,
        policy: Policy,
        device: torch.device,
        *,
        temperatures: Sequence[float],
        rule: str,
        weights: Sequence[float] | None = None,
    ) -> "Live":
        """Load the teachers in these folders, by name, to run them on rows of `split` in views of `policy`.

        Raises InputError for a teacher of other classes or inputs and for one without a net, IntegrityError for damaged
        weights.
        """
        ensemble = Ensemble.of(list(teachers), rule=rule, temperatures=temperatures, weights=weights)
        taught = {name: Checkpoint.teacher(folder) for name, folder in teachers.items()}
        for each in taught.values():
            each.require_net("--live")
            each.require_fit(split)
        live = cls(
            nets=[each.load(each.nets[0], device) for each in taught.values()],
            ensemble=ensemble,
            digests={name: each.net_digest for name, each in taught.items()},
            witnesses=[each.witness for each in taught.values()],
        )
        if split.inputs.kind != "text":
            return live
        encoded = Packed([Field.of(example(net, split.inputs)) for net in live.nets])
        return replace(live, texts=split, policy=policy, encoded=encoded, shape=(encoded.size,))

    def read(self, view: int, span: int, out: torch.Tensor) -> None:
        """The encodings of every teacher, side by side; nothing for numbers."""
        if self.texts is None:
            return
        start, stop = self.texts.spans()[span]
        texts = self.policy.rewrite(self.texts.read(span).tolist(), np.arange(start, stop), np.full(stop - start, view))
        for part, net in zip(self.encoded.split(out), self.nets, strict=True):
            part.copy_(encode(net, texts))

    @torch.no_grad()
    def targets(self, stored: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """The combined logits of the teachers for these rows, float32."""
        own = [inputs] * len(self.nets)
        if self.texts is not None:
            own = [each.clone(memory_format=torch.contiguous_format) for each in self.encoded.split(stored)]
        members = [net(each).float() for net, each in zip(self.nets, own, strict=True)]
        layers = range(len(self.ensemble.temperatures))
        return torch.stack([self.ensemble.combine(members, layer) for layer in layers], dim=1)

    def features(self, stored: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """None."""
        return ()
