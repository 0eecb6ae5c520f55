"""The recipe of a training: optimizer, schedule of the learning rate, epochs, batch size, precision and so on."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from pipeline.base import spec
from pipeline.base.errors import InputError, SoftcacheError, first_line
from pipeline.base.settings import check
from pipeline.models.stack import is_weight
from pipeline.models.temperature import MOST
from pipeline.models.training import Training
from pipeline.training import losses, optimizers

# ---------------------------------------------------------------- optimizers


def sgd(
    parameters: Iterable[torch.Tensor],
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    *,
    decay_biases: bool = True,
) -> torch.optim.Optimizer:
    """Stochastic gradient descent. decay_biases: see `_groups`."""
    return optimizers.SGD(
        _groups(parameters, decay_biases), lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov
    )


def adam(
    parameters: Iterable[torch.Tensor],
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    weight_decay: float = 0.0,
    *,
    decay_biases: bool = True,
) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015, arXiv 1412.6980); weight decay is part of the gradient. decay_biases: see `_groups`."""
    return optimizers.Adam(_groups(parameters, decay_biases), lr=lr, betas=(beta1, beta2), weight_decay=weight_decay)


def adamw(
    parameters: Iterable[torch.Tensor],
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    weight_decay: float = 0.0,
    *,
    decay_biases: bool = True,
) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv 1711.05101). decay_biases: see `_groups`."""
    return optimizers.AdamW(_groups(parameters, decay_biases), lr=lr, betas=(beta1, beta2), weight_decay=weight_decay)


def _groups(parameters: Iterable[torch.Tensor], decay_biases: bool) -> Iterable[Any]:
    """What torch's optimizers are given: the parameters; or those that are no weights, apart and without weight decay.

    He et al. 2019 (arXiv 1812.01187, section 3.1): biases, and what norms multiply by and add, are better not decayed.
    """
    if not isinstance(decay_biases, bool):
        raise ValueError(f"decay_biases={decay_biases!r}, expected True or False")
    if decay_biases:
        return parameters
    held = list(parameters)
    weights, others = ([each for each in held if is_weight(each) == wanted] for wanted in (True, False))
    return [{"params": weights}, {"params": others, "weight_decay": 0.0}]


OPTIMIZERS = {"sgd": sgd, "adam": adam, "adamw": adamw}
OPTIMIZER_VERSIONS = {"sgd": 1, "adam": 1, "adamw": 1}


# ---------------------------------------------------------------- schedules: share of the steps done → factor on lr


def constant(done: float) -> float:
    """The learning rate stays as it is."""
    return 1.0


def cosine(done: float, warmup: float = 0.0) -> float:
    """Linear from 0 over the share `warmup` of all steps, then half a cosine to 0 (arXiv 1608.03983, no restarts)."""
    if done < warmup:
        return done / warmup
    return (1 + math.cos(math.pi * (done - warmup) / (1 - warmup))) / 2


def step(done: float, milestones: Sequence[float] = (0.5, 0.75), factor: float = 0.1) -> float:
    """Times `factor` at each of `milestones`, shares of all steps; by default as He et al. 2016 (arXiv 1512.03385)."""
    if not (0 <= factor <= 1 and all(0 < each < 1 for each in milestones)):
        raise ValueError(f"milestones={list(milestones)}, factor={factor}")
    return float(factor ** sum(done >= each for each in milestones))


def one_cycle(done: float, warmup: float = 0.3, start: float = 0.04, end: float = 4e-6) -> float:
    """From `start` up to 1 over the share `warmup`, then down to `end`, both as half cosines (arXiv 1708.07120).

    The cycle of the momentum is left out.
    """
    low, share = (start, done / warmup) if done < warmup else (end, 1 - (done - warmup) / (1 - warmup))
    return low + (1 - low) * (1 - math.cos(math.pi * share)) / 2


def linear(done: float, start: float = 1.0, end: float = 0.0) -> float:
    """In a straight line from `start` to `end`."""
    return start + (end - start) * done


SCHEDULES = {"constant": constant, "cosine": cosine, "step": step, "one_cycle": one_cycle, "linear": linear}
SCHEDULE_VERSIONS = {"constant": 1, "cosine": 1, "step": 1, "one_cycle": 1, "linear": 1}


def parse_schedule(text: str, what: str = "schedule") -> spec.Spec:
    """A schedule, tried at a few shares; raises InputError, naming the setting `what`, for factors outside [0, 1]."""
    course = spec.parse(text, SCHEDULES, SCHEDULE_VERSIONS, given=1)
    try:
        factors = [course(share) for share in (0.0, 0.25, 0.5, 1.0)]
        if not all(0 <= factor <= 1 for factor in factors) or not 0 <= course.arguments.get("warmup", 0.0) < 1:
            raise ValueError("settings out of range")
    except (ArithmeticError, ValueError, TypeError) as error:
        expected = "numbers in [0, 1), warmup below 1, milestones between 0 and 1"
        raise InputError(f"{what} {text!r}", expected=expected, found=str(error), fix="Correct them.") from error
    return course


# ---------------------------------------------------------------- the recipe


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; make it with `Recipe.parse`. optimizer, schedule, virtual: parsed from `settings`."""

    settings: Training
    optimizer: spec.Spec
    schedule: spec.Spec
    virtual: spec.Spec | None

    @classmethod
    def parse(cls, **settings: Any) -> "Recipe":
        """Check settings and make a recipe of them.

        Args:
            settings: The fields of models.training.Training, such as optimizer="sgd(lr=0.1)", epochs=10, batch_size=128.

        Returns:
            The recipe, whose optimizer was tried on a tiny parameter.

        Raises:
            InputError: For a spec that does not parse, and for a setting out of range.
        """
        given = Training(**settings)
        check(given)
        if given.patience is not None and given.keep != "best":
            fix = "Set `keep: best`, or leave out `patience`."
            raise InputError("patience", expected="`keep: best` with it", found=f"`keep: {given.keep}`", fix=fix)
        rate = spec.parse(given.optimizer, OPTIMIZERS, OPTIMIZER_VERSIONS, given=1)
        _try_optimizer(rate)
        course = parse_schedule(given.schedule)
        virtual = None if given.virtual_teacher is None else _virtual(given.virtual_teacher)
        if virtual and given.label_smoothing:
            found, fix = f"label_smoothing {given.label_smoothing:g} too", "Leave one of them out."
            raise InputError("virtual_teacher", expected="no smoothing of labels beside it", found=found, fix=fix)
        return cls(given, rate, course, virtual)

    @property
    def recorded(self) -> Training:
        """The settings as model.json stores them: with the identities of what they name."""
        virtual = None if self.virtual is None else self.virtual.identity
        optimizer, schedule = self.optimizer.identity, self.schedule.identity
        return replace(self.settings, optimizer=optimizer, schedule=schedule, virtual_teacher=virtual)

    @property
    def specs(self) -> tuple[spec.Spec, ...]:
        """The specs, each of which may name a plug-in."""
        return (self.optimizer, self.schedule) + (() if self.virtual is None else (self.virtual,))

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory for inputs and cached logits; see examples.py."""
        return int(self.settings.memory * 1e9)

    @property
    def elementwise(self) -> bool:
        """Whether the optimizer is known to update every weight by itself, so that stacked nets do not affect each other."""
        return self.optimizer.target in OPTIMIZERS.values()

    @property
    def selects(self) -> bool:
        """Whether the validation split decides which weights are kept."""
        return self.settings.keep == "best"


def _virtual(text: str) -> spec.Spec:
    """The virtual teacher of a setting; raises InputError for one that is out of range, and for a plug-in."""
    what = f"virtual_teacher {text!r}"
    spec.built_in(text, losses.VIRTUAL, what)
    found = spec.parse(text, losses.VIRTUAL, losses.VIRTUAL_VERSIONS, given=2)
    given = found.arguments
    if all(type(each) in (int, float) for each in given.values()):
        shares = 0 <= given["weight"] <= 1 and 0 < given["probability"] < 1
        if shares and 0 < given["temperature"] <= MOST and 0 <= given["multiplier"] <= MOST:
            return found
    expected = "tf_kd with a weight from 0 to 1, a probability between them, a temperature above 0, a multiplier from 0 on"
    fix = "Write for example `tf_kd(weight=0.1)`."
    raise InputError(what, expected=expected, found=found.text, fix=fix)


def _try_optimizer(rate: spec.Spec) -> None:
    """Raise InputError unless the spec makes an optimizer that takes a step."""
    what, weight = f"optimizer {rate.text}", torch.zeros(1, 1, requires_grad=True)
    weight.grad = torch.zeros(1, 1)
    try:
        made = rate([weight])
        if not isinstance(made, torch.optim.Optimizer):
            found = type(made).__name__
            raise InputError(what, expected="a torch.optim.Optimizer", found=found, fix="Correct the function.")
        if not all("lr" in group for group in made.param_groups):
            fix = "Name it lr in every group of parameters."
            raise InputError(what, expected="a learning rate, for the schedule to multiply", found="none", fix=fix)
        made.step()
    except SoftcacheError:
        raise
    except Exception as error:
        expected = "valid settings, and steps that need no closure"
        raise InputError(what, expected=expected, found=first_line(error), fix="Correct them.") from error
