"""The objective of a student: α · soft loss + w · cross-entropy with the labels, where w is 1 − α unless it is given.

Feature losses, each with a weight of its own, are added to it.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn import functional

from pipeline.base import ranks
from pipeline.base.errors import InputError
from pipeline.base.ranks import Ranks
from pipeline.models.temperature import require_temperature
from pipeline.training import losses
from pipeline.training.course import START, STEADY, Course, Progress
from pipeline.training.curriculum import Heat
from pipeline.training.examples import Batch
from pipeline.training.guidance import Guidance
from pipeline.training.losses import SoftLoss
from pipeline.training.signal import Signal

Term = Callable[[torch.Tensor, Batch, Progress], torch.Tensor]
Entropy = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # logits (B, …, C) and labels (B,) → (B, …)

VERSION = 2  # of how the losses of a batch are combined: T², standardisation, weights, the cross-entropy


@dataclass(frozen=True)
class LossWeights:
    """How the loss terms of one student are weighted. A term of weight 0 is left out.

    temperature: T of the soft loss. alpha: weight of the soft loss (some papers call the weight of the labels alpha).
    label_weight: weight of the cross-entropy with the labels, which is taken at T = 1; None for 1 − alpha.
    mutual: weight of what the students of a cohort learn from each other; see _MutualTerm.
    features: whether it learns from features as well; their losses have weights of their own.
    """

    temperature: float
    alpha: float
    label_weight: float | None = None
    mutual: float = 0.0
    features: bool = False

    def __post_init__(self) -> None:
        """Raise InputError for numbers out of range."""
        most, expected = 1.0, "a number from 0 to 1"
        if self.label_weight is not None:
            most, expected = sys.float_info.max, "a number of at least 0"
        for name, value in (("alpha", self.alpha), ("label_weight", self.labels)):
            if not 0 <= value <= most:
                raise InputError(name, expected=expected, found=str(value), fix="Correct the setting.")
        if not 0 <= self.mutual <= sys.float_info.max:
            raise InputError("mutual", expected="a number of at least 0", found=str(self.mutual), fix="Correct the setting.")
        require_temperature(self.temperature)
        if self.alpha + self.labels == 0 and not self.features:
            fix = "Give one of them a weight."
            raise InputError("alpha and label_weight", expected="not both 0", found="0 and 0", fix=fix)

    @property
    def labels(self) -> float:
        """Weight of the cross-entropy with the labels."""
        return 1 - self.alpha if self.label_weight is None else self.label_weight

    def takes_labels(self, course: Course) -> bool:
        """Whether the labels have a weight at any time of a training."""
        return self.labels > 0 or (self.label_weight is None and course.alpha is not None)

    def to_dict(self) -> dict[str, float]:
        """As model.json stores it."""
        return {"temperature": self.temperature, "alpha": self.alpha, "label_weight": self.labels}


HARD = LossWeights(1.0, 0.0)  # the baseline: labels alone


@dataclass(frozen=True)
class Objective:
    """The loss of one student, or of several that share batches: a sum of terms. Made by `Objective.of`.

    guidance: the feature losses of a single student. heat: its temperature, if that is learned.
    """

    terms: tuple[Term, ...]
    guidance: Guidance | None = None
    heat: Heat | None = None

    @property
    def trained(self) -> list[torch.nn.Module]:
        """What is trained beside the student: projections of feature losses, a temperature."""
        return [each for each in (self.guidance, self.heat) if each is not None]

    @classmethod
    def of(
        cls,
        weightings: Sequence[LossWeights],
        labels: torch.Tensor,
        soft: SoftLoss | None = None,
        signal: Signal | None = None,
        guidance: Guidance | None = None,
        heat: Heat | None = None,
        *,
        smoothing: float = 0.0,
        virtual: Entropy | None = None,
        course: Course = STEADY,
        chosen: torch.Tensor | None = None,
    ) -> "Objective":
        """The objective of a stack with one weighting per net; a single weighting is for a net that is not stacked.

        labels: (N,) int64 of all rows of the split, -1 where unknown. chosen: the rows that are learned from; None for all.
        soft, signal: needed unless every alpha is 0.
        guidance, heat: of a single net, which learns from features, or at a temperature that is learned.
        smoothing: of the labels; see losses.cross_entropy. virtual: instead of the cross-entropy, see losses.tf_kd.
        Raises InputError for a single net that should learn from others.
        """
        terms: list[Term] = []
        if soft is not None and signal is not None and any(each.alpha > 0 for each in weightings):
            terms.append(_SoftTerm.of(weightings, labels, soft, signal, course, heat))
        if any(each.takes_labels(course) for each in weightings):
            alone, entropy = len(weightings) == 1, virtual or partial(losses.cross_entropy, smoothing=smoothing)
            weight = _per_net([each.labels for each in weightings], alone, labels)
            free = _per_net([each.alpha if each.label_weight is None else 0.0 for each in weightings], alone, labels)
            known = float(((labels if chosen is None else labels[chosen]) >= 0).double().mean())
            terms.append(_LabelTerm(labels, weight, free, course, entropy, known))
        if any(each.mutual > 0 for each in weightings):
            if len(weightings) == 1:  # whose rows would be taken for its peers
                fix = "Train several as one stack, as `softcache sweep` does."
                raise InputError("mutual", expected="nets that learn from each other", found="one net", fix=fix)
            terms.append(_MutualTerm(labels.new_tensor([each.mutual for each in weightings], dtype=torch.float64)))
        return cls(tuple(terms), guidance, heat)

    def __call__(
        self, logits: torch.Tensor, batch: Batch, progress: Progress = START, features: Sequence[torch.Tensor] = ()
    ) -> torch.Tensor:
        """logits (B, classes) → losses (B,) float64; (B, nets, classes) → (B, nets). features: of the student, (B, …) each.

        Of a piece of a batch, as each rank has one, the losses of all ranks add up to those of the batch. Where examples of a
        batch depend on each other, each rank gathers the batch and gives its share of the loss of every example.
        """
        if self._couples and not (here := ranks.current()).alone:
            logits, batch, features = here.gathered(logits), _gathered(batch, here), [here.gathered(each) for each in features]
            return self._of_batch(logits, batch, progress, features) / here.count
        return self._of_batch(logits, batch, progress, features)

    @property
    def _couples(self) -> bool:
        """Whether the loss of an example may depend on others of its batch."""
        soft = any(isinstance(term, _SoftTerm) and term.loss.couples for term in self.terms)
        return soft or (self.guidance is not None and self.guidance.couples)

    def _of_batch(
        self, logits: torch.Tensor, batch: Batch, progress: Progress, features: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """As `__call__`, of examples that are a batch."""
        logits = logits.double()  # widened once for all terms
        found = [term(logits, batch, progress) for term in self.terms]
        if self.guidance is not None:
            found.append(self.guidance(batch.features, features))
        first, *others = found
        return sum(others, start=first)


@dataclass(frozen=True)
class _LabelTerm:
    """weight · cross-entropy with the labels, and 0 where there is none. weight: a number, or (nets,) float64.

    free: the alpha of a net whose label weight is 1 − alpha, else 0, shaped likewise: what a course takes from alpha, the
    labels get. entropy: the cross-entropy, or what stands for it. known: the share of rows that have a label, by which it is
    divided: its mean over all rows is then that over these.
    """

    labels: torch.Tensor
    weight: float | torch.Tensor
    free: float | torch.Tensor
    course: Course
    entropy: Entropy
    known: float

    def __call__(self, logits: torch.Tensor, batch: Batch, progress: Progress) -> torch.Tensor:
        own = self._entropy(logits, batch.rows)
        if batch.partners.shape[1]:  # mixup's labels are mixed like its rows: Zhang et al. 2018 (arXiv 1710.09412)
            other = self._entropy(logits, batch.partners[:, 0])
            shares = batch.shares.double() if own.dim() > 1 else batch.shares[:, 0].double()
            own = shares * own + (1 - shares) * other
        factor = self.course.on_alpha(progress)
        weight = self.weight if factor == 1 else self.weight + (1 - factor) * self.free
        return weight * own

    def _entropy(self, logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Of logits with the labels of these rows: (B,), or (B, nets)."""
        labels = self.labels[rows]
        if self.known == 1:
            return self.entropy(logits, labels)
        found = self.entropy(logits, labels.clamp(min=0))
        return torch.where((labels >= 0).view(-1, *(1,) * (found.dim() - 1)), found / self.known, 0.0)


