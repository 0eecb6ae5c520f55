"""The only training loop, of one net or of a stack of them. What is learned is the objective's business; this file steps.

A training that was killed goes on from the last epoch that it kept, and ends with the same bits.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline import checkpoint, closure, files, metrics, randomness, runtime, spec
from pipeline.errors import InputError
from pipeline.examples import Batch, Examples
from pipeline.predict import predict
from pipeline.randomness import Use
from pipeline.stack import Stack, side_by_side
from pipeline.transfer import Split

Objective = Callable[[torch.Tensor, Batch], torch.Tensor]  # logits (B, classes) → losses (B,); (B, nets, classes) → (B, nets)
Row = dict[str, float]

KEEP = ("last", "best")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SAVING = 0.05  # the share of its time that a training may spend on writing how far it is


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
        for name, value, known in (("keep", keep, KEEP), ("precision", precision, PRECISIONS)):
            if value not in known:
                raise InputError(name, expected=" or ".join(known), found=repr(value), fix="Correct the setting.")
        if patience is not None and keep != "best":
            fix = "Set `keep: best`, or leave out `patience`."
            raise InputError("patience", expected="`keep: best` with it", found=f"`keep: {keep}`", fix=fix)
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
        return cls(rate, course, epochs, batch_size, max_norm, memory, keep, patience, precision)

    def facts(self) -> dict[str, str | int | float | None]:
        """What model.json says of the training."""
        texts = {"optimizer": self.optimizer.identity, "schedule": self.schedule.identity}
        names = ("epochs", "batch_size", "max_norm", "memory", "keep", "patience", "precision")
        return texts | {name: getattr(self, name) for name in names}

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


@dataclass(frozen=True)
class Validation:
    """What is measured after every epoch; the test split never is. pixels: (N, C, H, W) uint8; labels: (N,) int64."""

    pixels: torch.Tensor
    labels: np.ndarray

    @classmethod
    def of(cls, split: Split, device: torch.device) -> "Validation":
        """A whole split, on the device."""
        return cls(torch.from_numpy(split.all_images()).to(device), split.labels())

    def measure(self, model: torch.nn.Module) -> list[Row]:
        """Accuracy and NLL of each net: one, or those of a stack."""
        logits = predict(model, self.pixels)
        each = logits.swapaxes(0, 1) if logits.ndim == 3 else logits[None]
        return [{"valid_accuracy": metrics.accuracy(z, self.labels), "valid_nll": metrics.nll(z, self.labels)} for z in each]


def fit(
    model: torch.nn.Module,
    examples: Examples,
    objective: Objective,
    recipe: Recipe,
    validation: Validation,
    *,
    seed: int,
    name: str,
    state: Path,
    nets: Sequence[str] = ("",),
) -> list[list[Row]]:
    """Train `model` in place. Returns the history of each of its nets: epoch, lr, train_loss, valid_accuracy, valid_nll.

    A stack is trained as its nets would be by themselves; a net whose patience is at an end has no further row.
    The order of the rows, their views and torch's own stream (dropout) are functions of (seed, epoch). The last batch
    of an epoch is smaller where the rows do not divide. state: the file that keeps how far the training is; where it is
    there, the training goes on from it, and to the same bits. nets: what to call each net of a stack. Raises InputError
    where a loss stops being finite, and for an optimizer whose state cannot be kept.
    """
    training = _Training(model, examples, objective, recipe, validation, seed, [f"{name} {net}".strip() for net in nets])
    training.resume(state)
    bar = runtime.progress((), name, total=recipe.epochs * training.steps, unit="step")
    bar.update(training.done * training.steps)
    saved, cost = time.monotonic(), 0.0
    while training.done < recipe.epochs and training.running.any():
        training.epoch(bar)
        started = time.monotonic()
        finished = training.done == recipe.epochs or not training.running.any()
        if finished or SAVING * (started - saved) > cost:
            training.save(state)
            saved = time.monotonic()
            cost = saved - started
    bar.close()
    training.restore_best()
    return training.histories


class _Training:
    """A training between two epochs: the model, its optimiser, and what has been seen so far."""

    def __init__(
        self,
        model: torch.nn.Module,
        examples: Examples,
        objective: Objective,
        recipe: Recipe,
        validation: Validation,
        seed: int,
        names: Sequence[str],
    ):
        self.model, self.examples, self.objective, self.recipe = model, examples, objective, recipe
        self.validation, self.seed, self.names = validation, seed, names
        self.optimizer = recipe.optimizer(model.parameters())
        self.base_rate = self.optimizer.param_groups[0]["lr"]
        self.steps = -(-examples.rows // recipe.batch_size)
        self.done = 0  # epochs
        nets = len(model) if isinstance(model, Stack) else 1
        self.histories: list[list[Row]] = [[] for _ in range(nets)]
        self.running = np.ones(nets, bool)  # whose patience is not at an end
        self.best = [tensor.clone() for tensor in side_by_side(model)] if recipe.selects else []

    def epoch(self, bar: Any) -> None:
        """Show the model every row once, then the validation split."""
        recipe, device = self.recipe, self.examples.device
        torch.manual_seed(randomness.torch_seed(self.seed, Use.DROPOUT, self.done))
        self.model.train()
        total = torch.zeros(len(self.histories), dtype=torch.float64, device=device)
        for step, batch in enumerate(self.examples.epoch(self.seed, self.done, recipe.batch_size)):
            share = (self.done * self.steps + step) / (recipe.epochs * self.steps)
            self.optimizer.param_groups[0]["lr"] = self.base_rate * recipe.schedule(share)
            total += self._step(batch)
            bar.update()
        losses = (total / self.examples.rows).tolist()
        self._require_finite(losses)
        self.done += 1
        measured = self.validation.measure(self.model)
        rate = self.optimizer.param_groups[0]["lr"]
        for net in np.flatnonzero(self.running):
            self.histories[net].append({"epoch": self.done, "lr": rate, "train_loss": losses[net], **measured[net]})
        self._select()
        mean = np.mean([row["valid_accuracy"] for row in measured])
        bar.set_postfix(epoch=f"{self.done}/{recipe.epochs}", loss=f"{np.mean(losses):.4f}", valid=f"{mean:.2%}")

    def _step(self, batch: Batch) -> torch.Tensor:
        """One update; returns the summed loss of each net, detached: (nets,)."""
        kind = PRECISIONS[self.recipe.precision]
        with torch.autocast(self.examples.device.type, kind, enabled=kind != torch.float32):
            logits = self.model(batch.pixels)
        losses = self.objective(logits, batch)
        self.optimizer.zero_grad(set_to_none=True)
        mean = losses.mean(0)
        (mean.sum() if mean.dim() else mean).backward()  # summed over nets, none of which depends on another
        self.optimizer.step()
        self._limit_norms()
        return losses.detach().sum(0)

    @torch.no_grad()
    def _limit_norms(self) -> None:
        if self.recipe.max_norm is None:
            return
        stacked = int(isinstance(self.model, Stack))
        for parameter in self.model.parameters():
            if parameter.dim() > 1 + stacked:  # weights; a bias is not into a unit
                inputs = tuple(range(1 + stacked, parameter.dim()))
                norms = torch.linalg.vector_norm(parameter, dim=inputs, keepdim=True)
                parameter.mul_((self.recipe.max_norm / norms).clamp_(max=1))  # torch.renorm takes three times as long

    def _select(self) -> None:
        """Keep the weights of nets whose epoch was the best so far; stop those whose patience is at an end."""
        if not self.recipe.selects:
            return
        for net in np.flatnonzero(self.running):
            since = self.done - best_row(self.histories[net])["epoch"]
            if since == 0:
                for kept, now in zip(self.best, side_by_side(self.model), strict=True):
                    kept[net].copy_(now[net])
            elif self.recipe.patience is not None and since >= self.recipe.patience:
                self.running[net] = False

    def restore_best(self) -> None:
        """Give every net the weights of its best epoch, if those are to be kept."""
        if self.best:
            for now, kept in zip(side_by_side(self.model), self.best, strict=True):
                now.copy_(kept)

    def save(self, path: Path) -> None:
        """Write how far the training is."""
        tensors = {f"model.{number}": tensor for number, tensor in enumerate(side_by_side(self.model))}
        tensors |= {f"best.{number}": tensor for number, tensor in enumerate(self.best)}
        kept, plain = self.optimizer.state_dict(), {}
        for number, found in kept["state"].items():
            here = {key: value for key, value in found.items() if isinstance(value, torch.Tensor)}
            tensors |= {f"optimizer.{number}.{key}": value for key, value in here.items()}
            plain[number] = {key: value for key, value in found.items() if key not in here}
        facts = {"done": self.done, "histories": self.histories, "running": self.running.tolist()}
        facts |= {"optimizer": {"state": plain, "param_groups": kept["param_groups"]}}
        try:
            checkpoint.save_state(path, tensors, facts)
        except TypeError as error:  # what JSON cannot hold
            raise InputError(
                f"optimizer {self.recipe.optimizer.text}",
                expected="a state of tensors and plain values, which can be kept",
                found=str(error),
                fix="Choose another optimizer.",
            ) from error

    @torch.no_grad()
    def resume(self, path: Path) -> None:
        """Go back to what `save` wrote, if anything."""
        if (found := checkpoint.load_state(path)) is None:
            return
        tensors, facts = found
        for kind, targets in (("model", side_by_side(self.model)), ("best", self.best)):
            for number, target in enumerate(targets):
                target.copy_(tensors[f"{kind}.{number}"])
        states = {int(number): values for number, values in facts["optimizer"]["state"].items()}
        for key, tensor in tensors.items():
            if key.startswith("optimizer."):
                _, number, name = key.split(".", 2)
                states[int(number)][name] = tensor
        self.optimizer.load_state_dict({"state": states, "param_groups": facts["optimizer"]["param_groups"]})
        self.done, self.histories = facts["done"], facts["histories"]
        self.running = np.array(facts["running"])

    def _require_finite(self, losses: list[float]) -> None:
        for net, loss in enumerate(losses):
            if self.running[net] and not math.isfinite(loss):
                raise InputError(
                    f"training of {self.names[net]}, epoch {self.done + 1}",
                    expected="a finite loss",
                    found=str(loss),
                    fix="Lower the learning rate.",
                )


def circumstances(source: Split, valid: Split, device: torch.device, module: str) -> dict[str, Any]:
    """What the bits of trained weights depend on besides settings: data, machine, and the code behind `module`."""
    return {
        "data": {"inputs": source.inputs_digest, "labels": source.labels_digest},
        "validation": {"inputs": valid.inputs_digest, "labels": valid.labels_digest},
        "machine": {key: value for key, value in runtime.provenance(device).items() if key in runtime.SHAPING},
        "code": files.sha256(closure.listing(module).encode()),
    }


def best_row(history: list[Row]) -> Row:
    """The epoch with the lowest validation NLL, the first of equal ones; NaN is never the best."""
    return min(history, key=lambda row: (math.isnan(row["valid_nll"]), row["valid_nll"]))
