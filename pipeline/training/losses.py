"""Losses, one value per example, not reduced: five soft ones by name, and the cross-entropy with labels.

Every soft loss is called as loss(logits, targets, labels, temperature, **settings):

    logits       (B, C) of one student, or (B, K, C) of K students that share a batch; raw, any float dtype
    targets      raw logits of the teacher: shaped like `logits`, or of as many axes and broadcastable, as (B, 1, C)
    labels       (B,) int64, read by `dkd` alone; the others take None too
    temperature  T, above 0: a number, or a float64 tensor (K, 1), one for each student

and returns float64, (B,) or (B, K). The batch is the first axis and the classes are the last, whatever lies between.
All is computed in float64: at high temperatures the terms of a sum nearly cancel, and T² multiplies what rounding leaves.
No loss contains T²; `SoftLoss` multiplies by it.
"""

import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from pipeline.base import spec
from pipeline.base.errors import InputError
from pipeline.base.spec import Spec

Temperature = float | torch.Tensor

_CORRELATION_EPS = 1e-8  # both as in the code that the authors published
_STANDARD_EPS = 1e-7
_NAMES = dict.fromkeys(("label", "labels", "y"), 2) | dict.fromkeys(("temp", "t", "tau"), 3)  # of parameters → their place
_WORDS = {"temperature": 3, "student": 0, "teacher": 1}  # in such names → their place; the first of them decides
_GIVEN = ("logits", "targets", "labels", "temperature")
_MOST_WHOLE = 2**53  # up to here float64 tells whole numbers apart
_FEW_CLASSES = 32  # up to here that is faster; 20 students with 10 classes take less than half the time


def kl(logits: torch.Tensor, targets: torch.Tensor, labels: torch.Tensor | None, temperature: Temperature) -> torch.Tensor:
    """KL(softmax(targets / T) ‖ softmax(logits / T)), in nats.

    Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network" (2015, arXiv 1503.02531), section 2. The paper
    writes the cross-entropy with soft targets, see `ce`; this has the same gradient, its equation 2, and the minimum 0.
    """
    return _divergence(logits.double() / temperature, targets.double() / temperature)


def ce(logits: torch.Tensor, targets: torch.Tensor, labels: torch.Tensor | None, temperature: Temperature) -> torch.Tensor:
    """−Σ softmax(targets / T) · log softmax(logits / T), in nats: the soft term as Hinton et al. 2015, section 2, write it.

    Greater than `kl` by the entropy of the softened targets, which no student changes: equal to it in gradient only.
    """
    student = _log_softmax(logits.double() / temperature)
    return -(torch.softmax(targets.double() / temperature, dim=-1) * student).sum(dim=-1)


def mse(logits: torch.Tensor, targets: torch.Tensor, labels: torch.Tensor | None, temperature: Temperature) -> torch.Tensor:
    """½ · mean over classes of the squared differences of logits that are centred per row; T is not used.

    The limit of T² · KL for T → ∞: Hinton et al. 2015, section 2.1, equation 4, where centred logits are assumed. Matching
    logits by squared error is from Ba, Caruana, "Do Deep Nets Really Need to be Deep?" (2014, arXiv 1312.6184), section 2.2,
    who do not centre.
    """
    return (logits.double() - targets.double()).var(dim=-1, correction=0) / 2  # the variance centres the difference


def dkd(
    logits: torch.Tensor,
    targets: torch.Tensor,
    labels: torch.Tensor,
    temperature: Temperature,
    alpha: float = 1.0,
    beta: float = 8.0,
) -> torch.Tensor:
    """alpha · TCKD + beta · NCKD, in nats. The paper keeps alpha at 1 and chooses beta by teacher, often 8.

    Zhao, Cui, Song, Qiu, Liang, "Decoupled Knowledge Distillation" (2022, arXiv 2203.08679), section 3. TCKD is the KL
    between (p, 1 − p) of teacher and student, p the probability of the label; NCKD the KL between their softmax over the
    other classes, 0 where there is only one. The label is taken out, not pushed down by 1000 as in the published code, and
    1 − p is a sum over the others, so that neither saturates. Left out: that code's weight that grows over the first epochs.
    """
    student, student_others = _apart(logits.double() / temperature, labels)
    teacher, teacher_others = _apart(targets.double() / temperature, labels)
    return alpha * _divergence(student, teacher) + beta * _divergence(student_others, teacher_others)


