"""Guidance: the feature losses of one student, with the projections that they train beside it."""

from collections.abc import Sequence

import torch
from torch import nn

from pipeline.base import randomness, runtime
from pipeline.base.errors import InputError
from pipeline.base.randomness import Use
from pipeline.models.watched import Feature, Watched
from pipeline.training.featured import Featured
from pipeline.training.features import FeatureLoss


class Guidance(nn.Module):
    """Σ weight · loss, over feature losses and teachers; made by `Guidance.of`.

    Its parameters are projections and the like. Of several teachers a loss is the mean over them, by their weights, and each
    teacher has projections of its own. features: of the student, in the order in which `forward` takes them.
    """

    def __init__(self, features: Sequence[Feature]):
        super().__init__()
        self.features = tuple(features)
        self.losses = nn.ModuleList()
        self._taken: list[tuple[float, list[int], list[int]]] = []  # for each loss: weight, features of teacher and student

    @classmethod
    def of(
        cls, losses: Sequence[FeatureLoss], signal: Featured, net: nn.Module, inputs: torch.Tensor, rows: int, seed: int
    ) -> "Guidance":
        """The guidance of a net by these losses, on its device.

        inputs: rows to try the net with, (n, *shape). rows: how many are learned from. seed: of the student; it decides initial
        weights of projections. Raises InputError for a layer that the net lacks, and for shapes that a loss cannot compare.
        """
        texts = list(dict.fromkeys(text for each in losses for text in each.student))
        made = cls([Feature.parse(text) for text in texts])
        try:
            _, *shapes = Watched(net, made.features).shapes(inputs)
        except InputError as error:  # the teacher's layers may have the same names
            what = f"features of the student, {error.what}"
            raise InputError(what, expected=error.expected, found=error.found, fix=error.fix) from error
        with runtime.own_randomness():
            torch.manual_seed(randomness.torch_seed(seed, Use.PROJECTIONS))
            for number, (weight, given) in enumerate(signal.teachers):
                for loss in losses:
                    theirs = [signal.texts.index(text) for text in loss.teacher]
                    own = [texts.index(text) for text in loss.student]
                    made.losses.append(loss.build([given[index] for index in theirs], [shapes[index] for index in own], rows))
                    first = number * len(signal.texts)
                    made._taken.append((weight * loss.weight, [first + index for index in theirs], own))
        return made.to(inputs.device)

    @property
    def couples(self) -> bool:
        """Whether the loss of an example depends on others of its batch."""
        return any(loss.couples for loss in self.losses)

    def forward(self, teacher: Sequence[torch.Tensor], student: Sequence[torch.Tensor]) -> torch.Tensor:
        """The weighted sum of all losses, (B,) float64.

        teacher: of a batch, (B, …) each, as Featured.features gives them. student: its own `features`. Any float dtypes.
        """
        found = [
            weight * loss([teacher[index] for index in theirs], [student[index] for index in own]).double()
            for loss, (weight, theirs, own) in zip(self.losses, self._taken, strict=True)
        ]
        return torch.stack(found).sum(0)
