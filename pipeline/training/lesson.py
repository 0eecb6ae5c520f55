"""A lesson: what students learn from, and how one student or a stack of them is trained on it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.base import files, ranks, spec
from pipeline.base.errors import InputError
from pipeline.base.places import Place
from pipeline.base.settings import check
from pipeline.base.spec import Spec
from pipeline.cache.identity import require_teacher
from pipeline.cache.reader import Cache
from pipeline.cache.writer import require_sealed
from pipeline.data.selection import Selection
from pipeline.data.settings import Views
from pipeline.data.splits import UNLABELLED, Split, class_numbers, open_splits
from pipeline.data.views import Policy, open_views
from pipeline.models.build import build, parameter_count, placed
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.encoding import example
from pipeline.models.ensemble import RULES
from pipeline.models.modelfile import Chosen, Data, Kind, Learned, Mutual, Net, Shown
from pipeline.models.predict import predict
from pipeline.models.stack import Stack, stackable
from pipeline.models.watched import VERSION as WATCHED
from pipeline.training import bias
from pipeline.training.course import STEADY, Course, Progress
from pipeline.training.curriculum import Heat, require_start
from pipeline.training.examples import Examples
from pipeline.training.featured import Featured
from pipeline.training.features import FeatureLoss
from pipeline.training.fit import Epoch, Fitted, Validation, fit, identity, synced
from pipeline.training.guidance import Guidance
from pipeline.training.inputs import inputs_of
from pipeline.training.learner import Learner
from pipeline.training.live import Live
from pipeline.training.losses import SoftLoss
from pipeline.training.objective import HARD, LossWeights, Objective
from pipeline.training.recipe import Recipe
from pipeline.training.resume import Identity, Kept, State
from pipeline.training.signal import NoTeacher, Signal
from pipeline.training.targets import Targets

Outcome = tuple[torch.nn.Module, Fitted]  # a net after its training, and how it went

STACKED_WEIGHTS = 200_000  # of a net, on a CPU: with more weights a single net keeps the cores busy
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Soft:
    """Where soft targets come from, and the loss that students learn from them by.

    teachers: by name, the folder of each cache; with `live`, of each teacher, which then runs in the training loop.
    rule: see ensemble.combine. weights: one per teacher; None for equal ones. course: of temperature and alpha over a training.
    features: feature losses, which need caches that hold the features. heat: how a temperature is learned, see curriculum.py.
    """

    teachers: Mapping[str, Place]
    rule: str
    loss: SoftLoss
    weights: Sequence[float] | None = None
    live: bool = False
    course: Course = STEADY
    features: Sequence[FeatureLoss] = ()
    heat: Spec | None = None

    def require_any_temperature(self) -> None:
        """Raise InputError where targets that are combined at one T would be softened at others."""
        moving = f"temperature_schedule {self.course.temperature.text}" if self.course.temperature else ""
        moving = f"learn_temperature {self.heat.text}" if self.heat else moving
        what = moving or (f"loss {self.loss.text}" if self.loss.spreads else "")
        if what and self.rule == "probabilities" and len(self.teachers) > 1:
            expected = "one teacher, or `rule: logits`: mean probabilities are those at one T, and this softens at several"
            found = f"{len(self.teachers)} teachers by rule probabilities"
            raise InputError(what, expected=expected, found=found, fix="Set `rule: logits`.")

    def require_learnable(self, temperatures: Sequence[float]) -> None:
        """Raise InputError where a temperature that is learned would not begin there, or could not be learned."""
        if self.heat is None:
            return
        what, fix = f"learn_temperature {self.heat.text}", "Leave one of the two out."
        if self.course.temperature:
            found = f"temperature_schedule {self.course.temperature.text} as well"
            raise InputError(what, expected="no schedule of T beside it", found=found, fix=fix)
        if not self.loss.softens:
            raise InputError(what, expected="a loss with a T", found=f"loss {self.loss.text}, which has none", fix=fix)
        for each in temperatures:
            require_start(self.heat, each)


@dataclass(frozen=True)
class Student:
    """A student after its training.

    facts: its entry in model.json, still without the sha256 of its weights. kept: the epoch that the weights of `net` are of;
    both are None for a student that diverged.
    """

    facts: Net
    history: list[Epoch]
    net: torch.nn.Module | None = None
    kept: Epoch | None = None


@dataclass(frozen=True)
class Ground:
    """What all lessons of one job share: the splits, opened once, the working folder and the device."""

    splits: Mapping[str, Split]
    work: Place
    device: torch.device
    _validations: dict[int, Validation] = field(init=False, default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, folder: Place, names: Sequence[str], work: Place, device: torch.device) -> "Ground":
        """Open these splits, `valid` among them, in the folder that ingest wrote; see open_splits."""
        return cls(open_splits(folder, names), work, device)

    def validation(self, net: torch.nn.Module, memory_bytes: int) -> Validation:
        """The validation split as a net takes it; all lessons with this much memory share its numbers."""
        if memory_bytes not in self._validations:
            self._validations[memory_bytes] = Validation.of(self.splits["valid"], self.device, memory_bytes)
        return self._validations[memory_bytes].of_net(net)

    @property
    def has_transfer_set(self) -> bool:
        """Whether the transfer set has other rows than the training split."""
        return self.splits["transfer"].path != self.splits["train"].path


@dataclass(frozen=True)
class Lesson:
    """What students learn from: rows of a split in views, with labels and soft targets. Made by `Lesson.prepare`.

    correct: the classes whose bias is corrected on the validation split after training. rows, views: as model.json
    describes them. specs: the specs of the lesson, each of which may name a plug-in.
    """

    ground: Ground
    source: Split
    examples: Examples
    labels: torch.Tensor
    soft: Soft | None
    signal: Signal
    correct: Sequence[int]
    rows: Chosen
    views: Shown
    specs: Sequence[Spec]

    @classmethod
    def prepare(
        cls,
        ground: Ground,
        *,
        views: Views,
        rows: str,
        soft: Soft | None,
        weightings: Sequence[LossWeights],
        correct: Sequence[int | str],
        recipe: Recipe,
    ) -> "Lesson":
        """Open caches or teachers, and refuse what does not fit.

        rows: which rows, see selection.py. soft: None for labels alone, of the training split. weightings: those of all
        students of this lesson. Raises InputError for bad settings and for a cache of other data or views, or whose teacher
        was trained again since (it names the field), IntegrityError for a damaged cache.
        """
        check(views)
        temperatures = [each.temperature for each in weightings if each.alpha > 0] or [1.0]
        source, valid = ground.splits["transfer" if soft else "train"], ground.splits["valid"]
        for what, wanted in (("keep: best", recipe.selects), ("correct", bool(correct))):
            if wanted:
                valid.require_unfolded(what)
        if soft:
            soft.require_any_temperature()
            soft.require_learnable([each.temperature for each in weightings if each.alpha > 0])
            soft.loss.require_use(len(source.classes))
            _require_single_views(soft, recipe)
        policy, count = open_views(views)
        signal = _signal(soft, ground, policy, count, temperatures) if soft else NoTeacher()
        selection = Selection.parse(rows)
        labels = source.labels()
        chosen = selection.choose(labels, source.classes)
        _require_labels(source, labels[chosen], soft, weightings)
        some = None if len(chosen) == source.rows else chosen
        policy.require_kind(source.inputs.kind)
        _require_whole_labels(policy, soft)
        inputs = inputs_of(source, policy)
        draws = recipe.settings.draws
        examples = Examples(inputs, policy, count, signal, recipe.memory_bytes, ground.device, some, draws)
        numbers = class_numbers(correct, source.classes, "correct")
        bias.require_rows(valid.labels(), len(source.classes), numbers)
        selected = Chosen(selection.text, len(chosen), files.sha256(chosen.tobytes()))
        shown = Shown(policy.text, None if policy.every else policy.seed, policy.behaviours, count)
        held = torch.from_numpy(labels).to(ground.device)
        taught = (soft.loss.spec, *soft.course.specs, *(each.spec for each in soft.features)) if soft else ()
        specs = (selection.spec, *policy.steps, *taught)
        return cls(ground, source, examples, held, soft, signal, numbers, selected, shown, specs)

    def identity(self, model: Spec, recipe: Recipe, weighting: LossWeights, seed: int, cohort: Sequence[int] = ()) -> Identity:
        """All that the weights of a student are a function of. cohort: the seeds of those that learn from each other."""
        learned, mutual = self.learned(weighting), _mutual(weighting, cohort)
        own: dict[str, Any] = {
            "weighing": weighting.to_dict(),
            "soft": None if learned is None else _plain(learned),
            "mutual": None if mutual is None else _plain(mutual),
            "rows": vars(self.rows),
            "views": _plain(self.views),
            "correct": {"classes": list(self.correct), "version": bias.VERSION} if self.correct else None,
        }
        if self._guiding(weighting):
            own["watched"] = WATCHED
        return identity(model, recipe, seed, own, self.source, self.ground.splits["valid"], self.examples.device)

    def learned(self, weighting: LossWeights) -> Learned | None:
        """What model.json says of the soft targets; its digests bind a student to the caches that it learned from."""
        if self.soft is None or weighting == HARD:
            return None
        loss, signal, course = self.soft.loss, self.signal, self.soft.course
        heat, alpha = (None if each is None else each.identity for each in (course.temperature, course.alpha))
        return Learned(
            **weighting.to_dict(),
            loss=loss.text,
            loss_behaviour=loss.spec.behaviour,
            squared=loss.squared,
            standardised=loss.standardised,
            rule=self.soft.rule,
            rule_version=RULES[self.soft.rule],
            weights=signal.ensemble.weights,
            caches=signal.digests if signal.kind == "student" else None,
            live=signal.digests if signal.kind == "live" else None,
            temperature_schedule=heat,
            alpha_schedule=alpha,
            loss_warmup=course.warmup,
            features=tuple(each.text for each in self._guiding(weighting)),
            feature_behaviours=tuple(each.spec.behaviour for each in self._guiding(weighting)),
            learned_temperature=self.soft.heat.identity if self.soft.heat and weighting.alpha else None,
        )

    def read(self, model: Spec, recipe: Recipe) -> list[files.Witness]:
        """Everything that students of this model and recipe depend on, and that must still be the same when the job ends."""
        return [self.source.witness, *self.signal.witnesses, *spec.witnesses(model, *recipe.specs, *self.specs)]

    def train(
        self, model: Spec, recipe: Recipe, weightings: Sequence[LossWeights], *, seed: int, names: Sequence[str], kept: Kept
    ) -> list[Student]:
        """Train one student per weighting, all with this seed; see `fit`. Of several ranks only the first one gets them."""
        fitted = self.fit(model, recipe, weightings, seed=seed, names=names, kept=kept)
        if not ranks.current().first:
            return []
        return [self._finished(name, *one, recipe, seed) for name, one in zip(names, fitted, strict=True)]

    def fit(
        self, model: Spec, recipe: Recipe, weightings: Sequence[LossWeights], *, seed: int, names: Sequence[str], kept: Kept
    ) -> list[Outcome]:
        """Train one net per weighting, all with this seed, and as one stack where possible; `kept` has them then.

        All have the same order of rows, views, initial weights and dropout. They are trained one by one where a stack would
        couple them (batch statistics, some losses and optimizers of the user), and where a single net keeps the CPU busy.
        A net whose finished training is in `kept` is not trained again. names: of the students, for messages.
        Of several ranks only the first one gets those too.
        Raises InputError for settings that do not make a model.
        """
        members = [self.identity(model, recipe, each, seed) for each in weightings]
        nets = [self._build(model, seed) for _ in weightings]
        alone = len(weightings) == 1
        restored = [_restored(net, kept, member, alone) for net, member in zip(nets, members, strict=True)]
        fitted = {index: found for index, found in enumerate(restored) if found is not None}
        missing = ranks.current().agreed([index for index in range(len(nets)) if index not in fitted])
        together = self._together([nets[index] for index in missing], recipe, names)
        for indices in [missing] if together and missing else [[index] for index in missing]:
            others = f" and {len(indices) - 1} more" if len(indices) > 1 else ""
            trained = self._fit(
                [nets[index] for index in indices], [weightings[index] for index in indices], recipe, seed=seed,
                name=f"{names[indices[0]]}{others}, seed {seed}", state=kept.state([members[index] for index in indices]),
            )  # fmt: skip
            for index, (net, one) in zip(indices, trained, strict=True):
                nets[index], fitted[index] = net, one
        return [(nets[index], fitted[index]) for index in sorted(fitted)]

    def train_cohort(
        self, model: Spec, recipe: Recipe, weighting: LossWeights, *, seeds: Sequence[int], name: str, kept: Kept
    ) -> list[Student]:
        """Train one student per seed, which learn from each other; see `fit_cohort`."""
        fitted = self.fit_cohort(model, recipe, weighting, seeds=seeds, name=name, kept=kept)
        return [self._finished(name, *one, recipe, seed) for seed, one in zip(seeds, fitted, strict=True)]

    def fit_cohort(
        self, model: Spec, recipe: Recipe, weighting: LossWeights, *, seeds: Sequence[int], name: str, kept: Kept
    ) -> list[Outcome]:
        """Train one net per seed, as one stack in which each learns from the others; see objective.py.

        Each has the initial weights of its own seed, and all the order of rows, the views and the dropout of the first one.
        They are not trained again where their finished training is in `kept`.
        """
        members = [self.identity(model, recipe, weighting, seed, seeds) for seed in seeds]
        nets = [self._build(model, seed) for seed in seeds]
        restored = [_restored(net, kept, member, False) for net, member in zip(nets, members, strict=True)]
        trained = [(net, one) for net, one in zip(nets, restored, strict=True) if one is not None]
        if len(trained) == len(seeds):
            return trained
        return self._fit(
            [self._build(model, seed) for seed in seeds], [weighting] * len(seeds), recipe, seed=seeds[0],
            name=f"{name}, {len(seeds)} seeds", state=kept.state(members),
        )  # fmt: skip

    def require_cohort(self, model: Spec, recipe: Recipe, seeds: Sequence[int]) -> None:
        """Raise InputError where students of these seeds cannot learn from each other."""
        if len(seeds) < 2:
            fix = "Give several seeds, or take `mutual` away."
            raise InputError("mutual, seeds", expected="two or more students that learn from each other", found="one", fix=fix)
        if reason := self._obstacle([self._build(model, seed) for seed in seeds], recipe):
            fix = "Choose others, or take `mutual` away."
            raise InputError(f"mutual, {model.text}", expected="students that share each step", found=reason, fix=fix)

    def write(
        self, folder: Path, model: Spec, recipe: Recipe, weighting: LossWeights, students: Sequence[Student], *, name: str
    ) -> None:
        """Write model.json, the history and the weights of these students into `folder`."""
        kind: Kind = "baseline" if weighting == HARD else self.signal.kind
        Checkpoint.write(
            folder, kind=kind, name=name, model=model, split=self.source, nets={each.facts: each.net for each in students},
            data=Data.of(self.source, self.ground.splits["valid"]),
            history=[{"seed": each.facts.seed, **epoch.to_dict()} for each in students for epoch in each.history],
            recipe=recipe.recorded, views=self.views, rows=self.rows, soft=self.learned(weighting),
            mutual=_mutual(weighting, [each.facts.seed for each in students]),
        )  # fmt: skip

    def require_guided(self, model: Spec) -> None:
        """Raise InputError where students of this model cannot learn from the features: before any of them is trained."""
        if self.soft and self.soft.features:
            self._guidance(self._build(model, 0), replace(HARD, features=True), 0)

    def _guiding(self, weighting: LossWeights) -> Sequence[FeatureLoss]:
        """The feature losses of a student with this weighting."""
        return self.soft.features if self.soft and weighting.features else ()

    def _guidance(self, net: torch.nn.Module, weighting: LossWeights, seed: int) -> Guidance | None:
        """The feature losses of a net, with what they train beside it; None for none."""
        if not (losses := self._guiding(weighting)) or not isinstance(self.signal, Featured):
            return None
        shown = example(net, self.source.inputs)
        return Guidance.of(losses, self.signal, net, shown, self.examples.rows, seed)

    def _heat(self, weighting: LossWeights) -> Heat | None:
        """The temperature of a student with this weighting, if it is learned."""
        if self.soft is None or self.soft.heat is None or not weighting.alpha:
            return None
        made: Heat = self.soft.heat(weighting.temperature)
        return made.to(self.examples.device)

    def _together(self, nets: Sequence[torch.nn.Module], recipe: Recipe, names: Sequence[str]) -> bool:
        """Whether these nets can be trained as a stack, and are faster that way; logs why where they cannot."""
        if len(nets) < 2:
            return True
        if self.examples.device.type == "cpu" and not _gains(nets[0]):
            return False
        if reason := self._obstacle(nets, recipe):
            _log.info("%s and others: trained one by one, because %s", names[0], reason)
        return reason is None

    def _obstacle(self, nets: Sequence[torch.nn.Module], recipe: Recipe) -> str | None:
        """Why these nets cannot be trained as a stack; None where they can."""
        for holds, reason in (
            (self.soft is None or not self.soft.features, "they learn from features"),
            (self.soft is None or self.soft.heat is None, "their temperature is learned"),
            (recipe.elementwise, "their optimizer is a plug-in, which may mix the weights of several students"),
            (self.soft is None or self.soft.loss.stacks(len(self.source.classes)), "their loss takes one student at a time"),
            (
                stackable(nets, example(nets[0], self.source.inputs)),
                "they keep batch statistics, or torch.func.vmap cannot run them",
            ),
        ):
            if not holds:
                return reason
        return None

    def _fit(
        self,
        nets: Sequence[torch.nn.Module],
        weightings: Sequence[LossWeights],
        recipe: Recipe,
        *,
        seed: int,
        name: str,
        state: State,
    ) -> list[Outcome]:
        """Train these nets, several as one stack; each as it is afterwards, and how it went."""
        model = Stack(nets).to(self.examples.device) if len(nets) > 1 else nets[0]
        guidance, heat = self._guidance(nets[0], weightings[0], seed), self._heat(weightings[0])  # of a net that is alone
        objective = Objective.of(
            weightings, self.labels, self.soft.loss if self.soft else None, self.signal, guidance, heat,
            smoothing=recipe.settings.label_smoothing, virtual=recipe.virtual,
            course=self.soft.course if self.soft else STEADY,
            chosen=None if self.examples.chosen is None else torch.from_numpy(self.examples.chosen),
        )  # fmt: skip
        validation = self.ground.validation(nets[0], recipe.memory_bytes)
        learner = Learner(model, guidance.features if guidance else (), objective.trained) if objective.trained else model
        fitted = fit(learner, self._examples(nets[0]), objective, recipe, validation, seed=seed, name=name, state=state)
        if heat is not None:
            began, ended = weightings[0].temperature, heat(Progress(recipe.settings.epochs, 1.0)).item()
            _log.info("%s: the temperature began at %g and ended at %.3g", name, began, ended)
        return list(zip(model.nets() if isinstance(model, Stack) else nets, fitted, strict=True))

    def _examples(self, net: torch.nn.Module) -> Examples:
        """The examples as a net takes them: texts as it encodes them."""
        if self.source.inputs.kind != "text":
            return self.examples
        return replace(self.examples, inputs=inputs_of(self.source, self.examples.policy, net))

    def _build(self, model: Spec, seed: int) -> torch.nn.Module:
        net = build(model, self.source.inputs, len(self.source.classes), seed=seed)
        if self.correct:
            bias.require_bias(net, len(self.source.classes))
        return synced(placed(net, self.examples.device))

    def _finished(self, name: str, net: torch.nn.Module, fitted: Fitted, recipe: Recipe, seed: int) -> Student:
        """The student after its training, with the bias of some classes corrected where that is asked for."""
        name = f"{name}, seed {seed}"
        if fitted.diverged is not None:
            _log.warning("%s: diverged in epoch %d and is left out; lower the learning rate", name, fitted.diverged)
            return Student(Net(seed, None, None, diverged=fitted.diverged), fitted.history)
        kept, offsets, validation = fitted.kept(recipe), None, self.ground.validation(net, recipe.memory_bytes)
        if self.correct:
            logits = predict(net, validation.inputs)
            found = bias.offsets(logits, validation.labels, self.correct)
            bias.fold_into(net, found, validation.inputs, logits)
            kept, offsets = replace(kept, **vars(validation.measure(net)[0])), tuple(found.tolist())
        featured = bool(self.soft and self.soft.features)
        facts = Net(seed, None, kept.epoch, offsets, chance=validation.at_chance(kept, name, features=featured))
        return Student(facts, fitted.history, net, kept)


def _gains(net: torch.nn.Module) -> bool:
    """Whether such nets train faster as a stack on a CPU: small ones do; convolutions take up to four times as long."""
    return parameter_count(net) <= STACKED_WEIGHTS and not any(isinstance(each, torch.nn.Conv2d) for each in net.modules())


def require_seeds(seeds: Sequence[int]) -> None:
    """Raise InputError unless there are seeds, all different."""
    if not seeds or len(set(seeds)) != len(seeds):
        raise InputError("seeds", expected="one or more, all different", found=str(list(seeds)), fix="Correct the setting.")


def _restored(net: torch.nn.Module, kept: Kept, member: Identity, alone: bool) -> Fitted | None:
    """How the finished training of a net went, whose weights the net then has; None where it is not finished."""
    if (found := kept.finished(member, alone=alone)) is None:
        return None
    weights, facts, index = found
    net.load_state_dict(net.state_dict() | weights)  # a stack keeps no buffers; they stay as they are
    return Fitted([Epoch(**epoch) for epoch in facts["histories"][index]], facts["diverged"][index])


def _signal(soft: Soft, ground: Ground, policy: Policy, views: int, temperatures: Sequence[float]) -> Signal:
    """Open teachers or caches; refuse caches of other splits or views, and those whose teacher was trained again."""
    if soft.live:
        _require_cached(soft)
        return Live.open(
            soft.teachers, ground.splits["transfer"], policy, ground.device, temperatures=temperatures, rule=soft.rule,
            weights=soft.weights,
        )  # fmt: skip
    for path in soft.teachers.values():
        require_sealed(path, ground.work)
    caches = {name: Cache.open(path) for name, path in soft.teachers.items()}
    targets = Targets.of(caches, temperatures=temperatures, rule=soft.rule, weights=soft.weights)
    for name, cache in caches.items():
        cache.require_of(name)
        cache.require_data({name: ground.splits[name] for name in ("transfer", "valid")})
        cache.require_views(policy.to_dict(), views)
        require_teacher(cache, cache.path.parent.parent / "teachers" / cache.path.name)
    return Featured.of(targets, [text for each in soft.features for text in each.teacher]) if soft.features else targets


def _require_cached(soft: Soft) -> None:
    """Raise InputError for feature losses of teachers that run in the loop."""
    if soft.features:
        expected, fix = "teachers whose features are cached", "Leave out --live, or the setting `features`."
        raise InputError("features", expected=expected, found="--live, whose teachers run in the loop", fix=fix)


def _require_single_views(soft: Soft, recipe: Recipe) -> None:
    """Raise InputError for several views of a row in one batch, with a loss that would set them apart as if of two rows."""
    draws, contrasts = recipe.settings.draws, [each for each in soft.features if each.contrasts]
    if contrasts and draws > 1:
        what, expected = f"features, {contrasts[0].text}", "one view of each row in a batch, as views of a row are no contrast"
        raise InputError(what, expected=expected, found=f"draws {draws}", fix="Set `draws: 1`, or leave that loss out.")


def _require_whole_labels(policy: Policy, soft: Soft | None) -> None:
    """Raise InputError for views that mix two rows, and so their labels, with a loss that takes one label of each row."""
    if policy.mixes and soft and soft.loss.needs_labels:
        what, expected = f"loss {soft.loss.text}", "a loss without labels, where views mix two rows"
        raise InputError(what, expected=expected, found=f"view policy {policy.text}", fix="Set `loss: kl`.")


def _require_labels(source: Split, labels: np.ndarray, soft: Soft | None, weightings: Sequence[LossWeights]) -> None:
    """Raise InputError where labels are learned from and none is known, or where a loss needs that of every row."""
    missing = int((labels == UNLABELLED).sum())
    if missing == len(labels) and any(each.takes_labels(soft.course if soft else STEADY) for each in weightings):
        fix = "Set alpha to 1 (and no label_weight, no alpha_schedule) to learn from the soft targets alone."
        raise InputError(str(source.path), expected="a label for some row", found=f"{missing:,} rows without", fix=fix)
    if missing and soft and soft.loss.needs_labels:
        expected, fix = f"a label for every row, as loss {soft.loss.text} needs", "Set `loss: kl`."
        raise InputError(str(source.path), expected=expected, found=f"{missing:,} rows without", fix=fix)


def _mutual(weighting: LossWeights, cohort: Sequence[int]) -> Mutual | None:
    """What model.json says of students that learned from each other; None for others."""
    return Mutual(weighting.mutual, tuple(cohort)) if weighting.mutual > 0 else None


def _plain(facts: Learned | Mutual | Shown) -> dict[str, Any]:
    """Facts with lists for tuples, as JSON has them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(facts).items()}
