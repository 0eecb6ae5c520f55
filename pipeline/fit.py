"""The only training loop, of one net or of a stack of them. What is learned is the objective's business; this file steps.

A training that was killed goes on from the last epoch that it kept, and ends with the same bits.
"""

import copy
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline import closure, files, metrics, models, randomness, runtime, spec
from pipeline.errors import InputError, first_line
from pipeline.examples import Batch, Examples
from pipeline.predict import predict
from pipeline.randomness import Use
from pipeline.resume import State
from pipeline.stack import Stack, side_by_side
from pipeline.transfer import Split

Objective = Callable[[torch.Tensor, Batch], torch.Tensor]  # logits (B, classes) → losses (B,); (B, nets, classes) → (B, nets)
Row = dict[str, float]

KEEP = ("last", "best")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SAVING = 0.05  # the share of its time that a training may spend on writing how far it is
MOST_MEMORY = 1e9  # GB


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
        if memory > MOST_MEMORY:
            expected = f"at most {MOST_MEMORY:g} (GB)"
            raise InputError("memory", expected=expected, found=str(memory), fix="Correct the setting.")
        for name, value, known in (("keep", keep, KEEP), ("precision", precision, PRECISIONS)):
            if value not in known:
                raise InputError(name, expected=" or ".join(known), found=repr(value), fix="Correct the setting.")
        if patience is not None and keep != "best":
            fix = "Set `keep: best`, or leave out `patience`."
            raise InputError("patience", expected="`keep: best` with it", found=f"`keep: {keep}`", fix=fix)
        rate = spec.parse(optimizer, OPTIMIZERS, given=1)
        course = spec.parse(schedule, SCHEDULES, given=1)
        try:
            made = rate([torch.zeros(1, requires_grad=True)])
        except (ValueError, TypeError, RuntimeError, OverflowError) as error:
            raise InputError(
                f"optimizer {optimizer!r}", expected="valid settings", found=first_line(error), fix="Correct them."
            ) from error
        if not isinstance(made, torch.optim.Optimizer):
            what, found = f"optimizer {optimizer!r}", type(made).__name__
            raise InputError(what, expected="a torch.optim.Optimizer", found=found, fix="Correct the function.")
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
        with np.errstate(invalid="ignore"):  # of logits that are not finite the NLL is not either
            return [
                {"valid_accuracy": metrics.accuracy(z, self.labels), "valid_nll": metrics.nll(z, self.labels)} for z in each
            ]

    def at_chance(self, row: Row) -> bool:
        """Whether a net measured so has learned nothing, as far as these rows can tell."""
        return metrics.at_chance(row["valid_accuracy"], self.labels)


@dataclass(frozen=True)
class Fitted:
    """How the training of one net went. history: a row for each epoch: epoch, lr, train_loss, valid_accuracy, valid_nll.

    diverged: the epoch in which its loss, or its logits on validation rows, stopped being finite; then its weights are
    worth nothing, and that epoch has no row. None where all went well.
    """

    history: list[Row]
    diverged: int | None

    def kept(self, recipe: Recipe) -> Row:
        """The row of the epoch whose weights the net has."""
        return best_row(self.history) if recipe.selects else self.history[-1]


