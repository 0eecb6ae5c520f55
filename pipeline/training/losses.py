"""Losses, with one value per example (not reduced): eight soft losses by name, and the cross-entropy with labels.

Every soft loss is called as loss(logits, targets, labels, temperature, **settings):

    logits       (B, C) of one student, or (B, K, C) of K students that share a batch; raw, any float dtype
    targets      raw logits of the teacher: shaped like `logits`, or with as many axes and broadcastable, as (B, 1, C)
    labels       (B,) int64; only `dkd` reads them, the others accept None
    temperature  T, above 0: a number, or a float64 tensor (K, 1), one for each student

and returns float64, (B,) or (B, K). The batch is the first axis and the classes are the last.
Everything is computed in float64: at high temperatures the terms of a sum nearly cancel, and T² multiplies the rounding errors.
No loss but `mlkd` contains T²; `SoftLoss` multiplies by it.
"""

import inspect
import math
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

_CORRELATION_EPS = 1e-8  # both as in the published code of the authors
_STANDARD_EPS = 1e-7
_AROUND = (0.5, 0.75, 1.0, 1.25, 1.5)  # times T: the temperatures of `mlkd`, which are 2, 3, 4, 5 and 6 at T = 4 as published
_NAMES = dict.fromkeys(("label", "labels", "y"), 2) | dict.fromkeys(("temp", "t", "tau"), 3)  # parameter name → index
_WORDS = {"temperature": 3, "student": 0, "teacher": 1}  # word in a parameter name → index; the first match decides
_GIVEN = ("logits", "targets", "labels", "temperature")
_MOST_WHOLE = 2**53  # up to here float64 holds every whole number
_FEW_CLASSES = 32  # up to here a softmax of a stack goes along its rows: three times as fast for 32 students and 10 classes


def kl(logits: torch.Tensor, targets: torch.Tensor, labels: torch.Tensor | None, temperature: Temperature) -> torch.Tensor:
    """KL(softmax(targets / T) ‖ softmax(logits / T)), in nats.

    Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network" (2015, arXiv 1503.02531), section 2. The paper
    writes the cross-entropy with soft targets, see `ce`; this has the same gradient, its equation 2, and the minimum 0.
    """
    return _divergence(logits.double() / temperature, targets.double() / temperature)


