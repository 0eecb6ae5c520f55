"""Sweep: students × temperatures × alphas × seeds from the same caches, in one process, trained and then measured.

Students of one architecture and one seed are trained together, as a stack that shares every batch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from pipeline import files, models, runtime, transfer
from pipeline.checkpoint import resumable
from pipeline.comparison import short
from pipeline.errors import InputError
from pipeline.evaluate import Run, Trained, evaluate, require_comparable
from pipeline.fit import Recipe
from pipeline.lesson import Lesson, Soft, Student, Views, require_seeds
from pipeline.objective import HARD, Weighing

BASELINE = "hard"


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
) -> list[Run]:
    """Train every plan at every weighing, and its baseline, and measure all: students, metrics and plots below `out`.

    plans: by student name. `students` has a folder <student>-<key> for each, as `distill` writes it. baseline: whether one
    is trained for each plan, from the labels of the training split; weighings may then be empty. metrics and plots are those
    of `evaluate`. together: how many nets of one seed may share each step. teachers: their folders, by the names under which
    the plans have their caches. A sweep that was killed goes on from what it kept in `work`, and ends with the same bits.
    Raises what `distill` and `evaluate` raise.
    """
    if together < 1:
        raise InputError("together", expected="1 or more", found=str(together), fix="Correct the setting.")
    if not plans or not (weighings or baseline):
        found = f"{len(plans)} students, {len(weighings)} settings, no baseline"
        raise InputError("sweep", expected="students, temperatures and alphas", found=found, fix="Correct the settings.")
    for plan in plans.values():
        require_seeds(plan.seeds)
    soft = next(iter(plans.values())).soft
    trained = [
        Trained(
            f"{name}-{key(each)}", name, "" if each == HARD else short(each.temperature), out / f"students/{name}-{key(each)}"
        )
        for name in plans
        for each in ((HARD, *weighings) if baseline else weighings)
    ]
    require_comparable(list(teachers), list(soft.teachers), trained, transfer.open_splits(splits, ["valid"])["valid"])
    groups = list(_groups(plans, weighings, baseline, together, {"splits": splits, "work": work, "device": device}))
    with resumable(work, out, {group.key: group.identity for group in groups}) as kept:
        with files.replaced_folder(out / "students") as folder:
            _train(groups, kept, folder)
        return evaluate(
            splits=splits, teachers={name: (path, soft.teachers[name]) for name, path in teachers.items()},
            ensemble=list(soft.teachers), rule=soft.rule, weights=soft.weights, students=trained, work=work,
            metrics_out=out / "metrics", plots_out=out / "plots", device=device,
        )  # fmt: skip


@dataclass(frozen=True)
class _Group:
    """Students of one plan that are trained together, one stack for each seed."""

    name: str
    number: int
    plan: Plan
    lesson: Lesson
    weighings: Sequence[Weighing]

    @property
    def key(self) -> str:
        """Tells the group from every other one."""
        return f"{self.name}/{self.number}"

    @property
    def identity(self) -> dict[str, Any]:
        """All that the weights of these students are a function of."""
        weighings = {key(each): each.facts() for each in self.weighings}
        facts = self.lesson.identity(models.parse(self.plan.model), self.plan.recipe)
        return facts | {"weighings": weighings, "seeds": list(self.plan.seeds)}

    def train(self, seed: int, kept: Path, name: str) -> dict[Weighing, Student]:
        """The students of one seed."""
        students = self.lesson.train(
            models.parse(self.plan.model), self.plan.recipe, self.weighings,
            seed=seed, name=name, state=kept / f"{self.key}-seed-{seed}.safetensors",
        )  # fmt: skip
        return dict(zip(self.weighings, students, strict=True))


def _train(groups: Sequence[_Group], kept: Path, folder: Path) -> None:
    """Train the groups one after the other; those that learn from the same rows follow each other, and share them."""
    steps = runtime.progress((), "sweep", total=sum(len(group.plan.seeds) for group in groups), unit="stack")
    for _, sharing in groupby(groups, key=lambda group: id(group.lesson)):
        for group in sharing:
            students: dict[Weighing, dict[int, Student]] = {each: {} for each in group.weighings}
            for seed in group.plan.seeds:
                for each, student in group.train(seed, kept, f"{group.name}, seed {seed}").items():
                    students[each][seed] = student
                steps.update()
            for each in group.weighings:
                files.make_folder(place := folder / f"{group.name}-{key(each)}")
                group.lesson.write(place, models.parse(group.plan.model), group.plan.recipe, each, students[each])
        group.lesson.examples.release()
    steps.close()


def _groups(
    plans: Mapping[str, Plan], weighings: Sequence[Weighing], baseline: bool, together: int, given: Mapping[str, Any]
) -> Iterator[_Group]:
    """The stacks of every plan, those that share a lesson next to each other.

    Plans with the same rows, views, targets and budget share lessons. A lesson has no more temperatures than target logits
    fit the budget. The baseline is in a stack with others where it learns from the same rows.
    """

    def lesson(plan: Plan, soft: Soft | None, members: Sequence[Weighing]) -> Lesson:
        return Lesson.prepare(
            views=plan.views, rows=plan.rows, soft=soft, weighings=members, correct=plan.correct, recipe=plan.recipe, **given
        )

    apart = baseline and (not weighings or (given["splits"] / "transfer.parquet").exists())
    temperatures = sorted({each.temperature for each in weighings})
    numbers = dict.fromkeys(plans, 0)
    alike: dict[Any, dict[str, Plan]] = {}
    for name, plan in plans.items():
        shared = (plan.views, plan.rows, repr(plan.soft), plan.correct, plan.recipe.memory, plan.recipe.selects)
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
                    yield _Group(name, numbers[name], plan, learned, chunk)
                    numbers[name] += 1


def _chunks(items: Sequence, size: int) -> list[Sequence]:
    """At most `size` at a time."""
    return [items[start : start + size] for start in range(0, len(items), size)]
