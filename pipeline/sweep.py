"""Sweep: students × temperatures × alphas × seeds from the same caches, in one process.

Students of one architecture and one seed are trained together, as a stack that shares every batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline import files, models, runtime
from pipeline.checkpoint import resumable
from pipeline.errors import InputError
from pipeline.fit import Recipe
from pipeline.lesson import Lesson, Soft, Student, Views, require_seeds
from pipeline.objective import HARD, Weighing

BASELINE = "hard"  # the key of the setting that trains on labels alone


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


def sweep(
    *,
    plans: Mapping[str, Plan],
    weighings: Mapping[str, Weighing],
    together: int,
    splits: Path,
    work: Path,
    out: Path,
    device: torch.device,
) -> int:
    """Write a folder <student>-<key> below `out`, as `distill` would, for every plan and weighing, and for the baseline.

    plans: by student name; weighings: by key, such as T4-alpha0.5. The baseline, `hard`, is trained on the labels of the
    training split. together: how many nets of one seed may share each step. Returns how many students were trained, seeds
    counted. A sweep that was killed goes on from what it kept in `work`, and ends with the same bits. Raises what
    `distill` raises.
    """
    if together < 1:
        raise InputError("together", expected="1 or more", found=str(together), fix="Correct the setting.")
    if not plans or not weighings:
        found = f"{len(plans)} students, {len(weighings)} settings"
        raise InputError("sweep", expected="students, temperatures and alphas", found=found, fix="Correct the settings.")
    for plan in plans.values():
        require_seeds(plan.seeds)
    given = {"splits": splits, "work": work, "device": device}
    groups = [group for name, plan in plans.items() for group in _groups(name, plan, weighings, together, given)]
    identity = {group.key: group.identity for group in groups}
    with resumable(work, out, identity) as kept, files.replaced_folder(out) as folder:
        steps = [(group, seed) for group in groups for seed in group.plan.seeds]
        trained: dict[str, dict[int, Student]] = {}
        for number, (group, seed) in enumerate(runtime.progress(steps, "sweep", unit="stack")):
            students = group.train(seed, kept, f"{group.key}, seed {seed} ({number + 1}/{len(steps)})")
            for key, student in students.items():
                trained.setdefault(key, {})[seed] = student
            if seed == group.plan.seeds[-1]:
                group.write(folder, trained)
                trained.clear()
    return sum(len(group.weighings) * len(group.plan.seeds) for group in groups)


@dataclass(frozen=True)
class _Group:
    """Students of one plan that are trained together, one stack for each seed."""

    key: str
    name: str
    plan: Plan
    lesson: Lesson
    weighings: Mapping[str, Weighing]

    @property
    def identity(self) -> dict[str, Any]:
        """All that the weights of these students are a function of."""
        weighings = {key: weighing.facts() for key, weighing in self.weighings.items()}
        spec = models.parse(self.plan.model)
        facts = self.lesson.identity(spec, self.plan.recipe)
        return facts | {"weighings": weighings, "seeds": list(self.plan.seeds)}

    def train(self, seed: int, kept: Path, name: str) -> dict[str, Student]:
        """The students of one seed, by the key of their weighing."""
        students = self.lesson.train(
            models.parse(self.plan.model), self.plan.recipe, list(self.weighings.values()),
            seed=seed, name=name, state=kept / f"{self.key}-seed-{seed}.safetensors",
        )  # fmt: skip
        return dict(zip(self.weighings, students, strict=True))

    def write(self, folder: Path, trained: Mapping[str, Mapping[int, Student]]) -> None:
        """A folder for each of the students, with the weights of all seeds."""
        for key, weighing in self.weighings.items():
            files.make_folder(place := folder / f"{self.name}-{key}")
            self.lesson.write(place, models.parse(self.plan.model), self.plan.recipe, weighing, trained[key])


def _groups(name: str, plan: Plan, weighings: Mapping[str, Weighing], together: int, given: Mapping[str, Any]) -> list[_Group]:
    """The stacks of one student. The baseline is in one of them where it learns from the same rows."""

    def lesson(soft: Soft | None, members: Mapping[str, Weighing]) -> Lesson:
        return Lesson.prepare(
            views=plan.views, rows=plan.rows, soft=soft, weighings=list(members.values()), correct=plan.correct,
            recipe=plan.recipe, **given,
        )  # fmt: skip

    baseline = {BASELINE: HARD}
    apart = (given["splits"] / "transfer.parquet").exists()
    members = dict(weighings) if apart else baseline | weighings
    learned = lesson(plan.soft, members)
    keys = list(members)
    chunks = [keys[start : start + together] for start in range(0, len(keys), together)]
    groups = [
        _Group(f"{name}-{number}", name, plan, learned, {key: members[key] for key in chunk})
        for number, chunk in enumerate(chunks)
    ]
    return [*groups, _Group(f"{name}-{BASELINE}", name, plan, lesson(None, baseline), baseline)] if apart else groups