@dataclass(frozen=True)
class _MutualTerm:
    """weight · mean over the other nets of KL(p_other ‖ p_own) at T = 1: deep mutual learning.

    Zhang et al. 2018 (arXiv 1706.00384), equations 7 and 8, which update the nets in turn, each from the others' newest
    predictions. Here all nets take their step at once, from predictions of before it, which are constants. A net whose logits
    are not finite teaches no other. weight: (nets,) float64.
    """

    weight: torch.Tensor

    def __call__(self, logits: torch.Tensor, batch: Batch, progress: Progress) -> torch.Tensor:
        own = torch.log_softmax(logits, dim=-1)
        sound = torch.isfinite(logits.detach()).all(dim=-1)
        known = torch.where(sound[..., None], own.detach(), -torch.inf)
        shares = known.exp()
        entropies = torch.special.entr(shares).sum(dim=-1)  # of 0, where a net is not sound
        others = shares.sum(dim=-2, keepdim=True) - shares  # summed up: KL(p ‖ q) is linear in p, but for p's entropy
        peers = sound.sum(dim=-1, keepdim=True) - sound.long()
        apart = -(others * own).sum(dim=-1) - (entropies.sum(dim=-1, keepdim=True) - entropies)
        mean: torch.Tensor = apart / peers.clamp(min=1)
        return self.weight * mean