def ce(logits: torch.Tensor, targets: torch.Tensor, labels: torch.Tensor | None, temperature: Temperature) -> torch.Tensor:
    """−Σ softmax(targets / T) · log softmax(logits / T), in nats: the soft term as Hinton et al. 2015, section 2, write it.

    It is `kl` plus the entropy of the softened targets, which does not depend on the student: the gradients are equal.
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
    1 − p is a sum over the others, so that neither saturates. That code's weight, which grows over the first 20 epochs, is
    course.Course's warm-up.
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


def js(logits: torch.Tensor, targets: torch.Tensor, labels: torch.Tensor | None, temperature: Temperature) -> torch.Tensor:
    """½ KL(p ‖ m) + ½ KL(q ‖ m) with m = ½ (p + q), in nats, p = softmax(targets / T), q = softmax(logits / T): at most ln 2.

    Lin, "Divergence Measures Based on the Shannon Entropy" (IEEE Transactions on Information Theory 37, 1991). Wen, Li, Du,
    Mou, "f-Divergence Minimization for Sequence-Level Knowledge Distillation" (2023, arXiv 2307.15190) distil by it. For a
    student near its teacher it is a quarter of `kl`.
    """
    student, teacher = _log_softmax(logits.double() / temperature), _log_softmax(targets.double() / temperature)
    middle = torch.logaddexp(student, teacher) - math.log(2)
    parts = teacher.exp() * (teacher - middle) + student.exp() * (student - middle)
    return parts.sum(dim=-1) / 2


def tv(logits: torch.Tensor, targets: torch.Tensor, labels: torch.Tensor | None, temperature: Temperature) -> torch.Tensor:
    """½ Σ |softmax(targets / T) − softmax(logits / T)|: the total variation, from 0 to 1.

    Wen et al. 2023 (arXiv 2307.15190), see `js`. Its gradient falls as 1 / T, and not as 1 / T² like that of `kl`: T² makes
    it grow with T. Where two probabilities are equal it has a kink, and the gradient there is 0.
    """
    student = torch.softmax(logits.double() / temperature, dim=-1)
    return (torch.softmax(targets.double() / temperature, dim=-1) - student).abs().sum(dim=-1) / 2


def mlkd(
    logits: torch.Tensor,
    targets: torch.Tensor,
    labels: torch.Tensor | None,
    temperature: Temperature,
    instance: float = 1.0,
    batch: float = 1.0,
    classes: float = 1.0,
) -> torch.Tensor:
    """Σ of instance · τ² KL + batch · ‖P Pᵀ − Q Qᵀ‖² / B + classes · ‖Pᵀ P − Qᵀ Q‖² / C over τ = T · (½, ¾, 1, 1¼, 1½).

    Jin, Wang, Lin, "Multi-Level Logit Distillation" (CVPR 2023). P and Q (B, C) are the probabilities of teacher and student
    at τ, of a whole batch, which holds each row in a weak and in a strong view there, and in two views of one policy here,
    with `draws: 2`. The term of the batch is a sum over rows; that of the classes belongs to the batch, and every example
    carries its value: the mean over examples is the published loss. The published code takes these two of the weak view
    alone, and has masks that multiply losses which are reduced already, and so halve them; neither is done here.
    """
    found: torch.Tensor | None = None
    targets = targets.double().expand(len(logits), *targets.shape[1:])  # products are of all rows, also of targets they share
    for factor in _AROUND:
        heat = factor * temperature
        squared = heat.squeeze(-1) ** 2 if isinstance(heat, torch.Tensor) else heat**2
        student, teacher = logits.double() / heat, targets / heat
        value = instance * squared * _divergence(student, teacher)
        q, p = torch.softmax(student, dim=-1), torch.softmax(teacher, dim=-1)
        rows = _gap(p, q, "b...c,d...c->bd...").sum(dim=1)  # (B, …)
        columns = _gap(p, q, "b...c,b...e->...ce").sum(dim=(-2, -1)) / logits.shape[-1]  # (…)
        value = value + batch * rows + classes * columns
        found = value if found is None else found + value
    assert found is not None
    return found


LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "kl": kl, "ce": ce, "mse": mse, "dkd": dkd, "dist": dist, "js": js, "tv": tv, "mlkd": mlkd,
}  # fmt: skip
VERSIONS = {"kl": 1, "ce": 1, "mse": 1, "dkd": 1, "dist": 1, "js": 1, "tv": 1, "mlkd": 1}


@dataclass(frozen=True)
class SoftLoss:
    """A soft loss with its settings; make it with `SoftLoss.parse`, and call it on the logits of a batch.

    squared: multiply by T², so that gradients keep their size when T changes (Hinton et al. 2015, section 2). `mse` and
    `mlkd` are never multiplied: one is the limit of a loss that contains T², the other contains it.
    standardised: before the division by T, the logits z of each row become (z − mean) / (std + 1e-7), for student and
    teacher: Sun, Ren, Li, Wang, Cao, "Logit Standardization in Knowledge Distillation" (2024, arXiv 2403.01427),
    algorithm 1. std divides by C − 1, as in the published code.
    """

    spec: Spec
    squared: bool
    standardised: bool

    @classmethod
    def parse(cls, text: str, *, squared: bool = True, standardised: bool = False) -> "SoftLoss":
        """Parse a loss spec.

        Args:
            text: A name and its settings, such as `kl` or `dkd(beta=2)`, or a plug-in such as `my_losses:loss`.
            squared: Multiply by T².
            standardised: Standardise the logits of each row before the division by T.

        Returns:
            The loss.

        Raises:
            InputError: For an unknown name, for a setting that is not a finite number of at least 0, and for a plug-in
                whose parameter names say that it takes logits, targets, labels and temperature in another order.
        """
        parsed = spec.parse(text, LOSSES, VERSIONS, given=4)
        parameters = inspect.signature(parsed.target).parameters
        taken = list(parameters)[:4]
        if any(_index_of(name) not in (index, None) for index, name in enumerate(taken)):
            fix = "Wrap it in a function that takes these four in this order."
            expected, found = f"a function of ({', '.join(_GIVEN)}, …)", f"one of ({', '.join(taken)}, …)"
            raise InputError(f"loss {text!r}", expected=expected, found=found, fix=fix)
        for name, value in parsed.arguments.items():
            if parsed.source is not None and value is parameters[name].default:
                continue  # a default of a plug-in may be anything
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
        """Whether the loss may read labels: `dkd` does, and a plug-in might."""
        return self.spec.target not in (kl, ce, mse, dist, js, tv, mlkd)

    @property
    def couples(self) -> bool:
        """Whether the loss of an example may depend on others of its batch: `dist` and `mlkd` do, and a plug-in might."""
        return self.spec.target not in (kl, ce, mse, dkd, js, tv)

    @property
    def softens(self) -> bool:
        """Whether T takes part in it."""
        return self.spec.target is not mse

    @property
    def spreads(self) -> bool:
        """Whether it softens by other temperatures than the T it is given: then targets must not depend on T."""
        return self.spec.target is mlkd

    def __call__(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        labels: torch.Tensor | None,
        temperature: Temperature,
        weight: float | torch.Tensor = 1.0,
    ) -> torch.Tensor:
        """The loss of each example, not reduced.

        Args:
            logits: Raw logits of a student, (B, C), or of K students, (B, K, C); any float dtype.
            targets: Raw logits of the teacher: shaped like `logits`, or with as many axes and broadcastable, as (B, 1, C).
            labels: (B,) int64; may be None unless `needs_labels`.
            temperature: T, above 0: a number, or (K, 1) float64.
            weight: A factor: a number, or (K,) float64.

        Returns:
            (B,) or (B, K) float64.

        Raises:
            InputError: For a plug-in that fails, or does not return one value per example.
            ValueError: For targets with another number of axes than the logits.
        """
        if targets.dim() != logits.dim():  # (B, C) against (K, K, C) would be broadcast along the wrong axes
            shapes = f"targets {tuple(targets.shape)} for logits {tuple(logits.shape)}"
            raise ValueError(f"expected as many axes of targets as of logits, found {shapes}")
        if self.spec.source is not None:  # a plug-in gets logits and targets of one dtype and one shape
            logits = logits.double()
            targets = targets.double().expand_as(logits)
        if self.standardised:
            logits, targets = _standardised(logits), _standardised(targets)
        values: torch.Tensor = self.spec(logits, targets, labels, temperature)
        self._require_per_row(values, logits)
        if self.squared and self.spec.target not in (mse, mlkd):
            # T² and weight are (K,), and multiplied first: one product over the batch instead of two
            weight = weight * (temperature.squeeze(-1) if isinstance(temperature, torch.Tensor) else temperature) ** 2
        return values.double() * weight

    def require_use(self, classes: int) -> None:
        """Try the loss on a few rows of so many classes.

        Args:
            classes: The number of classes, at least 2.

        Raises:
            InputError: Where a student could not learn by it: two classes for a loss that needs three, no value per
                example, or no gradient. It says why.
        """
        between = self.spec.arguments.get("beta", 0) > 0 if self.spec.target is dist else False
        for holds, what, reason, fix in (
            (self.standardised, "standardise", "two standardised logits are always −1/√2 and 1/√2",
             "Set `standardise: false`."),
            (between, f"loss {self.text}, beta", "the correlation of two probabilities that sum to 1 is always −1 or 1",
             "Set `loss: kl`, or `dist(beta=0)` for the correlation over the batch alone."),
        ):  # fmt: skip
            if holds and classes == 2:
                found = f"two, from which nothing is learned: {reason}"
                raise InputError(what, expected="three classes or more", found=found, fix=fix)
        logits, targets, labels = _probe(5 if classes != 5 else 6, None, classes)
        values = self(logits.requires_grad_(), targets, labels, 2.0)
        if values.requires_grad:
            [gradient] = torch.autograd.grad(values.sum(), logits, allow_unused=True)
            if gradient is not None and bool((gradient != 0).any()):
                return
        fix = "Compute it with torch from the logits that it is given, and give its terms a weight above 0."
        raise InputError(f"loss {self.text}", expected="a loss with a gradient", found="one without", fix=fix)

    def stacks(self, classes: int) -> bool:
        """Try whether one call can serve several students, with the same values as one call for each student.

        Args:
            classes: The number of classes, at least 2.

        Returns:
            True for a built-in loss; for a plug-in, whether its values on a few rows agree.
        """
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
        """Raise InputError unless the loss returned one number per row and student."""
        wanted = logits.shape[:-1]
        if isinstance(values, torch.Tensor) and values.shape == wanted and values.is_floating_point():
            return
        found = type(values).__name__
        if isinstance(values, torch.Tensor):
            found = f"{'a scalar' if not values.dim() else f'shape {tuple(values.shape)}'} of {values.dtype}"
        fix = "Return the loss of every row, without a sum or mean over rows; the classes are the last axis."
        raise InputError(f"loss {self.text}", expected=f"a float tensor of shape {tuple(wanted)}", found=found, fix=fix)


def _index_of(name: str) -> int | None:
    """The index in _GIVEN that a parameter of this name stands for; None for a name that does not tell."""
    words = [word.lower() for word in re.findall("[A-Z]*[a-z]+|[A-Z]+", name)]
    found = [index for part, index in _WORDS.items() if any(word.startswith(part) or word.endswith(part) for word in words)]
    return found[0] if found else _NAMES.get("_".join(words))


def _probe(rows: int, nets: int | None, classes: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, targets and labels to try a loss on. nets: students in a stack; None for one that is not stacked."""
    generator = torch.Generator().manual_seed(0)
    several, shared = ((nets,), (1,)) if nets else ((), ())
    logits = torch.randn(rows, *several, classes, generator=generator, dtype=torch.float64)
    targets = torch.randn(rows, *shared, classes, generator=generator, dtype=torch.float64)
    return logits, targets, torch.arange(rows) % classes


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """−log softmax(logits)[label] at T = 1, in nats; the share `smoothing` of a label is divided among all classes.

    logits: (B, C), or (B, K, C) of K students, any float dtype; labels: (B,) int64. Returns (B,) or (B, K) float64.
    """
    if logits.dim() == 2:
        return functional.cross_entropy(logits.double(), labels, reduction="none", label_smoothing=smoothing)
    rows_last = logits.double().movedim(0, -1)  # (K, C, B)
    each = labels.expand(len(rows_last), -1)
    return functional.cross_entropy(rows_last, each, reduction="none", label_smoothing=smoothing).t()