def fit(
    model: torch.nn.Module,
    examples: Examples,
    objective: Objective,
    recipe: Recipe,
    validation: Validation,
    *,
    seed: int,
    name: str,
    state: State,
) -> list[Fitted]:
    """Train `model` in place, one net or a stack. Returns how it went for each of its nets.

    A stack is trained as its nets would be by themselves; a net whose patience is at an end, or which diverged, has no
    further row, and disturbs no other. The order of the rows, their views and torch's own stream (dropout) are functions
    of (seed, epoch); that stream is afterwards where it was before. The last batch of an epoch is smaller where the rows do
    not divide. state: what keeps how far the training is; where it is kept, the training goes on from it, and to the same
    bits. Raises InputError for an optimizer whose state cannot be kept, and for a net that cannot learn from the last batch.
    """
    device = examples.device
    net, count = (model.pattern, len(model)) if isinstance(model, Stack) else (model, 1)
    runtime.suit_threads(models.flops(net, examples.split.shape) * recipe.batch_size * count)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        training = _Training(model, examples, objective, recipe, validation, seed)
        training.resume(state)
        bar = runtime.progress((), name, total=recipe.epochs * training.steps, unit="step")
        bar.update(training.done * training.steps)
        saved, cost = time.monotonic(), 0.0
        while training.done < recipe.epochs and training.running.any():
            training.epoch(bar)
            started = time.monotonic()
            if training.done < recipe.epochs and training.running.any() and SAVING * (started - saved) > cost:
                training.save(state)
                saved = time.monotonic()
                cost = saved - started
        bar.close()
        training.restore_best()
        training.save(state, finished=True)
    return training.fitted()


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
    ):
        self.model, self.examples, self.objective, self.recipe = model, examples, objective, recipe
        self.validation, self.seed = validation, seed
        self.optimizer = recipe.optimizer(model.parameters())
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.steps = -(-examples.rows // recipe.batch_size)
        self.done = 0  # epochs
        nets = len(model) if isinstance(model, Stack) else 1
        self.histories: list[list[Row]] = [[] for _ in range(nets)]
        self.diverged: list[int | None] = [None] * nets
        self.running = np.ones(nets, bool)  # which neither diverged nor are at the end of their patience
        self._require_batches()
        self.best = [tensor.clone() for tensor in side_by_side(model)] if recipe.selects else []

    def epoch(self, bar: Any) -> None:
        """Show the model every row once, then the validation split."""
        recipe, device = self.recipe, self.examples.device
        torch.manual_seed(randomness.torch_seed(self.seed, Use.DROPOUT, self.done))
        self.model.train()
        total = torch.zeros(len(self.histories), dtype=torch.float64, device=device)
        for step, batch in enumerate(self.examples.epoch(self.seed, self.done, recipe.batch_size)):
            factor = recipe.schedule((self.done * self.steps + step) / (recipe.epochs * self.steps))
            for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
                group["lr"] = rate * factor
            total += self._step(batch)
            bar.update()
        losses = (total / self.examples.rows).tolist()
        self.done += 1
        measured = self.validation.measure(self.model)
        rate = self.optimizer.param_groups[0]["lr"]
        for net in np.flatnonzero(self.running):
            if math.isfinite(losses[net]) and math.isfinite(measured[net]["valid_nll"]):
                self.histories[net].append({"epoch": self.done, "lr": rate, "train_loss": losses[net], **measured[net]})
            else:
                self.diverged[net], self.running[net] = self.done, False
        self._select()
        mean = np.mean([row["valid_accuracy"] for row in measured])
        shown = {"epoch": f"{self.done}/{recipe.epochs}", "loss": f"{np.mean(losses):.4f}", "valid": f"{mean:.2%}"}
        bar.set_postfix(shown, refresh=False)

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

    def fitted(self) -> list[Fitted]:
        """How it went, net by net."""
        return [Fitted(*each) for each in zip(self.histories, self.diverged, strict=True)]

    def save(self, state: State, *, finished: bool = False) -> None:
        """Write how far the training is; of one that is finished, the weights and how it went."""
        tensors = {f"model.{number}": tensor for number, tensor in enumerate(side_by_side(self.model))}
        facts = {"done": self.done, "histories": self.histories, "diverged": self.diverged}
        if not finished:
            tensors |= {f"best.{number}": tensor for number, tensor in enumerate(self.best)}
            kept, plain = self.optimizer.state_dict(), {}
            for number, found in kept["state"].items():
                here = {key: value for key, value in found.items() if isinstance(value, torch.Tensor)}
                tensors |= {f"optimizer.{number}.{key}": value for key, value in here.items()}
                plain[number] = {key: value for key, value in found.items() if key not in here}
            facts |= {"optimizer": {"state": plain, "param_groups": kept["param_groups"]}, "running": self.running.tolist()}
        try:
            state.save(tensors, facts, finished=finished)
        except TypeError as error:  # what JSON cannot hold
            raise InputError(
                f"optimizer {self.recipe.optimizer.text}",
                expected="a state of tensors and plain values, which can be kept",
                found=str(error),
                fix="Choose another optimizer.",
            ) from error

    @torch.no_grad()
    def resume(self, state: State) -> None:
        """Go back to what `save` wrote, if anything."""
        if (found := state.load()) is None:
            return
        tensors, facts = found
        self.done, self.histories, self.diverged = facts["done"], facts["histories"], facts["diverged"]
        if facts["finished"]:
            self.best, self.running[:] = [], False
        for kind, targets in (("model", side_by_side(self.model)), ("best", self.best)):
            for number, target in enumerate(targets):
                target.copy_(tensors[f"{kind}.{number}"])
        if facts["finished"]:
            return
        states = {int(number): values for number, values in facts["optimizer"]["state"].items()}
        for key, tensor in tensors.items():
            if key.startswith("optimizer."):
                _, number, name = key.split(".", 2)
                states[int(number)][name] = tensor
        self.optimizer.load_state_dict({"state": states, "param_groups": facts["optimizer"]["param_groups"]})
        self.running = np.array(facts["running"])

    def _require_batches(self) -> None:
        """Raise InputError where the last batch has one row, and the net cannot learn from one: batch statistics want two."""
        rows, size = self.examples.rows, self.recipe.batch_size
        if (rows % size or min(rows, size)) > 1 or isinstance(self.model, Stack):
            return
        try:
            with torch.no_grad(), torch.random.fork_rng([]):
                row = torch.zeros(1, *self.examples.split.shape, dtype=torch.uint8, device=self.examples.device)
                copy.deepcopy(self.model).train()(row)
        except ValueError as error:
            found = f"{rows:,} rows in batches of {size:,}: a last one of a single row ({first_line(error)})"
            fix = "Choose another batch_size."
            raise InputError("batch_size", expected="batches that the net can learn from", found=found, fix=fix) from error


def circumstances(source: Split, valid: Split, device: torch.device, module: str) -> dict[str, Any]:
    """What the bits of trained weights depend on besides settings: data, machine, and the code behind `module`."""
    return {
        "data": {"inputs": source.inputs_digest, "labels": source.labels_digest},
        "validation": {"inputs": valid.inputs_digest, "labels": valid.labels_digest},
        "machine": runtime.shaping(device),
        "code": files.sha256(closure.listing(module).encode()),
    }


def best_row(history: list[Row]) -> Row:
    """The epoch with the lowest validation NLL, the first of equal ones; NaN is never the best."""
    return min(history, key=lambda row: (math.isnan(row["valid_nll"]), row["valid_nll"]))
