"""Learner: what a training changes: a net, and what is trained beside it and left out of all that is kept of the net."""

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from pipeline.models.watched import Feature, Watched


class Learner(nn.Module):
    """A net, or a stack of nets, as it is trained. Validation, and whatever is saved, see the net alone.

    features: of the net, which it returns in training beside the logits. beside: modules with weights of their own, such as the
    projections of feature losses; the loss uses them, and the optimizer treats them as it treats the net.
    """

    def __init__(self, net: nn.Module, features: Sequence[Feature] = (), beside: Iterable[nn.Module] = ()):
        super().__init__()
        self.net, self.beside = net, nn.ModuleList(beside)
        self._watched = [Watched(net, features)] if features else []  # in a list: its weights are the net's

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
        """Logits (B, classes), or (B, nets, classes) of a stack, and the features, each (B, …)."""
        if not self._watched:
            return self.net(inputs), ()
        logits, *features = self._watched[0](inputs)
        return logits, features