def tf_kd(
    logits: torch.Tensor,
    labels: torch.Tensor,
    weight: float,
    probability: float = 0.99,
    temperature: float = 20.0,
    multiplier: float = 1.0,
) -> torch.Tensor:
    """(1 − weight) · cross-entropy + weight · multiplier · KL(softmax(d / T) ‖ softmax(logits)), a virtual teacher's.

    d is `probability` for the label and (1 − probability) / (C − 1) for every other class. Yuan, Tay, Li, Wang, Feng,
    "Revisiting Knowledge Distillation via Label Smoothing Regularization" (2020, arXiv 1909.11723), Tf-KD_reg. As in the
    authors' code the student is not softened, and d is divided by T as logits are. The KL of that code is a mean over classes
    too: its multiplier is C times this one.

    logits, labels: as of `cross_entropy`, and so is what is returned.
    """
    classes = logits.shape[-1]
    rest = (1 - probability) / (classes - 1)
    designed = rest + (probability - rest) * functional.one_hot(labels, classes).double()
    designed = designed.view(len(designed), *[1] * (logits.dim() - 2), classes) / temperature
    return (1 - weight) * cross_entropy(logits, labels) + weight * multiplier * _divergence(logits.double(), designed)


VIRTUAL: dict[str, Callable[..., torch.Tensor]] = {"tf_kd": tf_kd}
VIRTUAL_VERSIONS = {"tf_kd": 1}


