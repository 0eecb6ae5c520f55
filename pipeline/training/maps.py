"""Losses of each row by itself, between features of a teacher and of a student: hints, attention, flow from layer to layer.

Features of B rows are (B, C, H, W) of a convolution, (B, C) of a vector, (B, H, W) of an attention map, of any float dtype.
Everything is computed in float32: float64 as in losses.py would double the time of the largest products of a step.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from pipeline.base.errors import InputError

Shape = tuple[int, ...]
Layers = str | list[str]
Features = Sequence[torch.Tensor]

_SHORTEST = 1e-12  # as in functional.normalize


@dataclass(frozen=True)
class Shapes:
    """Shapes of one row of each layer, of teacher and student; rows: how many are learned from."""

    teacher: Sequence[Shape]
    student: Sequence[Shape]
    rows: int


class Between(nn.Module):
    """A loss between layers of a teacher and of a student. Its weights are learned with the student's.

    count: how many layers of each it takes. couples: whether the loss of an example depends on others of its batch.
    """

    count = 1
    couples = False

    def __init__(self, shapes: Shapes, teacher: Layers, student: Layers, weight: float = 1.0) -> None:
        """Prepare for features of these shapes.

        Args:
            shapes: Of the layers.
            teacher: Names of the teacher's layers, for messages.
            student: Likewise of the student's.
            weight: What the loss is multiplied by elsewhere.

        Raises:
            InputError: Where shapes do not fit.
        """
        super().__init__()
        self.shapes = shapes
        self.what = f"features, layers {teacher} of the teacher and {student} of the student"

    def require(self, holds: bool, expected: str, fix: str) -> None:
        """Raise InputError about the shapes unless `holds`."""
        if not holds:
            teacher, student = (" and ".join(map(str, each)) for each in (self.shapes.teacher, self.shapes.student))
            found = f"{teacher} of the teacher and {student} of the student"
            raise InputError(self.what, expected=expected, found=found, fix=fix)

    def forward(self, teacher: Features, student: Features) -> torch.Tensor:
        """The loss of each example, not reduced and not weighed: features (B, …) of each layer → (B,) float32."""
        return self.loss([each.float() for each in teacher], [each.float() for each in student])

    def loss(self, teacher: Features, student: Features) -> torch.Tensor:
        """What `forward` says, of features of one dtype."""
        raise NotImplementedError


class Hint(Between):
    """Mean over elements of (r(student) − teacher)², r a projection to the teacher's channels that is learned.

    Romero, Ballas, Kahou, Chassang, Gatta, Bengio, "FitNets: Hints for Thin Deep Nets" (2015, arXiv 1412.6550), equation 3,
    there ½ of the sum. r is linear, and of maps a 1×1 convolution; of sizes that differ the larger is averaged down to the
    other. The paper's r has a kernel that shrinks the student's map, and its code and that of Tian et al. end r in a
    nonlinearity. The paper trains by hints first and by logits afterwards; here both terms can stand side by side.
    """

    def __init__(self, shapes: Shapes, teacher: Layers, student: Layers, weight: float = 1.0) -> None:
        super().__init__(shapes, teacher, student, weight)
        (wanted,), (given,) = shapes.teacher, shapes.student
        fix = "Name a layer of that kind, or the mean over space of maps by ` | pool`."
        self.require(len(wanted) == len(given) and len(given) in (1, 3), "two vectors (C,), or two maps (C, H, W)", fix)
        self.projection = nn.Linear(given[0], wanted[0]) if len(given) == 1 else nn.Conv2d(given[0], wanted[0], 1)

    def loss(self, teacher: Features, student: Features) -> torch.Tensor:
        """(B, C, …) each → (B,)."""
        wanted, given = _of_one_size(teacher[0], student[0]) if teacher[0].dim() == 4 else (teacher[0], student[0])
        return functional.mse_loss(self.projection(given), wanted, reduction="none").flatten(1).mean(dim=1)


class AttentionTransfer(Between):
    """Mean over positions of (a_s / ‖a_s‖ − a_t / ‖a_t‖)², a the mean over channels of squares.

    Zagoruyko, Komodakis, "Paying More Attention to Attention" (2017, arXiv 1612.03928), section 3.1, with p = 2 and the mean
    of the published code where equation 2 has the norm. Attention maps (H, W) are taken as they are. Of sizes that differ the
    larger map of attention is averaged down, so that a cached map and cached features give the same; the paper says that maps
    can be interpolated, and Tian et al. average the features.
    """

    def __init__(self, shapes: Shapes, teacher: Layers, student: Layers, weight: float = 1.0) -> None:
        super().__init__(shapes, teacher, student, weight)
        fit = all(len(shape) in (2, 3) for shape in (*shapes.teacher, *shapes.student))
        self.require(fit, "maps (C, H, W), or maps of attention (H, W)", "Name a layer before the mean over space.")

    def loss(self, teacher: Features, student: Features) -> torch.Tensor:
        """(B, C, H, W) or (B, H, W) each → (B,)."""
        maps = _of_one_size(*(each.square().mean(dim=1) if each.dim() == 4 else each for each in (teacher[0], student[0])))
        wanted, given = (unit(each.flatten(1)) for each in maps)
        return (given - wanted).square().mean(dim=1)


class Flow(Between):
    """Mean over elements of (G_s − G_t)², G = F₁ F₂ᵀ / (H · W) of two layers: (C₁, C₂), the flow from one to the other.

    Yim, Joo, Bae, Kim, "A Gift from Knowledge Distillation" (CVPR 2017), equations 1 and 2, there the sum over elements; the
    mean is from the code of Tian et al. (arXiv 1910.10699), and so is that of two layers of one net the larger is averaged
    down to the other. The paper trains by this first and by labels afterwards; here the terms can stand side by side.
    """

    count = 2

    def __init__(self, shapes: Shapes, teacher: Layers, student: Layers, weight: float = 1.0) -> None:
        super().__init__(shapes, teacher, student, weight)
        fit = all(len(shape) == 3 for shape in (*shapes.teacher, *shapes.student))
        fit = fit and [shape[0] for shape in shapes.teacher] == [shape[0] for shape in shapes.student]
        expected = "maps (C, H, W), with as many channels in the student as in the teacher"
        self.require(fit, expected, "Name layers of such a kind, or take a student of the teacher's width.")

    def loss(self, teacher: Features, student: Features) -> torch.Tensor:
        """Two of (B, C, H, W) each → (B,)."""
        return (_flow(*student) - _flow(*teacher)).square().mean(dim=(1, 2))


def unit(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors along the last axis, made as long as 1.

    One of zeros has no direction: it stays 0, and has no gradient; that of functional.normalize is 1e12 times too great.
    """
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    none = length <= _SHORTEST
    made: torch.Tensor = vectors.masked_fill(none, 0) / length.masked_fill(none, 1)
    return made


def _flow(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    first, second = _of_one_size(first, second)
    return first.flatten(2) @ second.flatten(2).transpose(1, 2) / first.shape[2:].numel()


def _of_one_size(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps (…, H, W) of different sizes, the larger averaged down to the smaller."""
    size = (min(one.shape[-2], other.shape[-2]), min(one.shape[-1], other.shape[-1]))
    first, second = (each if each.shape[-2:] == size else _averaged(each, size) for each in (one, other))
    return first, second


def _averaged(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """What functional.adaptive_avg_pool2d gives, as products: its gradient on CUDA is another one every time."""
    height, width = (_bins(taken, given).to(maps) for taken, given in zip(maps.shape[-2:], size, strict=True))
    return height @ maps @ width.t()


def _bins(taken: int, given: int) -> torch.Tensor:
    """(given, taken): in each row the share of every number that is averaged into one."""
    starts, stops = torch.arange(given) * taken // given, -(-(torch.arange(given) + 1) * taken // given)
    inside = (torch.arange(taken) >= starts[:, None]) & (torch.arange(taken) < stops[:, None])
    return inside.double() / inside.sum(dim=1, keepdim=True)
