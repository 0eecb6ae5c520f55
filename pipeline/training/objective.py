"""The objective of a student: α · soft loss + w · cross-entropy with the labels, w being 1 − α unless it is given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from pipeline.base.errors import InputError
from pipeline.models.temperature import require_temperature
from pipeline.training import losses
from pipeline.training.examples import Batch
from pipeline.training.losses import SoftLoss

VERSION = 1  # of what is made of the losses of a batch: T², standardisation, weights, the cross-entropy


@dataclass(frozen=True)
class Weighing:
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

    def facts(self) -> dict[str, float]:
        """What model.json says of it."""
        return {"temperature": self.temperature, "alpha": self.alpha, "label_weight": self.labels}


HARD = Weighing(1.0, 0.0)  # the baseline: labels alone


@dataclass(frozen=True)
class Objective:
    """The losses of one student, or of several that share batches; made by `Objective.of`.

    labels: (N,) int64 of every row of the split. temperature: a number, or (nets, 1) float64; alpha, label_weight: a number,
    or (nets,) float64. softened: which nets have a soft term, a slice or numbers; None for all. These fields, and those of
    temperature and alpha, are of those nets alone: a soft term of weight 0 is not computed, for 0 times what is not finite is
    not 0. layers: which of the batch's several target logits each of them takes; None where there is one.
    teacher: gives target logits for the pixels of a batch that has none.
    """

    labels: torch.Tensor
    soft: SoftLoss | None
    temperature: float | torch.Tensor
    alpha: float | torch.Tensor
    label_weight: float | torch.Tensor
    uses_soft: bool
    uses_labels: bool
    softened: slice | torch.Tensor | None = None
    layers: int | torch.Tensor | None = None
    teacher: Callable[[torch.Tensor], torch.Tensor] | None = None

    @classmethod
    def of(
        cls,
        weighings: Sequence[Weighing],
        labels: torch.Tensor,
        soft: SoftLoss | None = None,
        places: Mapping[float, int] | None = None,
        teacher: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> "Objective":
        """One weighing per net; a single one is for a net that is not stacked.

        soft: None where every alpha is 0. places: temperature → its place among several target logits.
        """
        places = None if soft is None else places
        labelled = any(each.labels > 0 for each in weighings)
        soft_ones = [number for number, each in enumerate(weighings) if each.alpha > 0]
        layers = None if places is None else [places[weighings[number].temperature] for number in soft_ones]
        if len(weighings) == 1:
            [only] = weighings
            values = (only.temperature, only.alpha, only.labels)
            return cls(labels, soft, *values, bool(soft_ones), labelled, None, layers[0] if layers else None, teacher)
        columns = [(each.temperature, each.alpha, each.labels) for each in weighings]
        temperature, alpha, weight = torch.tensor(columns, dtype=torch.float64, device=labels.device).unbind(1)
        chosen = torch.tensor(soft_ones, dtype=torch.int64, device=labels.device)
        softened = None
        if soft_ones and len(soft_ones) < len(weighings):
            first, last = soft_ones[0], soft_ones[-1]
            softened = slice(first, last + 1) if last - first + 1 == len(soft_ones) else chosen  # a slice copies nothing
        each = torch.tensor(layers, device=labels.device) if layers else None
        values = (temperature[chosen, None], alpha[chosen], weight)
        return cls(labels, soft, *values, bool(soft_ones), labelled, softened, each, teacher)

    def __call__(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """logits (B, classes) → (B,) float64 losses; (B, nets, classes) → (B, nets)."""
        logits, labels, terms = logits.double(), self.labels[batch.rows], []  # widened once for both terms
        if self.uses_soft:
            own = logits if self.softened is None else logits[:, self.softened]
            soft = self.soft(own, self._targets(own, batch), labels, self.temperature, weight=self.alpha)
            terms.append(soft if self.softened is None else self._beside(soft, logits.shape[1]))
        if self.uses_labels:
            terms.append(self.label_weight * losses.cross_entropy(logits, labels))
        return terms[0] if len(terms) == 1 else terms[0] + terms[1]

    def _beside(self, soft: torch.Tensor, nets: int) -> torch.Tensor:
        """(B, nets that have a soft term) as (B, nets), 0 for the others."""
        if isinstance(self.softened, slice):
            return functional.pad(soft, (self.softened.start, nets - self.softened.stop))
        return soft.new_zeros(len(soft), nets).index_copy(1, self.softened, soft)

    def _targets(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B, classes), or (B, nets or 1, classes) for a stack."""
        targets = self.teacher(batch.pixels) if self.teacher else batch.targets
        if self.layers is not None:
            return targets[:, self.layers]
        return targets if logits.dim() == 2 else targets[:, None]
