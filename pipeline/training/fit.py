"""The only training loop, for one net or a stack of nets. The objective says what is learned.

Things may be trained beside a net, see learner.py. They take part in every step and in what a killed training goes on from;
validation, averages, and what is kept in the end are of the net alone.

A training that was killed goes on from the last epoch that it kept, and ends with the same bits.

Of several ranks each takes every step, on its piece of the batch, and DistributedDataParallel gives all the mean of their
gradients. The loss of a piece is divided by the rows of the batch and multiplied by the number of ranks, so that this mean is
the gradient of one process.
"""

import contextlib
import copy
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.base import plugins, randomness, ranks, runtime
from pipeline.base.errors import InputError, SoftcacheError, lacks_memory
from pipeline.base.randomness import Use
from pipeline.base.spec import Spec
from pipeline.data.splits import Split, described
from pipeline.models.build import flops
from pipeline.models.predict import TILE, Inputs, device_of, predict
from pipeline.models.predict import VERSION as INFERENCE
from pipeline.models.rows import Rows
from pipeline.models.stack import Stack, side_by_side
from pipeline.stats import metrics
from pipeline.training.course import Progress
from pipeline.training.examples import Batch, Examples
from pipeline.training.learner import Learner
from pipeline.training.objective import VERSION as OBJECTIVE
from pipeline.training.recipe import Recipe
from pipeline.training.resume import WEIGHTS, Identity, State

# logits (B, classes), a batch, and features of the net → losses (B,); of a stack, (B, nets, classes) → (B, nets)
Objective = Callable[[torch.Tensor, Batch, Progress, Sequence[torch.Tensor]], torch.Tensor]

VERSION = 3  # of what the loop computes: order of rows, drawing of views, steps, which epoch is kept
SHARE = 0.25  # of the memory for rows to train on: so much more may validation rows take
SAVING = 0.05  # share of its time that a training may spend on saving its state
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """Accuracy and NLL (nats) of a net on the validation split; both NaN where its logits are not finite."""

    valid_accuracy: float
    valid_nll: float


@dataclass(frozen=True)
class Epoch(Measured):
    """How one epoch of a training went. epoch: its number, from 1. lr: the learning rate of its last step."""

    epoch: int
    lr: float
    train_loss: float

    def to_dict(self) -> dict[str, float]:
        """As the history and a saved state store it."""
        names = ("epoch", "lr", "train_loss", "valid_accuracy", "valid_nll")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Validation:
    """The rows that nets are measured on after every epoch: inputs of N rows, see predict, and labels (N,) int64."""

    inputs: Inputs
    labels: np.ndarray

    @classmethod
    def of(cls, split: Split, device: torch.device, memory_bytes: int) -> "Validation":
        """All rows of a split; a share of the memory for training is for them, and more are read after every epoch."""
        return cls(Rows(split, device, int(SHARE * memory_bytes)), split.labels())

    def of_net(self, net: torch.nn.Module) -> "Validation":
        """These rows as this net takes them."""
        return replace(self, inputs=self.inputs.of(net)) if isinstance(self.inputs, Rows) else self

    def measure(self, model: torch.nn.Module) -> list[Measured]:
        """Measure each net: one, or those of a stack."""
        return self.measured(predict(model, self.inputs))

    def measured(self, logits: np.ndarray) -> list[Measured]:
        """Measure logits of all rows, as `predict` gives them."""
        return [self._measured(each) for each in (logits.swapaxes(0, 1) if logits.ndim == 3 else logits[None])]

    def at_chance(self, net: Measured, name: str, *, features: bool = False) -> bool:
        """Whether a net with this accuracy has learned nothing, as far as these rows can tell; warns if so.

        features: whether feature losses may be why.
        """
        found = metrics.at_chance(net.valid_accuracy, self.labels)
        if found:
            _log.warning(
                "%s: learned nothing: its validation accuracy, %.2f %%, is not clearly above always naming the commonest "
                "class; try %sa lower learning rate, another optimizer such as adam(lr=0.003), or more epochs",
                name, 100 * net.valid_accuracy, "less weight on features, " if features else "",
            )  # fmt: skip
        return found

    def _measured(self, logits: np.ndarray) -> Measured:
        if not np.isfinite(logits).all():
            return Measured(math.nan, math.nan)
        return Measured(metrics.accuracy(logits, self.labels), metrics.nll(logits, self.labels))