def _divergence(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """KL(softmax(teacher) ‖ softmax(student)) over the last axis, float64; log-probabilities stay finite."""
    student, teacher = _log_softmax(student), _log_softmax(teacher)
    return (teacher.exp() * (teacher - student)).sum(dim=-1)


def rows_last(values: torch.Tensor) -> torch.Tensor:
    """(B, K, C), with the rows side by side in memory where classes are few; other shapes stay as they are."""
    if values.dim() == 2 or values.shape[-1] > _FEW_CLASSES:
        return values
    return values.movedim(0, -1).contiguous().movedim(-1, 0)


def _log_softmax(logits: torch.Tensor) -> torch.Tensor:
    """Over the last axis. For few classes of a stack, torch works on several rows at a time where they are side by side."""
    if logits.dim() == 2 or logits.shape[-1] > _FEW_CLASSES:
        return torch.log_softmax(logits, dim=-1)
    return torch.log_softmax(logits.movedim(0, -1), dim=-2).movedim(-1, 0)


def _apart(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Split logits (…, C) into those of "the label or not", (…, 2), and those of the other classes, (…, C − 1)."""
    label = _aligned(labels, logits.dim())  # (B, 1…, 1)
    shape = torch.broadcast_shapes(logits.shape[:-1], label.shape[:-1])
    logits = logits.expand(*shape, -1)
    index = torch.arange(logits.shape[-1] - 1, device=logits.device)
    own = logits.gather(-1, label.expand(*shape, -1))
    others = logits.gather(-1, (index + (index >= label)).expand(*shape, -1))
    return torch.cat([own, torch.logsumexp(others, dim=-1, keepdim=True)], dim=-1), others


def _correlation(one: torch.Tensor, other: torch.Tensor, dim: int) -> torch.Tensor:
    """Pearson's r along an axis; 0 where either is constant, with a gradient of 0 from the norm."""
    one, other = one - one.mean(dim=dim, keepdim=True), other - other.mean(dim=dim, keepdim=True)
    norms = torch.linalg.vector_norm(one, dim=dim) * torch.linalg.vector_norm(other, dim=dim)
    correlation: torch.Tensor = (one * other).sum(dim=dim) / (norms + _CORRELATION_EPS)
    return correlation


def _gap(one: torch.Tensor, other: torch.Tensor, products: str) -> torch.Tensor:
    """Squared differences of inner products of a tensor with itself, in the notation of torch.einsum."""
    return (torch.einsum(products, one, one) - torch.einsum(products, other, other)).square()


def _standardised(logits: torch.Tensor) -> torch.Tensor:
    logits = logits.double()
    deviation, mean = torch.std_mean(logits, dim=-1, keepdim=True)
    return (logits - mean) / (deviation + _STANDARD_EPS)


def _aligned(labels: torch.Tensor, axes: int) -> torch.Tensor:
    """(B,) as (B, 1, …) with this many axes."""
    return labels.view(-1, *[1] * (axes - 1))
