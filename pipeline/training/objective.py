"""The objective of a student: α · soft loss + w · cross-entropy with the labels, w being 1 − α unless it is given."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from pipeline.base.errors import InputError
from pipeline.models.temperature import require_temperature
from pipeline.training import losses
from pipeline.training.examples import Batch
from pipeline.training.losses import SoftLoss
from pipeline.training.signal import Signal

VERSION = 1  # of what is made of the losses of a batch: T², standardisation, weights, the cross-entropy


@dataclass(frozen=True)
class LossWeights:
    """What one student is trained on.

    temperature: T of the soft loss. alpha: weight of the soft loss (of the labels in some papers: not here).
    label_weight: weight of the labels' cross-entropy at T = 1; None for 1 − alpha. A term of weight 0 adds nothing.
    """

    temperature: float
    alpha: float
    label_weight: float | None = None

    def __post_init__(self) -> None:
        """Raises InputError for numbers out of range."""
        high = float("inf") if self.label_weight is not None else 1.0
        expected = "a number from 0 to 1" if high == 1 else "a number of at least 0"
        for name, value, most in (("alpha", self.alpha, high), ("label_weight", self.labels, float("inf"))):
            if not 0 <= value <= most or value == float("inf"):
                raise InputError(name, expected=expected, found=str(value), fix="Correct the setting.")
        require_temperature(self.temperature)
        if self.alpha + self.labels == 0:
            fix = "Give one of them a weight."
            raise InputError("alpha and label_weight", expected="not both 0", found="0 and 0", fix=fix)

    @property
    def labels(self) -> float:
        """Weight of the labels' cross-entropy."""
        return 1 - self.alpha if self.label_weight is None else self.label_weight

    def to_dict(self) -> dict[str, float]:
        """What model.json says of it."""
        return {"temperature": self.temperature, "alpha": self.alpha, "label_weight": self.labels}


HARD = LossWeights(1.0, 0.0)  # the baseline: labels alone


@dataclass(frozen=True)
class Objective:
    """The losses of one student, or of several that share batches: the sum of its terms. Made by `Objective.of`."""

    terms: tuple[Callable[[torch.Tensor, Batch], torch.Tensor], ...]

    @classmethod
    def of(
        cls, weighings: Sequence[LossWeights], labels: torch.Tensor, soft: SoftLoss | None = None, signal: Signal | None = None
    ) -> "Objective":
        """One weighing per net; a single one is for a net that is not stacked.

        labels: (N,) int64 of every row of the split. soft, signal: None where every alpha is 0.
        """
        terms: list[Callable[[torch.Tensor, Batch], torch.Tensor]] = []
        if soft is not None and signal is not None and any(each.alpha > 0 for each in weighings):
            terms.append(_SoftTerm.of(weighings, labels, soft, signal))
        if any(each.labels > 0 for each in weighings):
            terms.append(_LabelTerm(labels, _number([each.labels for each in weighings], len(weighings) == 1, labels)))
        return cls(tuple(terms))

    def __call__(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """logits (B, classes) → (B,) float64 losses; (B, nets, classes) → (B, nets)."""
        logits = logits.double()  # widened once for all terms
        first, *others = self.terms
        total = first(logits, batch)
        for term in others:
            total = total + term(logits, batch)
        return total


@dataclass(frozen=True)
class _LabelTerm:
    """weight · cross-entropy with the labels. weight: a number, or (nets,) float64."""

    labels: torch.Tensor
    weight: float | torch.Tensor

    def __call__(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        return self.weight * losses.cross_entropy(logits, self.labels[batch.rows])


@dataclass(frozen=True)
class _SoftTerm:
    """alpha · soft loss, of those nets that have one: a soft term of weight 0 is not computed, for 0 · infinity is not 0.

    temperature: a number, or (nets, 1) float64; alpha: a number, or (nets,) float64. layers: which of the target logits each
    of them takes, a slice where all take the same. nets: which of the stack they are; None for all. All of these fields are
    of those nets alone.
    """

    loss: SoftLoss
    labels: torch.Tensor
    temperature: float | torch.Tensor
    alpha: float | torch.Tensor
    layers: int | slice | torch.Tensor
    nets: slice | torch.Tensor | None

    @classmethod
    def of(cls, weighings: Sequence[LossWeights], labels: torch.Tensor, soft: SoftLoss, signal: Signal) -> "_SoftTerm":
        indices = [index for index, each in enumerate(weighings) if each.alpha > 0]
        members, alone = [weighings[index] for index in indices], len(weighings) == 1
        temperature = _number([each.temperature for each in members], alone, labels)
        alpha = _number([each.alpha for each in members], alone, labels)
        found = [signal.layer(each.temperature) for each in members]
        layers: int | slice | torch.Tensor = torch.tensor(found, device=labels.device)
        if alone:
            layers = found[0]
        elif len(set(found)) == 1:
            layers = slice(found[0], found[0] + 1)  # which copies nothing
        nets: slice | torch.Tensor | None = None
        if len(indices) < len(weighings):
            first, last = indices[0], indices[-1]
            chosen = torch.tensor(indices, dtype=torch.int64, device=labels.device)
            nets = slice(first, last + 1) if last - first + 1 == len(indices) else chosen
        if isinstance(temperature, torch.Tensor):
            temperature = temperature[:, None]
        return cls(soft, labels, temperature, alpha, layers, nets)

    def __call__(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        own = logits if self.nets is None else logits[:, self.nets]
        targets, labels = batch.targets[:, self.layers], self.labels[batch.rows]
        soft = self.loss(own, targets, labels, self.temperature, weight=self.alpha)
        if isinstance(self.nets, slice):
            return functional.pad(soft, (self.nets.start, logits.shape[1] - self.nets.stop))
        if self.nets is None:
            return soft
        return soft.new_zeros(len(soft), logits.shape[1]).index_copy(1, self.nets, soft)


def _number(values: list[float], alone: bool, like: torch.Tensor) -> float | torch.Tensor:
    """A value per net: float64 on the device of `like`; the only one as it is."""
    return values[0] if alone else torch.tensor(values, dtype=torch.float64, device=like.device)
