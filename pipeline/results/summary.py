"""What an evaluation writes of its runs, as the rows of tables."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.base.commands import short
from pipeline.results.run import SPLITS, Run
from pipeline.results.tables import ClassRow, EpochPoint, RunRow, StudentRow, TemperaturePoint
from pipeline.stats.metrics import Summary

_Net = tuple[int | None, Mapping[str, Summary], int | None, bool | None]  # seed, metrics by split, diverged, chance
_Number = float | None
_Metrics = tuple[_Number, int | None, _Number, _Number, _Number, _Number, _Number]  # as Summary has them; None where lost


def _nets(run: Run) -> Iterator[_Net]:
    """Every net of a run, those last that diverged, which have no metrics."""
    yield from ((seed, values, None, seed in run.chance) for seed, values in zip(run.seeds, run.values, strict=True))
    yield from ((seed, {}, epoch, None) for seed, epoch in run.diverged.items())


def _metrics(values: Mapping[str, Summary], split: str) -> _Metrics:
    return values.get(split) or (None, None, None, None, None, None, None)


def by_seed(runs: Sequence[Run]) -> list[StudentRow]:
    """One row per student and seed: settings, and each metric on both splits. T and alpha are null for baselines."""
    return [
        StudentRow(
            run.student, run.temperature, run.alpha, seed, run.parameters,
            *_metrics(values, "valid"), *_metrics(values, "test"), diverged, chance,
        )
        for run in runs
        if run.student
        for seed, values, diverged, chance in _nets(run)
    ]  # fmt: skip


def by_split(runs: Sequence[Run]) -> list[RunRow]:
    """One row per run, seed and split, with every metric."""
    return [
        RunRow(
            run.name, run.kind, run.student, run.temperature, run.alpha, run.parameters, seed, split,
            *_metrics(values, split), diverged, chance,
        )
        for run in runs
        for seed, values, diverged, chance in _nets(run)
        for split in SPLITS
    ]  # fmt: skip


def by_class(runs: Sequence[Run], labels: Mapping[str, np.ndarray], classes: Sequence[str]) -> list[ClassRow]:
    """One row per run, seed, split and class: how many rows are of it, and how many of those were taken for another."""
    rows = []
    for run in runs:
        for split in SPLITS:
            counts = np.bincount(labels[split], minlength=len(classes)).tolist()
            for seed, wrong in zip(run.seeds, run.wrong[split], strict=True):
                errors = np.bincount(labels[split][wrong], minlength=len(classes)).tolist()
                for name, count, missed in zip(classes, counts, errors, strict=True):
                    rows.append(ClassRow(run.name, seed, split, name, count, missed))
    return rows


def by_temperature(runs: Sequence[Run]) -> list[TemperaturePoint]:
    """One row per student, alpha and temperature, means over seeds; a line of the plot for each student and alpha."""
    rows = []
    several = len({run.alpha for run in runs if run.kind == "student"}) > 1
    for run in runs:
        if run.kind == "student" and run.student and run.temperature and run.alpha is not None and run.seeds:
            valid, test = (statistics.fmean(run.column(split, "accuracy")) for split in SPLITS)
            series = f"{run.student}, alpha {short(run.alpha)}" if several else run.student
            rows.append(TemperaturePoint(series, run.temperature, valid, test))
    return rows


def by_epoch(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[EpochPoint]:
    """Every training's history, the mean over seeds of each epoch."""
    rows = []
    for run, history in found.items():
        epochs: dict[int, list[Mapping[str, Any]]] = {}
        for row in history:
            epochs.setdefault(row["epoch"], []).append(row)
        for epoch, of_epoch in epochs.items():
            means = (statistics.fmean(row[key] for row in of_epoch) for key in EpochPoint._fields[2:])
            rows.append(EpochPoint(run, epoch, *means))
    return rows
