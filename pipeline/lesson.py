"""A lesson: what students learn from, and how one of them, or a stack of them, is trained on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline import bias, files, models, spec, table, transfer
from pipeline.cache import Cache
from pipeline.checkpoint import Checkpoint, seed_weights
from pipeline.errors import InputError
from pipeline.examples import Examples
from pipeline.fit import Recipe, Row, Validation, best_row, circumstances, fit
from pipeline.live import Live
from pipeline.losses import SoftLoss
from pipeline.objective import Objective, Weighing
from pipeline.predict import predict
from pipeline.rows import Selection
from pipeline.stack import Stack, stackable
from pipeline.targets import Targets
from pipeline.transfer import UNLABELLED, Split
from pipeline.views import Policy
from pipeline.work import require_sealed

STACKED_WEIGHTS = 200_000  # of a net, on a CPU: 32 nets of 25,000 train 4 times as fast stacked, 2 of 1,300,000 half as fast


@dataclass(frozen=True)
class Views:
    """The views that a student draws from: of each row `count`, under a policy and its seed."""

    policy: str
    count: int
    seed: int


@dataclass(frozen=True)
class Soft:
    """Where soft targets come from.

    teachers: by name, the folder of each one's cache, or with `live` of the teacher itself, which then runs in the loop.
    weights: one per teacher, equal where None. rule: see targets.combine.
    """

    teachers: Mapping[str, Path]
    rule: str
    loss: SoftLoss
    weights: Sequence[float] | None = None
    live: bool = False


@dataclass(frozen=True)
class Student:
    """A trained student. history: one row per epoch. kept: the row of the epoch whose weights these are.

    offsets: what was added to the bias of each class after training, in logits; None where nothing was to be corrected.
    """

    net: torch.nn.Module
    history: list[Row]
    kept: Row
    offsets: list[float] | None


@dataclass(frozen=True)
class Lesson:
    """Rows of a split in views, with labels and soft targets; made by `Lesson.prepare`.

    correct: classes whose bias is corrected on the validation split after training.
    """

    source: Split
    valid: Split
    examples: Examples
    validation: Validation
    labels: torch.Tensor
    soft: Soft | None
    targets: Targets | None
    live: Live | None
    correct: Sequence[int]
    facts: Mapping[str, Any]

    @classmethod
    def prepare(
        cls,
        *,
        splits: Path,
        views: Views,
        rows: str,
        soft: Soft | None,
        weighings: Sequence[Weighing],
        correct: Sequence[int | str],
        recipe: Recipe,
        work: Path,
        device: torch.device,
    ) -> "Lesson":
        """Open splits and caches, and refuse what does not fit.

        rows: which of them, see rows.py. soft None: labels alone, of the training split. weighings: all that students of
        this lesson will be trained on. Raises InputError for settings that do not fit and for a cache that is not of these
        data or views (the field is named), IntegrityError for a damaged one.
        """
        if views.count < 1:
            raise InputError("views", expected="1 or more", found=str(views.count), fix="Correct the setting.")
        temperatures = sorted({each.temperature for each in weighings if each.alpha > 0})
        if soft and soft.live and len(temperatures) > 1:
            raise InputError("live teachers", expected="one temperature", found=str(temperatures), fix="Train from caches.")
        opened = transfer.open_splits(splits, ("transfer" if soft else "train", "valid"))
        source, valid = opened.values()
        for what, wanted in (("keep: best", recipe.selects), ("correct", bool(correct))):
            if wanted:
                valid.require_unfolded(what)
        policy = Policy.parse(views.policy, views.seed)
        targets = _targets(soft, opened, policy, views.count, temperatures, work) if soft and not soft.live else None
        live = None
        if soft and soft.live:
            live = Live.open(soft.teachers, source, weighings[0].temperature, soft.rule, soft.weights, device)
        selection = Selection.parse(rows)
        labels = source.labels()
        chosen = selection.choose(labels, source.classes)
        _require_labels(source, labels[chosen], soft, weighings)
        whole = len(chosen) == source.rows
        examples = Examples(source, policy, views.count, targets, recipe.memory_bytes, device, chosen=None if whole else chosen)
        facts = {
            "soft": _facts(soft, targets, live),
            "rows": {"selection": selection.text, "count": len(chosen), "sha256": files.sha256(chosen.tobytes())},
            "views": policy.facts() | {"count": views.count},
        }
        validation = Validation.of(valid, device)
        numbers = transfer.class_numbers(correct, source.classes, "correct")
        bias.require_rows(validation.labels, len(source.classes), numbers)
        return cls(
            source, valid, examples, validation, torch.from_numpy(labels).to(device), soft, targets, live, numbers, facts
        )

    def identity(self, model: spec.Spec, recipe: Recipe) -> dict[str, Any]:
        """All that the weights of a student are a function of, besides its seed and weighing."""
        return {
            "model": {"spec": model.text, "source_sha256": model.source_sha256},
            "recipe": recipe.facts(),
            **self.facts,
            **circumstances(self.source, self.valid, self.examples.device, "pipeline.lesson"),
        }

    def train(
        self, model: spec.Spec, recipe: Recipe, weighings: Sequence[Weighing], *, seed: int, name: str, state: Path
    ) -> list[Student]:
        """Train one student for each weighing, all of this seed: together if there are several, and if they can be.

        The same order of rows, views, initial weights and dropout for all. Those that batch statistics, or an optimizer of
        whose inner life nothing is known, would couple are trained one by one, and so are nets that fill a CPU by
        themselves. state: see fit; for those a folder of that name. Raises InputError for settings that make no model.
        """
        nets = [self._build(model, seed) for _ in weighings]
        if len(nets) > 1 and not (recipe.elementwise and self._gains(nets[0]) and stackable(nets[0], self.source.shape)):
            return [
                self.train(model, recipe, [each], seed=seed, name=name, state=state.with_suffix("") / f"{number}.safetensors")[
                    0
                ]
                for number, each in enumerate(weighings)
            ]
        together = Stack(nets).to(self.examples.device) if len(nets) > 1 else nets[0]
        objective = self._objective(weighings)
        what = {"seed": seed, "name": name, "state": state}
        if len(nets) > 1:
            what["nets"] = [f"at T = {each.temperature:g}, alpha = {each.alpha:g}" for each in weighings]
        histories = fit(together, self.examples, objective, recipe, self.validation, **what)
        trained = together.nets() if isinstance(together, Stack) else [together]
        return [self._finished(net, history, recipe) for net, history in zip(trained, histories, strict=True)]

    def write(
        self, folder: Path, model: spec.Spec, recipe: Recipe, weighing: Weighing, students: Mapping[int, Student]
    ) -> None:
        """Write model.json, history.csv and seed-<seed>.safetensors of these students, by seed, into `folder`."""
        facts = {"seeds": list(students), **self.facts, "recipe": recipe.facts(), "source_sha256": model.source_sha256}
        if self.soft is not None:
            facts["soft"] = {**weighing.facts(), **facts["soft"]}
        facts["kept_epochs"] = [student.kept["epoch"] for student in students.values()]
        if self.correct:
            facts["offsets"] = [student.offsets for student in students.values()]
        weights = {seed_weights(seed): student.net for seed, student in students.items()}
        Checkpoint(model.text, self.source.shape, self.source.classes, facts).save(folder, weights)
        history = [{"seed": seed, **row} for seed, student in students.items() for row in student.history]
        files.write(folder / "history.csv", table.to_csv(history))

    def _gains(self, net: torch.nn.Module) -> bool:
        """Whether a stack of such nets is faster than one after the other."""
        return self.examples.device.type != "cpu" or models.parameter_count(net) <= STACKED_WEIGHTS

    def _build(self, model: spec.Spec, seed: int) -> torch.nn.Module:
        net = models.build(model, self.source.shape, len(self.source.classes), seed=seed)
        if self.correct:
            bias.require_bias(net, len(self.source.classes))
        return net.to(self.examples.device)

    def _objective(self, weighings: Sequence[Weighing]) -> Objective:
        several = self.targets is not None and isinstance(self.targets.temperature, tuple)
        places = {each: place for place, each in enumerate(self.targets.temperature)} if several else None
        loss = self.soft.loss if self.soft else None
        return Objective.of(weighings, self.labels, loss, places, self.live)

    def _finished(self, net: torch.nn.Module, history: list[Row], recipe: Recipe) -> Student:
        kept = best_row(history) if recipe.selects else history[-1]
        if not self.correct:
            return Student(net, history, kept, None)
        pixels, labels = self.validation.pixels, self.validation.labels
        logits = predict(net, pixels)
        offsets = bias.offsets(logits, labels, self.correct)
        bias.fold_into(net, offsets, pixels, logits)
        return Student(net, history, kept | self.validation.measure(net)[0], offsets.tolist())


def require_seeds(seeds: Sequence[int]) -> None:
    """Raise InputError unless there are seeds, all different."""
    if not seeds or len(set(seeds)) != len(seeds):
        raise InputError("seeds", expected="one or more, all different", found=str(list(seeds)), fix="Correct the setting.")


def _targets(
    soft: Soft, splits: Mapping[str, Split], policy: Policy, views: int, temperatures: Sequence[float], work: Path
) -> Targets:
    """Open the caches, and refuse those that are not of exactly these splits and views."""
    for path in soft.teachers.values():
        require_sealed(path, work)
    caches = {name: Cache.open(path) for name, path in soft.teachers.items()}
    varies = len(caches) > 1 and soft.rule == "probabilities" and len(temperatures) > 1
    at = tuple(temperatures) if varies else (*temperatures, 1.0)[0]  # logits that do not depend on T are kept once
    targets = Targets.of(caches, at, soft.rule, soft.weights)
    for cache in caches.values():
        cache.require_data(splits)
        cache.require_views(policy.facts(), views)
    return targets


def _require_labels(source: Split, labels: np.ndarray, soft: Soft | None, weighings: Sequence[Weighing]) -> None:
    missing = int((labels == UNLABELLED).sum())
    if not missing:
        return
    if any(each.labels > 0 for each in weighings):
        fix = "Set alpha to 1 (and no label_weight) to learn from the soft targets alone."
        raise InputError(str(source.path), expected="a label for every row", found=f"{missing:,} rows without", fix=fix)
    if soft and soft.loss.needs_labels:
        expected, fix = f"a label for every row, as loss {soft.loss.text} needs", "Set `loss: kl`."
        raise InputError(str(source.path), expected=expected, found=f"{missing:,} rows without", fix=fix)


def _facts(soft: Soft | None, targets: Targets | None, live: Live | None) -> dict[str, Any] | None:
    """What model.json says of the soft targets: the digests bind a student to the caches it learned from."""
    if soft is None:
        return None
    facts = {"loss": soft.loss.text, "squared": soft.loss.squared, "standardised": soft.loss.standardised, "rule": soft.rule}
    if soft.loss.spec.source_sha256:
        facts["loss_source_sha256"] = soft.loss.spec.source_sha256
    if live is not None:
        return facts | {"weights": live.weights, "live": live.digests}
    return facts | {
        "weights": targets.weights,
        "caches": {name: cache.manifest.digest for name, cache in targets.caches.items()},
    }