def dist(
    logits: torch.Tensor,
    targets: torch.Tensor,
    labels: torch.Tensor | None,
    temperature: Temperature,
    beta: float = 1.0,
    gamma: float = 1.0,
) -> torch.Tensor:
    """beta · (1 − r over the classes of a row) + gamma · (1 − r over the batch, mean over classes), r Pearson's correlation.

    Huang, You, Wang, Qian, Xu, "Knowledge Distillation from A Stronger Teacher" (2022, arXiv 2205.10536), section 4; of the
    probabilities softmax(· / T). The second term, within classes, belongs to the batch: every example carries its value, so
    that the mean over examples is the published loss, and a loss depends on which rows share its batch. Like the published
    code, r has 1e-8 in its denominator: probabilities that hardly vary, as with very many classes at a very high T, count
    as uncorrelated.
    """
    student = torch.softmax(logits.double() / temperature, dim=-1)
    teacher = torch.softmax(targets.double() / temperature, dim=-1)
    between = 1 - _correlation(student, teacher, dim=-1)  # (B, …)
    within = 1 - _correlation(student, teacher, dim=0).mean(dim=-1)  # (…)
    return beta * between + gamma * within


_Table = dict[str, Callable[..., torch.Tensor]]

LOSSES: _Table = {"kl": kl, "ce": ce, "mse": mse, "dkd": dkd, "dist": dist}
VERSIONS = {"kl": 1, "ce": 1, "mse": 1, "dkd": 1, "dist": 1}