@dataclass(frozen=True)
class Fitted:
    """How the training of one net went, epoch by epoch.

    diverged: the epoch in which its loss, or its logits on validation rows, stopped being finite. Its weights are then of
    no use, and that epoch is not in the history. None for a net that did not diverge.
    """

    history: list[Epoch]
    diverged: int | None

    def kept(self, recipe: Recipe) -> Epoch:
        """The epoch whose weights the net has."""
        return best_epoch(self.history) if recipe.selects else self.history[-1]


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
    """Train `model`, one net or a stack, or a learner of one, in place. Returns how it went for each of its nets.

    The nets of a stack are trained as they would be alone. A net that ran out of patience or diverged gets no more epochs
    in its history, and does not disturb the others. Order of rows, views and torch's random stream (dropout) are functions
    of (seed, epoch); torch's own random state is left as it was. The last batch of an epoch may be smaller. If `state` was
    saved before, the training goes on from it, to the same bits.
    Raises InputError for an optimizer whose state cannot be saved, and for a net that cannot learn from the last batch.
    """
    learner = model if isinstance(model, Learner) else Learner(model)
    net, count = (learner.net.pattern, len(learner.net)) if isinstance(learner.net, Stack) else (learner.net, 1)
    rows = recipe.settings.batch_size * examples.draws
    work = flops(net, examples.inputs.example(2).to(examples.device)) * rows * count
    with runtime.suited_threads(work), runtime.own_randomness():
        training = _Training(learner, examples, objective, recipe, validation, seed)
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
        training.settle()
        training.save(state, finished=True)
    return [Fitted(*each) for each in zip(training.histories, training.diverged, strict=True)]


