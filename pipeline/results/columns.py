"""Columns: the few figures of an evaluation that DVC shows in columns, such as teacher.nll and small.accuracy.

Nobody compares hundreds: there are those of SHOWN students at most. The tables have everything.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.results.run import Run, mean_std
from pipeline.results.tables import BestRow

SHOWN = 4  # students
FILE_NAME = "metrics.json"
TEACHER = "teacher"

Figures = dict[str, float]


@dataclass(frozen=True)
class Pair:
    """What DVC shows of a student: its best setting and its baseline, of which one may be missing, and how they compare."""

    student: str
    baseline: Run | None
    chosen: Run | None
    row: BestRow | None

    @property
    def runs(self) -> list[Run]:
        """Its baseline and its best setting."""
        return [run for run in (self.baseline, self.chosen) if run]

    @property
    def valid_nll(self) -> float:
        """By which students are ranked."""
        return statistics.fmean(self.runs[-1].column("valid", "nll"))

    def figures(self, *, alpha: bool) -> Figures:
        """Its columns. alpha: whether the weight of the soft targets is one."""
        found: Figures = {}
        if self.chosen and self.chosen.temperature is not None and self.chosen.alpha is not None:
            found["temperature"] = self.chosen.temperature
            if alpha:
                found["alpha"] = self.chosen.alpha
            found |= _figures(self.chosen)
        if self.baseline:
            found["hard_accuracy"] = statistics.fmean(self.baseline.column("test", "accuracy"))
        if self.row:
            found |= _named("errors_saved", self.row.errors_saved, self.row.errors_saved_std)
        return found


def pairs(runs: Sequence[Run], best: Iterable[BestRow]) -> list[Pair]:
    """The students that DVC shows, in the order of `runs`: of many, those with the lowest validation NLL.

    best: the best setting of each student, as `choice.best` gives it. Of a student that it lacks, such as one without a
    baseline, it is the setting with the lowest validation NLL.
    """
    rows, found = {row.student: row for row in best}, []
    measured = [run for run in runs if run.seeds and run.student]
    for student in dict.fromkeys(run.student for run in measured if run.student):
        row, own = rows.get(student), [run for run in measured if run.student == student]
        settings = [run for run in own if run.kind == "student" and (row is None or run.name == row.run)]
        chosen = min(settings, key=lambda run: statistics.fmean(run.column("valid", "nll")), default=None)
        found.append(Pair(student, next((run for run in own if run.kind == "baseline"), None), chosen, row))
    kept = {each.student for each in sorted(found, key=lambda each: each.valid_nll)[:SHOWN]}
    return [each for each in found if each.student in kept]


def columns(runs: Sequence[Run], students: Sequence[Pair], teacher: str) -> dict[str, Figures]:
    """The content of metrics.json: figures of the teacher and of students on the test split, by name.

    Of a student they are `temperature` and, where several were tried, `alpha` of its best setting; `accuracy` and `nll` there;
    `hard_accuracy`, of its baseline; and `errors_saved`, how many errors fewer than that it makes, on the seeds that both have.
    They are means over seeds; `accuracy_std` and `errors_saved_std` are sample standard deviations. What is not known is left
    out. A student called teacher goes by the name of its run. teacher: the run that students learn from.
    """
    names = {each.student for each in students}
    several = len({run.alpha for run in runs if run.kind == "student" and run.student in names}) > 1
    (reference,) = (run for run in runs if run.name == teacher)
    found = {TEACHER: _figures(reference)}
    for each in students:
        found[each.student if each.student != TEACHER else each.runs[-1].name] = each.figures(alpha=several)
    return found


def _figures(run: Run) -> Figures:
    accuracy, nll = (run.column("test", metric) for metric in ("accuracy", "nll"))
    return _named("accuracy", *mean_std(accuracy)) | {"nll": statistics.fmean(nll)}


def _named(name: str, mean: float, std: float | None) -> Figures:
    return {name: mean} if std is None else {name: mean, f"{name}_std": std}