@dataclass(frozen=True)
class SoftLoss:
    """A soft loss with its settings, as students are trained with it; make it with `SoftLoss.parse`.

    squared: multiply by T², so that gradients keep their size when T changes (Hinton et al. 2015, section 2). `mse` has T²
    in it and is never multiplied.
    standardised: before T, every row of logits becomes (z − mean) / (std + 1e-7), of student and teacher: Sun, Ren, Li, Wang,
    Cao, "Logit Standardization in Knowledge Distillation" (2024, arXiv 2403.01427), algorithm 1. std divides by C − 1, as in
    the published code.
    """

    spec: Spec
    squared: bool
    standardised: bool

    @classmethod
    def parse(cls, text: str, *, squared: bool = True, standardised: bool = False) -> "SoftLoss":
        """text: a name in LOSSES or a plug-in, with settings.

        Raises InputError for a setting that is not a finite number ≥ 0, and for a plug-in that takes something elsewhere than
        it is given, by the names of its parameters: student and teacher, labels, temperature.
        """
        parsed = spec.parse(text, LOSSES, VERSIONS, given=4)
        taken = list(inspect.signature(parsed.target).parameters)[:4]
        if any(_place_of(name) not in (place, None) for place, name in enumerate(taken)):
            fix = "Wrap it in a function that takes these four in this order and hands on what it wants."
            expected, found = f"a function of ({', '.join(_GIVEN)}, …)", f"one of ({', '.join(taken)}, …)"
            raise InputError(f"loss {text!r}", expected=expected, found=found, fix=fix)
        defaults = {name: each.default for name, each in inspect.signature(parsed.target).parameters.items()}
        for name, value in parsed.arguments.items():
            if parsed.source is not None and value is defaults[name]:
                continue  # whatever its author has set
            number = isinstance(value, int | float) and not isinstance(value, bool)
            most = _MOST_WHOLE if isinstance(value, int) else sys.float_info.max
            if not number or not 0 <= value <= most:
                what, expected = f"loss {text!r}, {name}", "a finite number of at least 0 (a whole one of at most 2^53)"
                raise InputError(what, expected=expected, found=repr(value), fix="Correct the setting.")
        return cls(parsed, squared, standardised)

    @property
    def text(self) -> str:
        """The spec in canonical form."""
        return self.spec.text

    @property
    def needs_labels(self) -> bool:
        """Whether labels may be read: by `dkd`, and by a plug-in for all that is known."""
        return self.spec.target not in (kl, ce, mse, dist)

    def __call__(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        labels: torch.Tensor | None,
        temperature: Temperature,
        weight: float | torch.Tensor = 1.0,
    ) -> torch.Tensor:
        """Shapes as at the top of this file; returns (B,) or (B, K) float64.

        weight: a number, or (K,) float64; multiplied in together with T², because small products cost as much as big ones.
        """
        if targets.dim() != logits.dim():  # (B, C) against (K, K, C) would be broadcast the wrong way round
            shapes = f"targets {tuple(targets.shape)} for logits {tuple(logits.shape)}"
            raise ValueError(f"expected as many axes of targets as of logits, found {shapes}")
        if self.spec.source is not None:  # a loss of the user's own is given one dtype and one shape
            logits = logits.double()
            targets = targets.double().expand_as(logits)
        if self.standardised:
            logits, targets = _standardised(logits), _standardised(targets)
        values: torch.Tensor = self.spec(logits, targets, labels, temperature)
        self._require_per_row(values, logits)
        if self.squared and self.spec.target is not mse:
            weight = weight * _per_student(temperature) ** 2
        return values.double() * weight

    def require_use(self, classes: int) -> None:
        """Raise InputError where students of so many classes cannot learn by this loss, with the reason.

        It is called on a few rows, to see that it gives a value for each of them, which depends on the logits.
        """
        between = self.spec.arguments.get("beta", 0) > 0 if self.spec.target is dist else False
        for holds, what, reason, fix in (
            (self.standardised, "standardise", "a row of two standardised logits is (−1, 1) / √2 whatever they were",
             "Set `standardise: false`."),
            (between, f"loss {self.text}, beta", "two probabilities that sum to 1 correlate by −1 or 1 whatever they are",
             "Set `loss: kl`, or `dist(beta=0)` for the correlation over the batch alone."),
        ):  # fmt: skip
            if holds and classes == 2:
                found = f"two, of which nothing is learned: {reason}"
                raise InputError(what, expected="three classes or more", found=found, fix=fix)
        logits, targets, labels = _probe(5 if classes != 5 else 6, None, classes)
        values = self(logits.requires_grad_(), targets, labels, 2.0)
        if values.requires_grad:
            [gradient] = torch.autograd.grad(values.sum(), logits, allow_unused=True)
            if gradient is not None and bool((gradient != 0).any()):
                return
        fix = "Compute it by torch, of the logits that it is given, and give its terms a weight."
        raise InputError(f"loss {self.text}", expected="a loss with a gradient", found="one without", fix=fix)

    def stacks(self, classes: int) -> bool:
        """Whether several students can share a call: a plug-in is tried, on a few rows, against one student at a time."""
        if self.spec.target in LOSSES.values():
            return True
        rows, nets = next((rows, nets) for rows, nets in ((5, 3), (7, 4), (6, 2)) if classes not in (rows, nets))
        logits, targets, labels = _probe(rows, nets, classes)
        temperatures = torch.linspace(1, 4, nets, dtype=torch.float64)
        try:
            together = self(logits, targets, labels, temperatures[:, None])
            alone = [self(logits[:, net], targets[:, 0], labels, float(temperatures[net])) for net in range(nets)]
            return torch.allclose(together, torch.stack(alone, dim=1), rtol=1e-6, atol=1e-9)
        except (InputError, RuntimeError):
            return False

    def _require_per_row(self, values: object, logits: torch.Tensor) -> None:
        """Raise InputError unless a loss gave one number per row, and per student."""
        wanted = logits.shape[:-1]
        if isinstance(values, torch.Tensor) and values.shape == wanted and values.is_floating_point():
            return
        found = type(values).__name__
        if isinstance(values, torch.Tensor):
            found = f"{'a scalar' if not values.dim() else f'shape {tuple(values.shape)}'} of {values.dtype}"
        fix = "Return the loss of every row, neither summed nor averaged over rows; classes are the last axis, -1."
        raise InputError(f"loss {self.text}", expected=f"a float tensor of shape {tuple(wanted)}", found=found, fix=fix)


