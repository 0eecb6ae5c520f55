"""The only training loop, of one net or of a stack of them. What is learned is the objective's business; this file steps.

A training that was killed goes on from the last epoch that it kept, and ends with the same bits.
"""

import copy
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline.base import plugins, randomness, runtime
from pipeline.base.errors import InputError, SoftcacheError, lacks_memory
from pipeline.base.randomness import Use
from pipeline.data.splits import Split
from pipeline.models.build import flops
from pipeline.models.predict import VERSION as INFERENCE
from pipeline.models.predict import predict
from pipeline.models.stack import Stack, side_by_side
from pipeline.stats import metrics
from pipeline.training.examples import Batch, Examples
from pipeline.training.objective import VERSION as OBJECTIVE
from pipeline.training.recipe import Recipe
from pipeline.training.resume import WEIGHTS, State

Objective = Callable[[torch.Tensor, Batch], torch.Tensor]  # logits (B, classes) → losses (B,); (B, nets, classes) → (B, nets)
Row = dict[str, float]

VERSION = 1  # of what the loop makes of a net: order of rows, drawing of views, steps, which epoch is kept
MEASURED = ("valid_accuracy", "valid_nll")
SAVING = 0.05  # the share of its time that a training may spend on writing how far it is
_log = logging.getLogger(__name__)


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
        """Accuracy and NLL of each net: one, or those of a stack; NaN for logits that are not finite."""
        logits = predict(model, self.pixels)
        each = logits.swapaxes(0, 1) if logits.ndim == 3 else logits[None]
        return [self._row(z) if np.isfinite(z).all() else dict.fromkeys(MEASURED, math.nan) for z in each]

    def at_chance(self, row: Row, name: str) -> bool:
        """Whether a net measured so has learned nothing, as far as these rows can tell; says so."""
        found = metrics.at_chance(row["valid_accuracy"], self.labels)
        if found:
            _log.warning(
                "%s: learned nothing: its validation accuracy, %.2f %%, cannot be told from naming the commonest class",
                name, 100 * row["valid_accuracy"],
            )  # fmt: skip
        return found

    def _row(self, logits: np.ndarray) -> Row:
        return dict(zip(MEASURED, (metrics.accuracy(logits, self.labels), metrics.nll(logits, self.labels)), strict=True))


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
    net, count = (model.pattern, len(model)) if isinstance(model, Stack) else (model, 1)
    work = flops(net, examples.split.shape) * recipe.settings.batch_size * count
    with runtime.suited_threads(work), runtime.own_randomness():
        training = _Training(model, examples, objective, recipe, validation, seed)
        training.resume(state)
        bar = runtime.progress((), name, total=recipe.settings.epochs * training.steps, unit="steps")
        bar.update(training.done * training.steps)
        saved, cost = time.monotonic(), 0.0
        while training.done < recipe.settings.epochs and training.running.any():
            training.epoch(bar)
            started = time.monotonic()
            if training.done < recipe.settings.epochs and training.running.any() and SAVING * (started - saved) > cost:
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
        self.steps = -(-examples.rows // recipe.settings.batch_size)
        self.done = 0  # epochs
        nets = len(model) if isinstance(model, Stack) else 1
        self.histories: list[list[Row]] = [[] for _ in range(nets)]
        self.diverged: list[int | None] = [None] * nets
        self.running = np.ones(nets, bool)  # which neither diverged nor are at the end of their patience
        self._require_steps()
        self.best = {name: tensor.clone() for name, tensor in side_by_side(model).items()} if recipe.selects else {}

    def epoch(self, bar: Any) -> None:
        """Show the model every row once, then the validation split."""
        recipe, device = self.recipe, self.examples.device
        torch.manual_seed(randomness.torch_seed(self.seed, Use.DROPOUT, self.done))
        self.model.train()
        total = torch.zeros(len(self.histories), dtype=torch.float64, device=device)
        for step, batch in enumerate(self.examples.epoch(self.seed, self.done, recipe.settings.batch_size)):
            factor = recipe.schedule((self.done * self.steps + step) / (recipe.settings.epochs * self.steps))
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
        shown = {"epoch": f"{self.done}/{recipe.settings.epochs}", "loss": f"{np.mean(losses):.4f}", "valid": f"{mean:.2%}"}
        bar.set_postfix(shown, refresh=False)

    def _forward(self, net: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
        """Logits, in the precision that the recipe asks for."""
        kind = getattr(torch, self.recipe.settings.precision)
        with torch.autocast(self.examples.device.type, kind, enabled=kind != torch.float32):
            return net(pixels)

    def _step(self, batch: Batch) -> torch.Tensor:
        """One update; returns the summed loss of each net, detached: (nets,)."""
        logits = self._forward(self.model, batch.pixels)
        losses = self.objective(logits, batch)
        self.optimizer.zero_grad(set_to_none=True)
        mean = losses.mean(0)
        (mean.sum() if mean.dim() else mean).backward()  # summed over nets, none of which depends on another
        self.optimizer.step()
        self._limit_norms()
        return losses.detach().sum(0)

    @torch.no_grad()
    def _limit_norms(self) -> None:
        if self.recipe.settings.max_norm is None:
            return
        stacked = int(isinstance(self.model, Stack))
        for parameter in self.model.parameters():
            if parameter.dim() > 1 + stacked:  # weights; a bias is not into a unit
                inputs = tuple(range(1 + stacked, parameter.dim()))
                norms = torch.linalg.vector_norm(parameter, dim=inputs, keepdim=True)
                parameter.mul_((self.recipe.settings.max_norm / norms).clamp_(max=1))  # torch.renorm takes three times as long

    def _select(self) -> None:
        """Keep the weights of nets whose epoch was the best so far; stop those whose patience is at an end."""
        if not self.recipe.selects:
            return
        for net in np.flatnonzero(self.running):
            since = self.done - best_row(self.histories[net])["epoch"]
            if since == 0:
                for name, now in side_by_side(self.model).items():
                    self.best[name][net].copy_(now[net])
            elif self.recipe.settings.patience is not None and since >= self.recipe.settings.patience:
                self.running[net] = False

    def restore_best(self) -> None:
        """Give every net the weights of its best epoch, if those are to be kept."""
        for name, now in side_by_side(self.model).items() if self.best else ():
            now.copy_(self.best[name])

    def fitted(self) -> list[Fitted]:
        """How it went, net by net."""
        return [Fitted(*each) for each in zip(self.histories, self.diverged, strict=True)]

    def save(self, state: State, *, finished: bool = False) -> None:
        """Write how far the training is; of one that is finished, the weights and how it went."""
        tensors = {f"{WEIGHTS}{name}": tensor for name, tensor in side_by_side(self.model).items()}
        facts = {"done": self.done, "histories": self.histories, "diverged": self.diverged}
        if not finished:
            tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
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
            self.best, self.running[:] = {}, False
        for kind, targets in ((WEIGHTS, side_by_side(self.model)), ("best.", self.best)):
            for name, target in targets.items():
                target.copy_(tensors[f"{kind}{name}"])
        if facts["finished"]:
            return
        states = {int(number): values for number, values in facts["optimizer"]["state"].items()}
        for key, tensor in tensors.items():
            if key.startswith("optimizer."):
                _, number, name = key.split(".", 2)
                states[int(number)][name] = tensor
        self.optimizer.load_state_dict({"state": states, "param_groups": facts["optimizer"]["param_groups"]})
        self.running = np.array(facts["running"])

    def _require_steps(self) -> None:
        """Take a step on a copy, of two rows and of as many as the last batch of an epoch has, which may be one.

        Raises InputError for a net that cannot: batch statistics, for one, want two rows.
        """
        rows, size = self.examples.rows, self.recipe.settings.batch_size
        last = rows % size or min(rows, size)
        for count in sorted({2, min(last, 2)}, reverse=True):
            try:
                with runtime.own_randomness():
                    self._step_on_a_copy(count)
            except SoftcacheError:
                raise
            except Exception as error:
                if lacks_memory(error):
                    raise
                found = plugins.reason(error)
                if count == 1:
                    found = f"{rows:,} rows in batches of {size:,}: a last one of a single row ({found})"
                    expected, fix = "batches that the net can learn from", "Choose another batch_size."
                    raise InputError("batch_size", expected=expected, found=found, fix=fix) from error
                fix = "Correct the model, or the optimizer."
                raise InputError("training", expected="a net that can be trained", found=found, fix=fix) from error

    def _step_on_a_copy(self, rows: int) -> None:
        whole = self.model.pattern if isinstance(self.model, Stack) else self.model
        net, split, device = copy.deepcopy(whole).train(), self.examples.split, self.examples.device
        torch.manual_seed(0)
        pixels = torch.randint(0, 256, (rows, *split.shape), dtype=torch.uint8, device=device)
        logits = self._forward(net, pixels)
        found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        if found != (rows, len(split.classes)):
            raise TypeError(f"in training it gives {found} for {rows} rows, where ({rows}, {len(split.classes)}) is wanted")
        optimizer = self.recipe.optimizer(net.parameters())
        logits.double().sum().backward()
        optimizer.step()
        self._require_kept(net.eval(), whole, pixels)

    @torch.no_grad()
    def _require_kept(self, net: torch.nn.Module, fresh: torch.nn.Module, pixels: torch.Tensor) -> None:
        """Raise TypeError where what a trained net gives depends on buffers that its state does not keep."""
        state, before = net.state_dict(), dict(fresh.named_buffers())
        lost = {name: now for name, now in net.named_buffers() if name not in state and name in before}
        if not lost:
            return
        trained = net(pixels)
        for name, now in lost.items():
            now.copy_(before[name])
        if not torch.allclose(net(pixels), trained, rtol=0, atol=0, equal_nan=True):
            raise TypeError(f"its state does not keep buffers that training changes ({', '.join(lost)}): make them persistent")


def circumstances(source: Split, valid: Split, device: torch.device) -> dict[str, Any]:
    """What the bits of trained weights depend on besides settings: data, machine, and the versions of the loops."""
    return {
        "data": {"inputs": source.inputs_digest, "labels": source.labels_digest},
        "classes": list(source.classes),
        "shape": list(source.shape),
        "validation": {"inputs": valid.inputs_digest, "labels": valid.labels_digest},
        "machine": runtime.shaping(device),
        "versions": {"training": VERSION, "objective": OBJECTIVE, "inference": INFERENCE},
    }


def best_row(history: list[Row]) -> Row:
    """The epoch with the lowest validation NLL, the first of equal ones; NaN is never the best."""
    return min(history, key=lambda row: (math.isnan(row["valid_nll"]), row["valid_nll"]))