@dataclass(frozen=True)
class _SoftTerm:
    """alpha · soft loss, for those nets whose alpha is above 0. It is not computed for the others: 0 · infinity is not 0.

    temperature: a number, or (nets, 1) float64. alpha: a number, or (nets,) float64. layers: which target logits each of
    these nets takes; a slice where all take the same. nets: the indices of these nets in the stack; None for all.
    """

    loss: SoftLoss
    labels: torch.Tensor
    temperature: float | torch.Tensor
    alpha: float | torch.Tensor
    layers: int | slice | torch.Tensor
    nets: slice | torch.Tensor | None
    course: Course
    heat: Heat | None

    @classmethod
    def of(
        cls,
        weightings: Sequence[LossWeights],
        labels: torch.Tensor,
        soft: SoftLoss,
        signal: Signal,
        course: Course,
        heat: Heat | None,
    ) -> "_SoftTerm":
        indices = [index for index, each in enumerate(weightings) if each.alpha > 0]
        members, alone = [weightings[index] for index in indices], len(weightings) == 1
        temperature = _per_net([each.temperature for each in members], alone, labels)
        if isinstance(temperature, torch.Tensor):
            temperature = temperature[:, None]
        alpha = _per_net([each.alpha for each in members], alone, labels)
        found = [signal.ensemble.layer(each.temperature) for each in members]
        layers: int | slice | torch.Tensor = torch.tensor(found, device=labels.device)
        if len(set(found)) == 1:
            layers = found[0] if alone else slice(found[0], found[0] + 1)  # a slice copies nothing
        nets: slice | torch.Tensor | None = None
        if len(indices) < len(weightings):
            first, last = indices[0], indices[-1]
            chosen = torch.tensor(indices, dtype=torch.int64, device=labels.device)
            nets = slice(first, last + 1) if last - first + 1 == len(indices) else chosen
        return cls(soft, labels, temperature, alpha, layers, nets, course, heat)

    def __call__(self, logits: torch.Tensor, batch: Batch, progress: Progress) -> torch.Tensor:
        own = logits if self.nets is None else logits[:, self.nets]
        targets = losses.rows_last(batch.targets[:, self.layers])
        labels = self.labels[batch.rows] if self.loss.needs_labels else None
        temperature = self.heat(progress) if self.heat else _times(self.temperature, self.course.on_temperature(progress))
        alpha = _times(self.alpha, self.course.on_alpha(progress) * self.course.on_loss(progress))
        soft = self.loss(own, targets, labels, temperature, weight=alpha)
        if isinstance(self.nets, slice):
            return functional.pad(soft, (self.nets.start, logits.shape[1] - self.nets.stop))
        if self.nets is None:
            return soft
        return soft.new_zeros(len(soft), logits.shape[1]).index_copy(1, self.nets, soft)


def _gathered(batch: Batch, here: Ranks) -> Batch:
    """The pieces of a batch as one, but for the inputs, which no loss reads."""
    columns = {name: here.gathered(getattr(batch, name)) for name in ("rows", "views", "targets", "partners", "shares")}
    return batch._replace(**columns, features=tuple(map(here.gathered, batch.features)))


def _times(value: float | torch.Tensor, factor: float) -> float | torch.Tensor:
    """Their product; a factor of 1, as without a course, costs nothing."""
    return value if factor == 1 else value * factor


def _per_net(values: list[float], alone: bool, like: torch.Tensor) -> float | torch.Tensor:
    """One value per net as float64 on the device of `like`; a net that is not stacked takes its only value as it is."""
    return values[0] if alone else torch.tensor(values, dtype=torch.float64, device=like.device)
