"""Groups: which students of a sweep share a lesson and are trained together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipeline.base import files
from pipeline.base.errors import InputError
from pipeline.base.spec import Spec
from pipeline.data.settings import Views
from pipeline.models.build import parse_model
from pipeline.models.elsewhere import require_student
from pipeline.models.runname import run_name, setting
from pipeline.training.lesson import Ground, Lesson, Soft, Student
from pipeline.training.objective import HARD, LossWeights
from pipeline.training.recipe import Recipe
from pipeline.training.resume import Identity, Kept

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """A student of a sweep: those settings of `distill` that do not vary within the sweep."""

    model: str
    recipe: Recipe
    views: Views
    rows: str
    soft: Soft
    correct: Sequence[int | str]
    seeds: Sequence[int]


def key(weighting: LossWeights) -> str:
    """What a weighting is called in a sweep, such as T4-alpha0.5; `hard` for the baseline."""
    return setting(*_varied(weighting))


def run_of(student: str, weighting: LossWeights) -> str:
    """What the run of a student at a weighting is called."""
    return run_name(student, *_varied(weighting))


def _varied(weighting: LossWeights) -> tuple[float | None, float | None]:
    """Temperature and alpha; None for those of the baseline."""
    return (None, None) if weighting == HARD else (weighting.temperature, weighting.alpha)


@dataclass(frozen=True)
class Group:
    """Students of one plan that are trained together, one stack for each seed; of a cohort, one stack of all seeds.

    Students of a cohort learn from each other, and all have one weighting.
    """

    name: str
    plan: Plan
    model: Spec
    lesson: Lesson
    weightings: Sequence[LossWeights]

    @property
    def runs(self) -> list[str]:
        """The name of each student."""
        return [run_of(self.name, each) for each in self.weightings]

    @property
    def is_cohort(self) -> bool:
        """Whether its students learn from each other."""
        return self.weightings[0].mutual > 0

    @property
    def stacks(self) -> list[tuple[int, ...]]:
        """The seeds of each stack."""
        seeds = tuple(self.plan.seeds)
        return [seeds] if self.is_cohort else [(seed,) for seed in seeds]

    @property
    def members(self) -> list[Identity]:
        """The identity of each student, stack by stack."""
        return [member for seeds in self.stacks for member in self.members_of(seeds)]

    def members_of(self, seeds: tuple[int, ...]) -> list[Identity]:
        """The identity of each student of a stack."""
        cohort = seeds if self.is_cohort else ()
        return [
            self.lesson.identity(self.model, self.plan.recipe, each, seed, cohort) for seed in seeds for each in self.weightings
        ]

    def finished(self, seeds: tuple[int, ...], kept: Kept) -> bool:
        """Whether all students of a stack are trained already."""
        alone = len(self.weightings) == 1 and not self.is_cohort
        return all(kept.finished(member, alone=alone) is not None for member in self.members_of(seeds))

    def train(self, seeds: tuple[int, ...], kept: Kept) -> list[Student]:
        """The students of a stack, in the order of `members_of`; those that are not finished are trained now."""
        (seed, *_), given = seeds, (self.model, self.plan.recipe)
        if self.is_cohort:
            return self.lesson.train_cohort(*given, self.weightings[0], seeds=seeds, name=self.runs[0], kept=kept)
        return self.lesson.train(*given, self.weightings, seed=seed, names=self.runs, kept=kept)

    def fit(self, seeds: tuple[int, ...], kept: Kept) -> None:
        """Train those of a stack that are not finished, so that `kept` has all of them."""
        (seed, *_), given = seeds, (self.model, self.plan.recipe)
        if self.is_cohort:
            self.lesson.fit_cohort(*given, self.weightings[0], seeds=seeds, name=self.runs[0], kept=kept)
        else:
            self.lesson.fit(*given, self.weightings, seed=seed, names=self.runs, kept=kept)

    def write(self, folder: Path, students: Sequence[Student], study: str) -> None:
        """Write the folder of each run. students: in the order of `members`."""
        for index, (run, each) in enumerate(zip(self.runs, self.weightings, strict=True)):
            files.make_folder(folder / run)
            its = students[index :: len(self.weightings)]
            self.lesson.write(folder / run, self.model, self.plan.recipe, each, its, name=f"{study}/{run}")


def groups_of(
    ground: Ground, plans: Mapping[str, Plan], weightings: Sequence[LossWeights], baseline: bool, together: int
) -> Iterator[Group]:
    """The groups of all plans; those that share a lesson follow each other.

    Plans with the same rows, views, draws, targets and memory share lessons. A lesson has only as many temperatures as there is
    memory for their target logits. The baseline is in a group with others where it learns from the same rows, and where they
    have no features beside them, which take memory: with less of it rows may be streamed, in another order.
    Raises InputError for students that cannot learn from each other, where they should.
    """

    def lesson(plan: Plan, soft: Soft | None, members: Sequence[LossWeights]) -> Lesson:
        return Lesson.prepare(
            ground, views=plan.views, rows=plan.rows, soft=soft, weightings=members, correct=plan.correct, recipe=plan.recipe
        )

    featured = any(plan.soft.features for plan in plans.values())
    apart = baseline and (not weightings or ground.has_transfer_set or featured)
    temperatures = sorted({each.temperature for each in weightings})
    alike: dict[Any, dict[str, Plan]] = {}
    for name, plan in plans.items():
        settings, selects = plan.recipe.settings, plan.recipe.selects
        shared = (plan.views, plan.rows, repr(plan.soft), tuple(plan.correct), settings.memory, settings.draws, selects)
        alike.setdefault(shared, {})[name] = plan
    for sharing in alike.values():
        first = next(iter(sharing.values()))
        lessons = []
        if weightings:
            size = lesson(first, first.soft, weightings[:1]).examples.temperatures
            parts = [[each for each in weightings if each.temperature in some] for some in _chunks(temperatures, size)]
            if baseline and not apart:
                parts[0].insert(0, HARD)
            lessons = [(lesson(first, first.soft, part), part) for part in parts]
        if apart:
            lessons.append((lesson(first, None, [HARD]), [HARD]))
        for learned, part in lessons:
            for name, plan in sharing.items():
                model = parse_model(plan.model)
                require_student(model)
                learned.require_guided(model)
                cohorts = [[each] for each in part if each.mutual > 0]
                if cohorts:
                    _require_cohort(learned, plan, model, together)
                for chunk in (*_chunks([each for each in part if each.mutual == 0], together), *cohorts):
                    yield Group(name, plan, model, learned, chunk)


def _require_cohort(lesson: Lesson, plan: Plan, model: Spec, together: int) -> None:
    """Raise InputError where the students of a plan cannot learn from each other."""
    lesson.require_cohort(model, plan.recipe, plan.seeds)
    if together < len(plan.seeds):
        expected = f"at least {len(plan.seeds)}, so that all seeds share each step, as with `mutual` they must"
        raise InputError("together", expected=expected, found=str(together), fix="Correct the setting, or take `mutual` away.")


def _chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Slices of at most `size` items."""
    return [items[start : start + size] for start in range(0, len(items), size)]
