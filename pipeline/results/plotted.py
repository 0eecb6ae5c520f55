"""Plotted: the lines that DVC plots, few enough to tell apart: those of the students in columns.py, and what they compare with.

Names of lines say no temperature that may be another tomorrow, so that `dvc plots diff` compares the best then and now.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.base.commands import short
from pipeline.results.columns import SHOWN, TEACHER, Pair
from pipeline.results.run import Run
from pipeline.results.tables import EpochPoint, TemperaturePoint

History = Sequence[Mapping[str, Any]]  # one record per seed and epoch


def by_temperature(runs: Sequence[Run], students: Iterable[Pair], teacher: str) -> list[TemperaturePoint]:
    """Means over seeds against temperature: a line for each student and alpha, and level ones for baselines and the teacher.

    teacher: the run that students learn from.
    """
    pairs = list(students)
    names = {each.student for each in pairs}
    settings = [run for run in runs if run.kind == "student" and run.student in names and run.seeds]
    several = len({run.alpha for run in settings}) > 1
    points = []
    for run in settings:
        if run.temperature is not None and run.alpha is not None:
            how = f"alpha {short(run.alpha)}" if several else "distilled"
            points.append(_at(run.temperature, f"{run.student}, {how}", run))
    ends = sorted({point.temperature for point in points})
    level = [(f"{each.student}, hard labels", each.baseline) for each in pairs if each.baseline]
    level += [(TEACHER, run) for run in runs if run.name == teacher]
    return points + [_at(t, name, run) for name, run in level for t in dict.fromkeys((*ends[:1], *ends[-1:]))]


def by_epoch(histories: Mapping[str, History], runs: Sequence[Run], students: Iterable[Pair]) -> list[EpochPoint]:
    """Means over seeds against the epoch: a line for each of the first teachers, each baseline and each student at its best.

    histories: by run.
    """
    lines = [(run.name, run) for run in runs if run.kind == "teacher"][:SHOWN]
    for each in students:
        lines += [(f"{each.student}, hard labels", each.baseline)] if each.baseline else []
        lines += [(f"{each.student}, distilled", each.chosen)] if each.chosen else []
    points = []
    for name, run in lines:
        epochs: dict[int, list[Mapping[str, Any]]] = {}
        for record in histories[run.name]:
            epochs.setdefault(record["epoch"], []).append(record)
        for epoch, records in epochs.items():
            means = (statistics.fmean(record[key] for record in records) for key in EpochPoint._fields[2:])
            points.append(EpochPoint(name, epoch, *means))
    return points


def _at(temperature: float, series: str, run: Run) -> TemperaturePoint:
    accuracy, nll = (statistics.fmean(run.column(split, metric)) for split, metric in (("test", "accuracy"), ("valid", "nll")))
    return TemperaturePoint(series, temperature, nll, accuracy)
