"""Losses of relations: how the rows of a batch lie to each other among a teacher's features, and among a student's.

Features of any shape count as vectors, (B, D), and need not be of one length. Every example carries its part, so that the mean
over examples is the published loss; a loss depends on which rows share its batch. A batch of one row has no relations.
All of them but `Contrast` need no weights. They begin with products of all pairs, (B, B), in float32.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from pipeline.training.maps import Between, Features, Layers, Shapes, unit

_BLOCK = 16  # rows whose angles are compared at a time: (16, B, B) stay in the processor's cache, which halves the time
_SHORTEST = 1e-24  # squares of lengths up to this count as 0
_NEAR = 1e-6  # squares of distances below this share of the squares of both vectors are rounding, and count as 0


class Similarity(Between):
    """Row by row, the mean of (g_s − g_t)², g a row of F Fᵀ divided by its length.

    Tung, Mori, "Similarity-Preserving Knowledge Distillation" (2019, arXiv 1907.09682), section 3.1: ‖G_s − G_t‖² / B².
    """

    couples = True

    def loss(self, teacher: Features, student: Features) -> torch.Tensor:
        """(B, …) each → (B,)."""
        wanted, given = (unit(_products(each.flatten(1))) for each in (teacher[0], student[0]))
        return (given - wanted).square().mean(dim=1)


class Distances(Between):
    """Huber's loss of the distances of a row to all rows, those of a net divided by their mean.

    Park, Kim, Lu, Cho, "Relational Knowledge Distillation" (2019, arXiv 1904.05068), section 3.2.1; the paper weighs it 25
    beside labels. As in the published code, the mean is over pairs of two rows, and the distance of a row to itself, always 0,
    counts in the loss.
    """

    couples = True

    def loss(self, teacher: Features, student: Features) -> torch.Tensor:
        """(B, …) each → (B,)."""
        wanted, given = (_relative(_geometry(each.flatten(1))[1]) for each in (teacher[0], student[0]))
        return functional.smooth_l1_loss(given, wanted, reduction="none").mean(dim=1)


class Angles(Between):
    """Huber's loss of the cosines of the angles at a row between all pairs of rows.

    Park et al. 2019, section 3.2.2, see `Distances`; the paper weighs it 50 beside labels. The published code goes through
    all (B, B, D) directions; here cosines come out of the products of all pairs, in (B, B, B) numbers.
    """

    couples = True

    def loss(self, teacher: Features, student: Features) -> torch.Tensor:
        """(B, …) each → (B,)."""
        wanted, given = (_directions(*_geometry(each.flatten(1))) for each in (teacher[0], student[0]))
        losses = []
        for start in range(0, len(wanted[0]), _BLOCK):
            at = slice(start, start + _BLOCK)
            each = functional.smooth_l1_loss(_cosines(*given, at), _cosines(*wanted, at), reduction="none")
            losses.append(each.mean(dim=(1, 2)))
        return torch.cat(losses)


class Congruence(Between):
    """Row by row, the mean of (k_s − k_t)², k = exp(−gamma · ‖x − y‖²) of unit vectors, by the first terms of its series.

    Peng, Jin, Liu, Zhou, Wu, Liu, Li, Zhang, "Correlation Congruence for Knowledge Distillation" (2019, arXiv 1904.01802),
    section 3: with ‖x‖ = ‖y‖ = 1, k = exp(−2 gamma) · Σ (2 gamma x·y)^p / p!, p up to order. Left out: the linear layer
    that the paper puts on features first, and batches that are drawn by class.
    """

    couples = True

    def __init__(
        self, shapes: Shapes, teacher: Layers, student: Layers, weight: float = 1.0, gamma: float = 0.4, order: int = 2
    ) -> None:
        super().__init__(shapes, teacher, student, weight)
        self.terms = [math.exp(-2 * gamma) * (2 * gamma) ** power / math.factorial(power) for power in range(1, order + 1)]

    def loss(self, teacher: Features, student: Features) -> torch.Tensor:
        """(B, …) each → (B,)."""
        wanted, given = (self._kernel(_cosine(each.flatten(1))) for each in (teacher[0], student[0]))
        return (given - wanted).square().mean(dim=1)

    def _kernel(self, cosines: torch.Tensor) -> torch.Tensor:
        """Without the constant term, which is the same for both nets."""
        value = torch.zeros_like(cosines)
        for term in reversed(self.terms):
            value = (value + term) * cosines
        return value


class Contrast(Between):
    """−log h of a row's own pair − Σ log(1 − h) over the pairs with other rows, once from each net's side.

    Tian, Krishnan, Isola, "Contrastive Representation Distillation" (2020, arXiv 1910.10699), section 3.1:
    h = e / (e + N / M), e = exp(s · t / temperature) / Z, s and t projected to `width` numbers and divided by their length.
    M: the rows that are learned from. Differs from the published code, which keeps a bank of old projections of all rows:

    - The N others are those of the batch, not 16,384 out of the bank; of both sides, so that both get a gradient.
    - Z makes e a share of M rows, by the batch and without a gradient: the mean over rows of exp(·) of its own pair plus M − 1
      times the mean of the others. There it is M times the mean over the first batch, and stays. Without Z, h of the other
      pairs would begin near 1, as N / M is small, and the first steps would be N times too great.
    """

    couples = True

    def __init__(
        self,
        shapes: Shapes,
        teacher: Layers,
        student: Layers,
        weight: float = 1.0,
        temperature: float = 0.07,
        width: int = 128,
    ) -> None:
        super().__init__(shapes, teacher, student, weight)
        self.temperature = temperature
        self.heads = nn.ModuleList(nn.Linear(math.prod(each), width) for each in (shapes.teacher[0], shapes.student[0]))

    def loss(self, teacher: Features, student: Features) -> torch.Tensor:
        """(B, …) each → (B,)."""
        wanted, given = (unit(head(each[0].flatten(1))) for head, each in zip(self.heads, (teacher, student), strict=True))
        scores = given @ wanted.T / self.temperature  # (B, B)
        others = len(scores) - 1
        if not others:
            return scores.sum(dim=1) * 0
        odds = scores - self._log_z(scores.detach(), others) - math.log(others / self.shapes.rows)  # log of h / (1 − h)
        apart = functional.softplus(odds)  # −log(1 − h)
        own = apart.diagonal()
        return 2 * functional.softplus(-odds.diagonal()) + apart.sum(dim=1) + apart.sum(dim=0) - 2 * own

    def _log_z(self, scores: torch.Tensor, others: int) -> torch.Tensor:
        """Of scores as from the heads: log of the mean over rows of e_ii + (M − 1) · mean of e_ij."""
        shares = torch.full_like(scores, (self.shapes.rows - 1) / others).fill_diagonal_(1)
        return torch.logsumexp((scores + shares.log()).flatten(), dim=0) - math.log(len(scores))


def _products(vectors: torch.Tensor) -> torch.Tensor:
    """(B, D) → (B, B), of all pairs. Written so that its gradient costs one product of matrices instead of two."""
    products = vectors @ vectors.detach().T
    return products + products.T - products.detach()


def _cosine(vectors: torch.Tensor) -> torch.Tensor:
    """(B, D) → cosines of all pairs, (B, B); those of a vector of zeros are 0, without a gradient."""
    products = _products(vectors)
    squares = products.diagonal()
    none = squares <= _SHORTEST
    inverse = squares.masked_fill(none, 1).rsqrt().masked_fill(none, 0)
    return inverse[:, None] * products * inverse


def _geometry(vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, D) → products of all pairs and their distances, (B, B) both; a distance of 0 has no gradient."""
    products = _products(vectors - vectors.detach().mean(dim=0))  # distances stay as they are, and are rounded less
    own = products.diagonal()
    both = own[:, None] + own
    squares = both - 2 * products
    near = squares <= _NEAR * both
    return products, squares.masked_fill(near, 1).sqrt().masked_fill(near, 0)


