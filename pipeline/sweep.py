"""Sweep: students × temperatures × alphas × seeds from the same caches, in one process, trained and then measured.

Students of one architecture and one seed are trained together, as a stack that shares every batch.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from pipeline.base import commands, files, runtime
from pipeline.base.commands import short
from pipeline.base.errors import InputError
from pipeline.evaluate import Evaluated, Trained, evaluate, require_comparable
from pipeline.models.build import parse_model
from pipeline.training.lesson import Ground, Lesson, Soft, Student, Views, require_seeds
from pipeline.training.objective import HARD, Weighing
from pipeline.training.recipe import Recipe
from pipeline.training.resume import Identity, Kept

BASELINE = "hard"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """One architecture and how it is trained: the settings of `distill` that do not vary within a sweep."""

    model: str
    recipe: Recipe
    views: Views
    rows: str
    soft: Soft
    correct: Sequence[int | str]
    seeds: Sequence[int]


def key(weighing: Weighing) -> str:
    """How a setting is called in names of folders and runs, such as T4-alpha0.5; `hard` for the baseline."""
    return BASELINE if weighing == HARD else f"T{short(weighing.temperature)}-alpha{short(weighing.alpha)}"


def sweep(
    *,
    plans: Mapping[str, Plan],
    weighings: Sequence[Weighing],
    baseline: bool,
    together: int,
    teachers: Mapping[str, Path],
    splits: Path,
    work: Path,
    out: Path,
    device: torch.device,
    anew: bool = False,
) -> Evaluated:
    """Train every plan at every weighing, and its baseline, and measure all: students, metrics and plots below `out`.

    plans: by student name. `students` has a folder <student>-<key> for each, as `distill` writes it. baseline: whether one
    is trained for each plan, from the labels of the training split; weighings may then be empty. metrics and plots are those
    of `evaluate`. The three are replaced together; whatever else is in `out` stays. together: how many nets of one seed may
    share each step. teachers: their folders, by the names under which the plans have their caches. A sweep that was killed
    goes on from what it kept in `work`, and ends with the same bits. A student that was trained before by the same settings
    is not trained again, unless it is to be done anew; one that diverges leaves the others as they are.
    Raises what `distill` and `evaluate` raise.
    """
    if together < 1:
        raise InputError("together", expected="1 or more", found=str(together), fix="Correct the setting.")
    if not plans or not (weighings or baseline):
        found = f"{len(plans)} students, {len(weighings)} settings, no baseline"
        raise InputError("sweep", expected="students, temperatures and alphas", found=found, fix="Correct the settings.")
    for plan in plans.values():
        require_seeds(plan.seeds)
    soft = _only_ensemble(plans)
    every = (HARD, *weighings) if baseline else tuple(weighings)
    if len(set(every)) < len(every):
        found = ", ".join(map(key, every))
        expected = "each temperature and alpha once; alpha 0 is the baseline"
        raise InputError("sweep", expected=expected, found=found, fix="Correct the settings.")
    ground = Ground.open(splits, ("transfer", "train", "valid"), work, device)

    def trained(students: Path) -> list[Trained]:
        found = []
        for name, each in [(name, each) for name in plans for each in every]:
            run, temperature = f"{name}-{key(each)}", None if each == HARD else each.temperature
            found.append(Trained(run, name, temperature, students / run, commands.sweep(out)))
        return found

    require_comparable(list(teachers), list(soft.teachers), trained(out), ground.splits["valid"])
    groups = list(_groups(ground, plans, weighings, baseline, together))
    members = [member for group in groups for member in group.members]
    read = [each for group in groups for each in group.lesson.read(parse_model(group.plan.model), group.plan.recipe)]
    with (
        Kept.hold(work, out, members, keep=True, anew=anew) as kept,
        files.replaced_folder(out, read=read, keep_others=True) as folder,
    ):
        _tell_of_dropped(out, {each.name for each in trained(out)})
        _train(groups, kept, folder / "students", out.name)
        files.require_unchanged(read)
        return evaluate(
            splits=splits, teachers={name: (path, soft.teachers[name]) for name, path in teachers.items()},
            ensemble=list(soft.teachers), rule=soft.rule, weights=soft.weights, students=trained(folder / "students"),
            study=out.name, work=work, metrics_out=folder / "metrics", plots_out=folder / "plots", device=device,
        )  # fmt: skip


def _tell_of_dropped(out: Path, names: set[str]) -> None:
    """Say which students of the sweep before are not among these runs, and go when this one takes its place."""
    dropped = sorted({path.name for path in out.glob("students/*")} - names)
    if dropped:
        shown = ", ".join(dropped[:3]) + (", …" if len(dropped) > 3 else "")
        _log.warning("%s: students that are not of this sweep go, %d of them: %s", out, len(dropped), shown)


def _only_ensemble(plans: Mapping[str, Plan]) -> Soft:
    """The teachers of all plans; raises InputError unless they are the same ones, combined in the same way."""
    (first, plan), *others = plans.items()
    for name, other in others:
        for what in ("teachers", "rule", "weights"):
            expected, found = getattr(plan.soft, what), getattr(other.soft, what)
            if expected != found:
                fix = "Sweep students of other teachers apart."
                wanted = f"{expected} as of student {first}"
                raise InputError(f"student {name}, {what}", expected=wanted, found=str(found), fix=fix)
    return plan.soft


@dataclass(frozen=True)
class _Group:
    """Students of one plan that are trained together, one stack for each seed."""

    name: str
    plan: Plan
    lesson: Lesson
    weighings: Sequence[Weighing]

    @property
    def members(self) -> list[Identity]:
        """All that the weights of each student are a function of, seed by seed."""
        model = parse_model(self.plan.model)
        return [
            self.lesson.identity(model, self.plan.recipe, each, seed) for seed in self.plan.seeds for each in self.weighings
        ]

    def train(self, seed: int, kept: Kept) -> dict[Weighing, Student]:
        """The students of one seed."""
        names = [f"{self.name}-{key(each)}" for each in self.weighings]
        model = parse_model(self.plan.model)
        students = self.lesson.train(model, self.plan.recipe, self.weighings, seed=seed, names=names, kept=kept)
        return dict(zip(self.weighings, students, strict=True))


def _train(groups: Sequence[_Group], kept: Kept, folder: Path, study: str) -> None:
    """Train the groups one after the other; those that learn from the same rows follow each other, and share them."""
    steps = runtime.progress((), "sweep", total=sum(len(group.plan.seeds) for group in groups), unit="stacks")
    for _, sharing in groupby(groups, key=lambda group: id(group.lesson)):
        for group in sharing:
            students: dict[Weighing, dict[int, Student]] = {each: {} for each in group.weighings}
            for seed in group.plan.seeds:
                for each, student in group.train(seed, kept).items():
                    students[each][seed] = student
                steps.update()
            for each in group.weighings:
                run, plan = f"{group.name}-{key(each)}", group.plan
                files.make_folder(folder / run)
                model = parse_model(plan.model)
                group.lesson.write(folder / run, model, plan.recipe, each, students[each], name=f"{study}/{run}")
        group.lesson.examples.release()
    steps.close()


def _groups(
    ground: Ground, plans: Mapping[str, Plan], weighings: Sequence[Weighing], baseline: bool, together: int
) -> Iterator[_Group]:
    """The stacks of every plan, those that share a lesson next to each other.

    Plans with the same rows, views, targets and budget share lessons. A lesson has no more temperatures than target logits
    fit the budget. The baseline is in a stack with others where it learns from the same rows.
    """

    def lesson(plan: Plan, soft: Soft | None, members: Sequence[Weighing]) -> Lesson:
        return Lesson.prepare(
            ground, views=plan.views, rows=plan.rows, soft=soft, weighings=members, correct=plan.correct, recipe=plan.recipe
        )

    apart = baseline and (not weighings or ground.has_transfer_set)
    temperatures = sorted({each.temperature for each in weighings})
    alike: dict[Any, dict[str, Plan]] = {}
    for name, plan in plans.items():
        shared = (plan.views, plan.rows, repr(plan.soft), tuple(plan.correct), plan.recipe.memory, plan.recipe.selects)
        alike.setdefault(shared, {})[name] = plan
    for sharing in alike.values():
        first = next(iter(sharing.values()))
        lessons = []
        if weighings:
            size = lesson(first, first.soft, weighings[:1]).examples.temperatures
            parts = [[each for each in weighings if each.temperature in some] for some in _chunks(temperatures, size)]
            if baseline and not apart:
                parts[0].insert(0, HARD)
            lessons = [(lesson(first, first.soft, part), part) for part in parts]
        if apart:
            lessons.append((lesson(first, None, [HARD]), [HARD]))
        for learned, part in lessons:
            for name, plan in sharing.items():
                for chunk in _chunks(part, together):
                    yield _Group(name, plan, learned, chunk)


def _chunks(items: Sequence, size: int) -> list[Sequence]:
    """At most `size` at a time."""
    return [items[start : start + size] for start in range(0, len(items), size)]