def _place_of(name: str) -> int | None:
    """Where a parameter of such a name belongs among the four; None for a name that says nothing."""
    words = [word.lower() for word in re.findall("[A-Z]*[a-z]+|[A-Z]+", name)]
    found = [place for part, place in _WORDS.items() if any(word.startswith(part) or word.endswith(part) for word in words)]
    return found[0] if found else _NAMES.get("_".join(words))


def _probe(rows: int, nets: int | None, classes: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, targets and labels to try a loss on; nets: students of a stack, None for one that is not stacked."""
    generator = torch.Generator().manual_seed(0)
    several, shared = ((nets,), (1,)) if nets else ((), ())
    logits = torch.randn(rows, *several, classes, generator=generator, dtype=torch.float64)
    targets = torch.randn(rows, *shared, classes, generator=generator, dtype=torch.float64)
    return logits, targets, torch.arange(rows) % classes


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """−log softmax(logits)[label] at T = 1, in nats.

    logits: (B, C), or (B, K, C) of K students, any float dtype; labels: (B,) int64. Returns (B,) or (B, K) float64.
    """
    if logits.dim() == 2:
        return functional.cross_entropy(logits.double(), labels, reduction="none")
    rows = logits.shape[:-1]
    each = _aligned(labels, len(rows)).expand(rows)
    return functional.cross_entropy(logits.double().movedim(-1, 1), each, reduction="none")  # torch wants the classes second


def _divergence(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """KL(softmax(teacher) ‖ softmax(student)) over the last axis, float64. Logs stay finite where probabilities are 0."""
    student, teacher = _log_softmax(student), _log_softmax(teacher)
    return (teacher.exp() * (teacher - student)).sum(dim=-1)


def _log_softmax(logits: torch.Tensor) -> torch.Tensor:
    """Over the last axis. Few classes of a stack are moved to the front, along which torch's vectors run over the rows."""
    if logits.dim() == 2 or logits.shape[-1] > _FEW_CLASSES:
        return torch.log_softmax(logits, dim=-1)
    return torch.log_softmax(logits.movedim(-1, 0), dim=0).movedim(0, -1)


def _apart(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(…, C) as logits of "the label or not", (…, 2), and of the classes that are not the label, (…, C − 1)."""
    label = _aligned(labels, logits.dim())  # (B, 1…, 1)
    shape = torch.broadcast_shapes(logits.shape[:-1], label.shape[:-1])
    logits = logits.expand(*shape, -1)
    place = torch.arange(logits.shape[-1] - 1, device=logits.device)
    own = logits.gather(-1, label.expand(*shape, -1))
    others = logits.gather(-1, (place + (place >= label)).expand(*shape, -1))
    return torch.cat([own, torch.logsumexp(others, dim=-1, keepdim=True)], dim=-1), others


def _correlation(one: torch.Tensor, other: torch.Tensor, dim: int) -> torch.Tensor:
    """Pearson's r along an axis; 0 where either is constant, and there torch gives the norm the gradient 0."""
    one, other = one - one.mean(dim=dim, keepdim=True), other - other.mean(dim=dim, keepdim=True)
    norms = torch.linalg.vector_norm(one, dim=dim) * torch.linalg.vector_norm(other, dim=dim)
    correlation: torch.Tensor = (one * other).sum(dim=dim) / (norms + _CORRELATION_EPS)
    return correlation


def _standardised(logits: torch.Tensor) -> torch.Tensor:
    logits = logits.double()
    deviation, mean = torch.std_mean(logits, dim=-1, keepdim=True)
    return (logits - mean) / (deviation + _STANDARD_EPS)


def _aligned(labels: torch.Tensor, axes: int) -> torch.Tensor:
    """(B,) as (B, 1, …) of so many axes."""
    return labels.view(-1, *[1] * (axes - 1))


def _per_student(temperature: Temperature) -> Temperature:
    """(K, 1), which fits (B, K, C), as (K,), which fits (B, K); a number as it is."""
    return temperature.squeeze(-1) if isinstance(temperature, torch.Tensor) else temperature
