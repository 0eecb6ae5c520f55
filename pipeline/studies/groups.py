"""Groups: which students of a sweep share a lesson, and train together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pipeline.models.build import parse_model
from pipeline.models.runname import run_name, setting
from pipeline.training.lesson import Ground, Lesson, Soft, Student
from pipeline.training.objective import HARD, LossWeights
from pipeline.training.recipe import Recipe
from pipeline.training.resume import Identity, Kept
from pipeline.training.settings import Views

T = TypeVar("T")


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


def key(weighing: LossWeights) -> str:
    """How a setting is called in a sweep, such as T4-alpha0.5; `hard` for the baseline."""
    return setting(*_facts(weighing))


def run_of(student: str, weighing: LossWeights) -> str:
    """How a student at a setting is called in a sweep."""
    return run_name(student, *_facts(weighing))


def _facts(weighing: LossWeights) -> tuple[float | None, float | None]:
    """Temperature and alpha; none of the baseline."""
    return (None, None) if weighing == HARD else (weighing.temperature, weighing.alpha)


@dataclass(frozen=True)
class Group:
    """Students of one plan that are trained together, one stack for each seed."""

    name: str
    plan: Plan
    lesson: Lesson
    weighings: Sequence[LossWeights]

    @property
    def members(self) -> list[Identity]:
        """All that the weights of each student are a function of, seed by seed."""
        model = parse_model(self.plan.model)
        return [
            self.lesson.identity(model, self.plan.recipe, each, seed) for seed in self.plan.seeds for each in self.weighings
        ]

    def train(self, seed: int, kept: Kept) -> dict[LossWeights, Student]:
        """The students of one seed."""
        names = [run_of(self.name, each) for each in self.weighings]
        model = parse_model(self.plan.model)
        students = self.lesson.train(model, self.plan.recipe, self.weighings, seed=seed, names=names, kept=kept)
        return dict(zip(self.weighings, students, strict=True))


def groups_of(
    ground: Ground, plans: Mapping[str, Plan], weighings: Sequence[LossWeights], baseline: bool, together: int
) -> Iterator[Group]:
    """The stacks of every plan, those that share a lesson next to each other.

    Plans with the same rows, views, targets and budget share lessons. A lesson has no more temperatures than target logits
    fit the budget. The baseline is in a stack with others where it learns from the same rows.
    """

    def lesson(plan: Plan, soft: Soft | None, members: Sequence[LossWeights]) -> Lesson:
        return Lesson.prepare(
            ground, views=plan.views, rows=plan.rows, soft=soft, weighings=members, correct=plan.correct, recipe=plan.recipe
        )

    apart = baseline and (not weighings or ground.has_transfer_set)
    temperatures = sorted({each.temperature for each in weighings})
    alike: dict[Any, dict[str, Plan]] = {}
    for name, plan in plans.items():
        shared = (plan.views, plan.rows, repr(plan.soft), tuple(plan.correct), plan.recipe.settings.memory, plan.recipe.selects)
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
                    yield Group(name, plan, learned, chunk)


def _chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """At most `size` at a time."""
    return [items[start : start + size] for start in range(0, len(items), size)]
