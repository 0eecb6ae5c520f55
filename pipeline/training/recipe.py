"""The recipe of a training: optimiser, schedule of its learning rate, and how long, in what precision, to which epoch."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from pipeline.base import spec
from pipeline.base.errors import InputError, SoftcacheError, first_line
from pipeline.models.modelfile import Training

KEEP = ("last", "best")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MOST_MEMORY = 1e9  # GB


# ---------------------------------------------------------------- optimisers


def sgd(parameters: Iterable, lr: float, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False):
    """Stochastic gradient descent."""
    return torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)


def adamw(parameters: Iterable, lr: float, beta1: float = 0.9, beta2: float = 0.999, weight_decay: float = 0.0):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv 1711.05101)."""
    return torch.optim.AdamW(parameters, lr=lr, betas=(beta1, beta2), weight_decay=weight_decay)


OPTIMIZERS = {"sgd": sgd, "adamw": adamw}
OPTIMIZER_VERSIONS = {"sgd": 1, "adamw": 1}


# ---------------------------------------------------------------- schedules: share of the steps done → factor on lr


def constant(done: float) -> float:
    """The learning rate as it is."""
    return 1.0


def cosine(done: float, warmup: float = 0.0) -> float:
    """Linear from 0 over the share `warmup` of all steps, then half a cosine to 0 (arXiv 1608.03983, no restarts)."""
    if done < warmup:
        return done / warmup
    return (1 + math.cos(math.pi * (done - warmup) / (1 - warmup))) / 2


def one_cycle(done: float, warmup: float = 0.3, start: float = 0.04, end: float = 4e-6) -> float:
    """From `start` up to 1 over the share `warmup`, then down to `end`, both as half cosines (arXiv 1708.07120).

    The cycle of the momentum is left out.
    """
    low, share = (start, done / warmup) if done < warmup else (end, 1 - (done - warmup) / (1 - warmup))
    return low + (1 - low) * (1 - math.cos(math.pi * share)) / 2


SCHEDULES = {"constant": constant, "cosine": cosine, "one_cycle": one_cycle}
SCHEDULE_VERSIONS = {"constant": 1, "cosine": 1, "one_cycle": 1}


# ---------------------------------------------------------------- the recipe


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    max_norm: largest L2 norm of the weights into one unit, enforced after every step (Hinton et al. 2012, arXiv
    1207.0580); None for no limit. memory: GB that rows may take; beyond it they are streamed (see examples.py).
    keep: weights of the last epoch, or of the best: the one with the lowest validation NLL. patience: stop after so many
    epochs in a row that were not the best; None for never. precision: float32, or bfloat16 for the products of the
    forward and backward pass (torch.autocast), with float32 weights, and losses in float64.
    """

    optimizer: spec.Spec
    schedule: spec.Spec
    epochs: int
    batch_size: int
    max_norm: float | None
    memory: float = 4.0
    keep: str = "last"
    patience: int | None = None
    precision: str = "float32"

    @classmethod
    def parse(
        cls,
        *,
        optimizer: str,
        schedule: str,
        epochs: int,
        batch_size: int,
        max_norm: float | None = None,
        memory: float = 4.0,
        keep: str = "last",
        patience: int | None = None,
        precision: str = "float32",
    ) -> "Recipe":
        """Raises InputError for a spec that does not parse or a number out of range."""
        numbers = {
            "epochs": epochs, "batch_size": batch_size, "max_norm": max_norm, "memory": memory, "patience": patience
        }  # fmt: skip
        for name, value in numbers.items():
            if value is not None and not 0 < value < math.inf:
                raise InputError(name, expected="a number above 0", found=str(value), fix="Correct the setting.")
        if memory > MOST_MEMORY:
            expected = f"at most {MOST_MEMORY:g} (GB)"
            raise InputError("memory", expected=expected, found=str(memory), fix="Correct the setting.")
        for name, value, known in (("keep", keep, KEEP), ("precision", precision, PRECISIONS)):
            if value not in known:
                raise InputError(name, expected=" or ".join(known), found=repr(value), fix="Correct the setting.")
        if patience is not None and keep != "best":
            fix = "Set `keep: best`, or leave out `patience`."
            raise InputError("patience", expected="`keep: best` with it", found=f"`keep: {keep}`", fix=fix)
        rate = spec.parse(optimizer, OPTIMIZERS, OPTIMIZER_VERSIONS, given=1)
        course = spec.parse(schedule, SCHEDULES, SCHEDULE_VERSIONS, given=1)
        _try_optimizer(rate)
        try:
            factors = [course(share) for share in (0.0, 0.25, 0.5, 1.0)]
            if not all(0 <= factor <= 1 for factor in factors) or not 0 <= course.arguments.get("warmup", 0.0) < 1:
                raise ValueError("settings out of range")
        except (ArithmeticError, ValueError, TypeError) as error:
            expected = "numbers in [0, 1), warmup below 1"
            raise InputError(f"schedule {schedule!r}", expected=expected, found=str(error), fix="Correct them.") from error
        return cls(rate, course, epochs, batch_size, max_norm, memory, keep, patience, precision)

    @property
    def told(self) -> Training:
        """What model.json says of the training."""
        return Training(
            self.optimizer.identity, self.schedule.identity, self.epochs, self.batch_size, self.max_norm, self.memory,
            self.keep, self.patience, self.precision,
        )  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self.told)

    @property
    def specs(self) -> tuple[spec.Spec, ...]:
        """The two parts that may be plug-ins."""
        return self.optimizer, self.schedule

    @property
    def memory_bytes(self) -> int:
        """The budget of examples.py."""
        return int(self.memory * 1e9)

    @property
    def elementwise(self) -> bool:
        """Whether the optimizer is known to treat every weight by itself, so that stacked nets do not touch each other."""
        return self.optimizer.target in OPTIMIZERS.values()

    @property
    def selects(self) -> bool:
        """Whether the validation split decides which weights are kept."""
        return self.keep == "best"


def _try_optimizer(rate: spec.Spec) -> None:
    """Raise InputError unless an optimizer can be made by these settings, and takes a step."""
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