def _relative(distances: torch.Tensor) -> torch.Tensor:
    """Distances divided by their mean over pairs of two rows."""
    rows = len(distances)
    mean = distances.sum() / max(1, rows * (rows - 1))
    return distances / mean.masked_fill(mean == 0, 1)


def _directions(products: torch.Tensor, distances: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What `_cosines` reads: p_ij, products of all pairs; 1 / d_ij, but 0 where d_ij is; (p_ij − p_ii / 2) / d_ij: (B, B)."""
    none = distances == 0
    inverse = (1 / distances.masked_fill(none, 1)).masked_fill(none, 0)
    return products, inverse, (products - products.diagonal()[:, None] / 2) * inverse


def _cosines(products: torch.Tensor, inverse: torch.Tensor, share: torch.Tensor, at: slice) -> torch.Tensor:
    """(rows of the slice, B, B): of the angle at i between j and k; 0 where one of them is where i is.

    It is (p_jk − p_ij − p_ik + p_ii) / (d_ij d_ik) = p_jk / (d_ij d_ik) − share_ij / d_ik − share_ik / d_ij.
    """
    inverse, share = inverse[at], share[at]
    first = inverse[:, :, None] * inverse[:, None] * products
    return torch.baddbmm(first, torch.stack([share, inverse], dim=2), torch.stack([inverse, share], dim=1), alpha=-1)