class _Training:
    """A training between two epochs: the model, its optimizer, and the history so far."""

    def __init__(
        self,
        learner: Learner,
        examples: Examples,
        objective: Objective,
        recipe: Recipe,
        validation: Validation,
        seed: int,
    ):
        self.learner, self.model = learner, (model := learner.net)
        self.examples, self.objective, self.recipe = examples, objective, recipe
        self.validation, self.seed = validation, seed
        self.ranks = examples.ranks
        self.optimizer = recipe.optimizer(learner.parameters())
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.steps = -(-examples.rows // recipe.settings.batch_size)
        self.done = 0  # epochs
        nets = len(model) if isinstance(model, Stack) else 1
        self.histories: list[list[Epoch]] = [[] for _ in range(nets)]
        self.diverged: list[int | None] = [None] * nets
        self.running = np.ones(nets, bool)  # False for nets that diverged or ran out of patience
        self._require_steps()
        self.loss = self._loss if self.ranks.alone else _shared(self._loss, learner)
        self.best = _copied(model) if recipe.selects else {}
        self.average = _copied(model) if recipe.settings.ema is not None else {}

    def epoch(self, bar: Any) -> None:
        """Train on every row once, then measure on the validation split."""
        own = () if self.ranks.first else (self.ranks.number,)  # each rank drops units of its own
        torch.manual_seed(randomness.torch_seed(self.seed, Use.DROPOUT, self.done, *own))
        self.learner.train()
        total = self.learn(self.examples.epoch(self.seed, self.done, self.recipe.settings.batch_size), bar)
        losses = (self.ranks.total(total) / (self.examples.rows * self.examples.draws)).tolist()
        self.done += 1
        with self._averaged():
            measured = self._measure(losses)
            self._select()
        mean = np.mean([each.valid_accuracy for each in measured])
        shown = {
            "epoch": f"{self.done}/{self.recipe.settings.epochs}",
            "loss": f"{np.mean(losses):.4f}",
            "valid": f"{mean:.2%}",
        }
        bar.set_postfix(shown, refresh=False)

    def _measure(self, losses: list[float]) -> list[Measured]:
        """Measure each net at the end of an epoch, and note it in the history; losses: of each net in this epoch."""
        measured = self._validated()
        rate = self.optimizer.param_groups[0]["lr"]
        for net in np.flatnonzero(self.running):
            if math.isfinite(losses[net]) and math.isfinite(measured[net].valid_nll):
                self.histories[net].append(Epoch(**vars(measured[net]), epoch=self.done, lr=rate, train_loss=losses[net]))
            else:
                self.diverged[net], self.running[net] = self.done, False
        return measured

    def _validated(self) -> list[Measured]:
        """Measure each net on the validation rows, whose tiles the ranks share; rank 0 has the word."""
        if self.ranks.alone:
            return self.validation.measure(self.model)
        nets = (len(self.model),) if isinstance(self.model, Stack) else ()
        logits = np.zeros((len(self.validation.inputs), *nets, len(self.examples.inputs.classes)), np.float32)
        own, inputs = self._own_tiles
        if len(inputs):
            logits[own] = predict(self.model, inputs, tile=TILE)
        logits = self.ranks.total(torch.from_numpy(logits)).numpy()  # the same bits: all but one are 0
        measured = self.validation.measured(logits) if self.ranks.first else []
        return [Measured(*each) for each in self.ranks.agreed([[each.valid_accuracy, each.valid_nll] for each in measured])]

    @cached_property
    def _own_tiles(self) -> tuple[slice, Inputs]:
        """Which validation rows this rank measures, whole tiles that follow each other; held for all epochs, where they fit."""
        tiles = self.ranks.piece(-(-len(self.validation.inputs) // TILE))
        own = slice(tiles.start * TILE, tiles.stop * TILE)
        return own, self.validation.inputs[own]

    def learn(self, batches: Iterable[Batch], bar: Any) -> torch.Tensor:
        """Take a step on each of these batches, the next ones of the epoch; returns the summed loss of each net: (nets,)."""
        recipe = self.recipe
        total = torch.zeros(len(self.histories), dtype=torch.float64, device=self.examples.device)
        for step, batch in enumerate(batches):
            progress = Progress(self.done + 1, (self.done * self.steps + step) / (recipe.settings.epochs * self.steps))
            factor = recipe.schedule(progress.done)
            for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
                group["lr"] = rate * factor
            size = recipe.settings.batch_size
            every = min(size, self.examples.rows - step * size) * self.examples.draws
            total += self._step(batch, progress, len(batch.rows) if self.ranks.alone else every)
            if self.average:
                self._follow(self.done * self.steps + step + 1)
            bar.update()
        return total

    def _forward(self, module: torch.nn.Module, inputs: torch.Tensor) -> Any:
        """What a net or a learner gives, computed in the precision of the recipe."""
        if self.recipe.settings.precision == "float32":
            return module(inputs)
        with torch.autocast(self.examples.device.type, getattr(torch, self.recipe.settings.precision)):
            return module(inputs)

    def _loss(self, batch: Batch, progress: Progress) -> torch.Tensor:
        """The summed loss of each net: (nets,), or a number for one net."""
        logits, features = self._forward(self.learner, batch.inputs)
        return self.objective(logits, batch, progress, features).sum(0)

    def _step(self, batch: Batch, progress: Progress, examples: int) -> torch.Tensor:
        """One update; returns the summed loss of each net, detached: (nets,). examples: of the step, in all ranks."""
        total = self.loss(batch, progress)
        self.optimizer.zero_grad(set_to_none=True)
        mean = total / examples if self.ranks.alone else total * (self.ranks.count / examples)
        torch.autograd.backward(mean.sum() if mean.dim() else mean)  # summed over nets, none of which depends on another
        if self.recipe.settings.clip_grad is not None:
            self._clip_gradients(self.recipe.settings.clip_grad)
        self.optimizer.step()
        self._limit_norms()
        return total.detach()

    def _clip_gradients(self, limit: float) -> None:
        """Scale the gradients of each net whose norm is above the limit, as torch's clip_grad_norm_ does for one net."""
        stacked = isinstance(self.model, Stack)
        held = [each.grad for each in self.learner.parameters() if each.grad is not None]
        gradients = [each if stacked else each[None] for each in held]
        norms = torch.stack([torch.linalg.vector_norm(each.reshape(len(each), -1), dim=1) for each in gradients])
        factors = (limit / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp_(max=1)
        for each in gradients:
            each.mul_(factors.view(-1, *[1] * (each.dim() - 1)))

    @torch.no_grad()
    def _follow(self, steps: int) -> None:
        """Move the averages towards the weights, after so many steps.

        Statistics of a norm are averaged too: those of the averaged weights are, roughly, the average; whole numbers are
        copied. The decay starts small, at (1 + steps) / (10 + steps), as in TensorFlow's ExponentialMovingAverage: a short
        training would else end near its initial weights.
        """
        decay = min(self.recipe.settings.ema or 0.0, (1 + steps) / (10 + steps))
        now = side_by_side(self.model)
        moving = [name for name, tensor in self.average.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.average[name] for name in moving], [now[name] for name in moving], 1 - decay)
        for name in self.average.keys() - set(moving):
            self.average[name].copy_(now[name])

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """The averaged weights in the model, if there are any; afterwards it has its own again."""
        own = _copied(self.model) if self.average else {}
        _put(self.average, self.model)
        yield
        _put(own, self.model)

    @torch.no_grad()
    def _limit_norms(self) -> None:
        if self.recipe.settings.max_norm is None:
            return
        stacked = int(isinstance(self.model, Stack))
        for parameter in self.model.parameters():
            if parameter.dim() > 1 + stacked:  # as stack.is_weight, in less time
                inputs = tuple(range(1 + stacked, parameter.dim()))
                norms = torch.linalg.vector_norm(parameter, dim=inputs, keepdim=True)
                parameter.mul_((self.recipe.settings.max_norm / norms).clamp_(max=1))  # torch.renorm takes three times as long

    def _select(self) -> None:
        """Keep the weights of nets whose epoch was their best so far; stop nets that ran out of patience."""
        if not self.recipe.selects:
            return
        for net in np.flatnonzero(self.running):
            since = self.done - best_epoch(self.histories[net]).epoch
            if since == 0:
                for name, now in side_by_side(self.model).items():
                    self.best[name][net].copy_(now[net])
            elif self.recipe.settings.patience is not None and since >= self.recipe.settings.patience:
                self.running[net] = False

    def settle(self) -> None:
        """Give every net the weights that it keeps: of its best epoch, with `keep: best`; else averaged ones, with `ema`."""
        _put(self.best or self.average, self.model)

    def save(self, state: State, *, finished: bool = False) -> None:
        """Save the training so far; of a finished one, only the weights and the history."""
        tensors = {f"{WEIGHTS}{name}": tensor for name, tensor in side_by_side(self.model).items()}
        histories = [[epoch.to_dict() for epoch in history] for history in self.histories]
        facts = {"done": self.done, "histories": histories, "diverged": self.diverged}
        if not finished:
            tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.items()}
            tensors |= {f"beside.{name}": tensor for name, tensor in self.learner.beside.state_dict().items()}
            kept, plain = self.optimizer.state_dict(), {}
            for number, found in kept["state"].items():
                here = {key: value for key, value in found.items() if isinstance(value, torch.Tensor)}
                tensors |= {f"optimizer.{number}.{key}": value for key, value in here.items()}
                plain[number] = {key: value for key, value in found.items() if key not in here}
            facts |= {"optimizer": {"state": plain, "param_groups": kept["param_groups"]}, "running": self.running.tolist()}
        try:
            state.save(tensors, facts, finished=finished)
        except TypeError as error:  # what JSON cannot hold
            what, expected = (
                f"optimizer {self.recipe.optimizer.text}",
                "a state of tensors and plain values, which can be saved",
            )
            raise InputError(what, expected=expected, found=str(error), fix="Choose another optimizer.") from error

    @torch.no_grad()
    def resume(self, state: State) -> None:
        """Restore what `save` wrote, if anything."""
        if (found := state.load()) is None:
            return
        tensors, facts = found
        self.done, self.diverged = facts["done"], facts["diverged"]
        self.histories = [[Epoch(**epoch) for epoch in history] for history in facts["histories"]]
        if facts["finished"]:
            self.best, self.average, self.running[:] = {}, {}, False
        for kind, targets in ((WEIGHTS, side_by_side(self.model)), ("best.", self.best), ("average.", self.average)):
            for name, target in targets.items():
                target.copy_(tensors[f"{kind}{name}"])
        if facts["finished"]:
            return
        for name, target in self.learner.beside.state_dict().items():
            target.copy_(tensors[f"beside.{name}"])
        states = {int(number): values for number, values in facts["optimizer"]["state"].items()}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, number, name = key.split(".", 2)
                states[int(number)][name] = value
        self.optimizer.load_state_dict({"state": states, "param_groups": facts["optimizer"]["param_groups"]})
        self.running = np.array(facts["running"])

    def _require_steps(self) -> None:
        """Take a step on a copy: with two rows, and with one where the last batch of an epoch has one.

        Raises InputError for a net that cannot; batch statistics, for example, need two rows. Of several ranks, pieces of the
        last batch may have one row too, or none.
        """
        rows, size = self.examples.rows, self.recipe.settings.batch_size
        last = (rows % size or min(rows, size)) // self.ranks.count * self.examples.draws
        if min(rows, size) < self.ranks.count:
            expected, found = f"{self.ranks.count} rows a step or more, one for each rank", str(min(rows, size))
            raise InputError("batch_size", expected=expected, found=found, fix="Choose another, or start fewer ranks.")
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
                if count < 2:
                    pieces = "" if self.ranks.alone else f" for {self.ranks.count} ranks"
                    few = f"the last{pieces} with {'a single row' if count else 'no row for some'}"
                    found = f"{rows:,} rows in batches of {size:,}, {few} ({found})"
                    expected, fix = "batches that the net can learn from", "Choose another batch_size."
                    raise InputError("batch_size", expected=expected, found=found, fix=fix) from error
                fix = "Correct the model, or the optimizer."
                raise InputError("training", expected="a net that can be trained", found=found, fix=fix) from error

    def _step_on_a_copy(self, rows: int) -> None:
        whole = self.model.pattern if isinstance(self.model, Stack) else self.model
        net, inputs, device = copy.deepcopy(whole).train(), self.examples.inputs, self.examples.device
        torch.manual_seed(0)
        shown = inputs.example(rows).to(device)
        logits = self._forward(net, shown)
        found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        if found != (rows, len(inputs.classes)):
            raise TypeError(f"in training it returns {found} for {rows} rows, expected ({rows}, {len(inputs.classes)})")
        optimizer = self.recipe.optimizer(net.parameters())
        torch.autograd.backward(logits.double().sum())
        optimizer.step()
        self._require_kept(net.eval(), whole, shown)

    @torch.no_grad()
    def _require_kept(self, net: torch.nn.Module, fresh: torch.nn.Module, shown: torch.Tensor) -> None:
        """Raise TypeError where the logits of a trained net depend on buffers that its state does not keep."""
        state, before = net.state_dict(), dict(fresh.named_buffers())
        if not self.ranks.alone:
            _require_separate(net, before)
        lost = {name: now for name, now in net.named_buffers() if name not in state and name in before}
        if not lost:
            return
        trained = net(shown)
        for name, now in lost.items():
            now.copy_(before[name])
        if not torch.allclose(net(shown), trained, rtol=0, atol=0, equal_nan=True):
            raise TypeError(f"its state does not keep buffers that training changes ({', '.join(lost)}): make them persistent")


class _Shared(torch.nn.Module):
    """A loss as a module, so that DistributedDataParallel sees every weight that it depends on."""

    def __init__(self, loss: Callable[[Batch, Progress], torch.Tensor], learner: torch.nn.Module):
        super().__init__()
        self.loss, self.learner = loss, learner

    def forward(self, batch: Batch, progress: Progress) -> torch.Tensor:
        return self.loss(batch, progress)


def _shared(loss: Callable[[Batch, Progress], torch.Tensor], learner: torch.nn.Module) -> torch.nn.Module:
    """The same loss, whose gradients become the mean over ranks.

    Where unused weights are looked for, gradients are summed in the same groups from the first step on. Else torch would group
    them anew after it, and a training that goes on after a kill would end with other last bits.
    """
    return torch.nn.parallel.DistributedDataParallel(
        _Shared(loss, learner), broadcast_buffers=False, find_unused_parameters=True
    )


def synced(net: torch.nn.Module) -> torch.nn.Module:
    """A net as several ranks train it: on GPUs, norms of a batch take the statistics of all ranks. Alone, it stays as it is."""
    if ranks.current().alone or device_of(net).type != "cuda":
        return net
    made: torch.nn.Module = torch.nn.SyncBatchNorm.convert_sync_batchnorm(net)
    return made


def _require_separate(net: torch.nn.Module, before: Mapping[str, torch.Tensor]) -> None:
    """Raise InputError for a net that took a step and has statistics of the rows of a batch, which each rank would have alone.

    before: its buffers before the step.
    """
    odd = []
    for path, module in net.named_modules():
        if isinstance(module, torch.nn.SyncBatchNorm):
            continue
        names = [f"{path}.{name}".lstrip(".") for name, _ in module.named_buffers(recurse=False)]
        now = dict(net.named_buffers())
        forgets = isinstance(module, _BatchNorm) and module.running_mean is None
        if forgets or any(name in before and not torch.equal(now[name], before[name]) for name in names):
            odd.append(path or type(module).__name__)
    if odd:
        shown = ", ".join(odd[:3]) + (", …" if len(odd) > 3 else "")
        expected = "a net without statistics of a batch, which several ranks cannot share on a CPU"
        raise InputError("model under torchrun", expected=expected, found=f"layers {shown}", fix="Train it without torchrun.")


def _copied(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies of the tensors of a model; see stack.side_by_side."""
    return {name: tensor.clone() for name, tensor in side_by_side(model).items()}


def _put(tensors: Mapping[str, torch.Tensor], model: torch.nn.Module) -> None:
    """Give a model these tensors, if there are any."""
    for name, now in side_by_side(model).items() if tensors else ():
        now.copy_(tensors[name])


def identity(
    model: Spec, recipe: Recipe, seed: int, own: Identity, source: Split, valid: Split, device: torch.device
) -> Identity:
    """All that the bits of trained weights depend on: settings, data, machine and versions. own: settings of some nets only."""
    return {
        "model": {"spec": model.text, "behaviour": model.behaviour},
        "recipe": asdict(recipe.recorded),
        "seed": seed,
        **own,
        "data": {"inputs": source.inputs_digest, "labels": source.labels_digest},
        "classes": list(source.classes),
        "inputs": described(source.inputs),
        "validation": {"inputs": valid.inputs_digest, "labels": valid.labels_digest},
        "machine": runtime.shaping(device),
        "versions": {"training": VERSION, "objective": OBJECTIVE, "inference": INFERENCE},
    }


def best_epoch(history: list[Epoch]) -> Epoch:
    """The first epoch with the lowest validation NLL; NaN is never the best."""
    return min(history, key=lambda epoch: (math.isnan(epoch.valid_nll), epoch.valid_nll))
