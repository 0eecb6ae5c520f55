"""The objective of a student: α · soft loss + w · cross-entropy with the labels, w being 1 − α unless it is given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from pipeline import losses
from pipeline.errors import InputError
from pipeline.examples import Batch
from pipeline.losses import SoftLoss


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
        if not 0 < self.temperature < float("inf"):
            fix = "Correct the setting."
            raise InputError("temperature", expected="a number above 0", found=str(self.temperature), fix=fix)
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
    or (nets,) float64. layers: which of the batch's several target logits each net takes; None where there is one.
    teacher: gives target logits for the pixels of a batch that has none.
    """

    labels: torch.Tensor
    soft: SoftLoss | None
    temperature: float | torch.Tensor
    alpha: float | torch.Tensor
    label_weight: float | torch.Tensor
    uses_soft: bool
    uses_labels: bool
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
        columns = [(each.temperature, each.alpha, each.labels) for each in weighings]
        layers = None if places is None else [places.get(each.temperature, 0) for each in weighings]
        used = (any(each.alpha > 0 for each in weighings), any(each.labels > 0 for each in weighings))
        if len(weighings) == 1:
            return cls(labels, soft, *columns[0], *used, layers and layers[0], teacher)
        temperature, alpha, weight = torch.tensor(columns, dtype=torch.float64, device=labels.device).unbind(1)
        each = None if layers is None else torch.tensor(layers, device=labels.device)
        return cls(labels, soft, temperature[:, None], alpha, weight, *used, each, teacher)

    def __call__(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """logits (B, classes) → (B,) float64 losses; (B, nets, classes) → (B, nets)."""
        logits, labels, terms = logits.double(), self.labels[batch.rows], []  # widened once for both terms
        if self.uses_soft:
            targets = self._targets(logits, batch)
            terms.append(self.soft(logits, targets, labels, self.temperature, weight=self.alpha))
        if self.uses_labels:
            terms.append(self.label_weight * losses.cross_entropy(logits, labels))
        return terms[0] if len(terms) == 1 else terms[0] + terms[1]

    def _targets(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B, classes), or (B, nets or 1, classes) for a stack."""
        targets = self.teacher(batch.pixels) if self.teacher else batch.targets
        if self.layers is not None:
            return targets[:, self.layers]
        return targets if logits.dim() == 2 else targets[:, None]
