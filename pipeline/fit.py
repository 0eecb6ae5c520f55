"""The only training loop. What is learned (labels, soft targets) is the objective's business; this file steps."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from pipeline import metrics, randomness, runtime, spec
from pipeline.errors import InputError
from pipeline.examples import Batch, Examples
from pipeline.predict import predict
from pipeline.randomness import Use

Objective = Callable[[torch.Tensor, Batch], torch.Tensor]  # (logits (B, classes), the batch) → (B,) losses


# ---------------------------------------------------------------- optimisers


def sgd(parameters: Iterable, lr: float, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False):
    """Stochastic gradient descent."""
    return torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)


def adamw(parameters: Iterable, lr: float, beta1: float = 0.9, beta2: float = 0.999, weight_decay: float = 0.0):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv 1711.05101)."""
    return torch.optim.AdamW(parameters, lr=lr, betas=(beta1, beta2), weight_decay=weight_decay)


OPTIMIZERS = {"sgd": sgd, "adamw": adamw}


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


# ---------------------------------------------------------------- the loop


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    max_norm: largest L2 norm of the weights into one unit, enforced after every step (Hinton et al. 2012, arXiv
    1207.0580); None for no limit. memory: GB that rows may take; beyond it they are streamed (see examples.py).
    """

    optimizer: spec.Spec
    schedule: spec.Spec
    epochs: int
    batch_size: int
    max_norm: float | None
    memory: float = 4.0

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
    ) -> "Recipe":
        """Raises InputError for a spec that does not parse or a number out of range."""
        numbers = {"epochs": epochs, "batch_size": batch_size, "max_norm": max_norm, "memory": memory}
        for name, value in numbers.items():
            if value is not None and not 0 < value < math.inf:
                raise InputError(name, expected="a number above 0", found=str(value), fix="Correct the setting.")
        rate = spec.parse(optimizer, OPTIMIZERS, given=1)
        course = spec.parse(schedule, SCHEDULES, given=1)
        try:
            rate([torch.zeros(1, requires_grad=True)])
        except (ValueError, TypeError) as error:
            raise InputError(
                f"optimizer {optimizer!r}", expected="valid settings", found=str(error), fix="Correct them."
            ) from error
        try:
            factors = [course(share) for share in (0.0, 0.25, 0.5, 1.0)]
            if not all(0 <= factor <= 1 for factor in factors) or not 0 <= course.arguments.get("warmup", 0.0) < 1:
                raise ValueError("settings out of range")
        except (ArithmeticError, ValueError, TypeError) as error:
            expected = "numbers in [0, 1), warmup below 1"
            raise InputError(f"schedule {schedule!r}", expected=expected, found=str(error), fix="Correct them.") from error
        return cls(rate, course, epochs, batch_size, max_norm, memory)

    def facts(self) -> dict[str, str | int | float | None]:
        """What model.json says of the training."""
        return {
            "optimizer": self.optimizer.text,
            "schedule": self.schedule.text,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "max_norm": self.max_norm,
            "memory": self.memory,
        }

    @property
    def memory_bytes(self) -> int:
        """The budget of examples.py."""
        return int(self.memory * 1e9)


@dataclass(frozen=True)
class Validation:
    """What is measured after every epoch; the test split never is. pixels: (N, C, H, W) uint8; labels: (N,) int64."""

    pixels: torch.Tensor
    labels: np.ndarray

    def measure(self, model: torch.nn.Module) -> dict[str, float]:
        logits = predict(model, self.pixels)
        return {"valid_accuracy": metrics.accuracy(logits, self.labels), "valid_nll": metrics.nll(logits, self.labels)}


def fit(
    model: torch.nn.Module,
    examples: Examples,
    objective: Objective,
    recipe: Recipe,
    validation: Validation,
    *,
    seed: int,
    name: str,
) -> list[dict[str, float]]:
    """Train `model` in place. Returns one row per epoch: epoch, lr, train_loss, valid_accuracy, valid_nll.

    The order of the rows, their views and torch's own stream (dropout) are functions of (seed, epoch). The last batch
    of an epoch is smaller where the rows do not divide. Raises InputError where the loss stops being finite.
    """
    optimizer = recipe.optimizer(model.parameters())
    base_rate = optimizer.param_groups[0]["lr"]
    count = examples.rows
    steps_per_epoch = -(-count // recipe.batch_size)
    history = []
    bar = runtime.progress((), name, total=recipe.epochs * steps_per_epoch, unit="step")
    for epoch in range(recipe.epochs):
        torch.manual_seed(randomness.torch_seed(seed, Use.DROPOUT, epoch))
        model.train()
        total = torch.zeros((), dtype=torch.float64, device=examples.device)
        for step, batch in enumerate(examples.epoch(seed, epoch, recipe.batch_size)):
            share = (epoch * steps_per_epoch + step) / (recipe.epochs * steps_per_epoch)
            optimizer.param_groups[0]["lr"] = base_rate * recipe.schedule(share)
            total += _step(model, batch, objective, optimizer)
            _limit_norms(model, recipe.max_norm)
            bar.update()
        loss = float(total) / count
        _require_finite(loss, name, epoch)
        measured = validation.measure(model)
        history.append({"epoch": epoch + 1, "lr": optimizer.param_groups[0]["lr"], "train_loss": loss, **measured})
        bar.set_postfix(epoch=f"{epoch + 1}/{recipe.epochs}", loss=f"{loss:.4f}", valid=f"{measured['valid_accuracy']:.2%}")
    bar.close()
    return history


def _step(model: torch.nn.Module, batch: Batch, objective: Objective, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    """One update; returns the summed loss of the batch, detached."""
    losses = objective(model(batch.pixels), batch)
    optimizer.zero_grad(set_to_none=True)
    losses.mean().backward()
    optimizer.step()
    return losses.detach().sum()


@torch.no_grad()
def _limit_norms(model: torch.nn.Module, max_norm: float | None) -> None:
    if max_norm is None:
        return
    for parameter in model.parameters():
        if parameter.dim() > 1:  # weights; a bias is not into a unit
            parameter.copy_(torch.renorm(parameter, p=2, dim=0, maxnorm=max_norm))


def _require_finite(loss: float, name: str, epoch: int) -> None:
    if not math.isfinite(loss):
        raise InputError(
            f"training of {name}, epoch {epoch + 1}",
            expected="a finite loss",
            found=str(loss),
            fix="Lower the learning rate.",
        )
