"""Summary: the records of the tables, from the runs of an evaluation."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.results.run import SPLITS, Run
from pipeline.results.tables import BinRow, ClassRow, ConfusionRow, EpochRow, RunRow, StudentRow
from pipeline.stats.metrics import Summary

CONFUSIONS = 1600  # of a run, at most: all of them where there are 40 classes or fewer
_Net = tuple[int | None, Mapping[str, Summary], int | None, bool | None]  # seed, metrics by split, diverged, chance
_Number = float | None
_Metrics = tuple[_Number, int | None, _Number, _Number, _Number, _Number, _Number]  # as in Summary, or all None


def _nets(run: Run) -> Iterator[_Net]:
    """All nets of a run. Those that diverged come last, without metrics."""
    yield from ((seed, values, None, seed in run.chance) for seed, values in zip(run.seeds, run.values, strict=True))
    yield from ((seed, {}, epoch, None) for seed, epoch in run.diverged.items())


def _metrics(values: Mapping[str, Summary], split: str) -> _Metrics:
    return values.get(split) or (None, None, None, None, None, None, None)


def by_seed(runs: Sequence[Run]) -> list[StudentRow]:
    """One record per student and seed, with all metrics on both splits. T and alpha are null for baselines."""
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
    """One record per run, seed and split, with all metrics."""
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
    """One record per run, seed, split and class: the rows of that class, and the errors on them."""
    rows = []
    for run in runs:
        for split in SPLITS:
            counts = np.bincount(labels[split], minlength=len(classes)).tolist()
            for seed, wrong in zip(run.seeds, run.wrong[split], strict=True):
                errors = np.bincount(labels[split][wrong], minlength=len(classes)).tolist()
                for name, count, missed in zip(classes, counts, errors, strict=True):
                    rows.append(ClassRow(run.name, seed, split, name, count, missed))
    return rows


def by_bin(runs: Sequence[Run]) -> list[BinRow]:
    """One record per run, seed and bin of confidence that has rows, on the test split."""
    return [
        BinRow(run.name, seed, number, int(rows), confidence / rows, right / rows)
        for run in runs
        for seed, sums in zip(run.seeds, run.bins, strict=True)
        for number, (rows, confidence, right) in enumerate(sums.T.tolist())
        if rows
    ]


def confusions(runs: Sequence[Run], labels: np.ndarray) -> list[ConfusionRow]:
    """The commonest confusions of each run on the test split, CONFUSIONS at most, in the order of label and prediction."""
    found = []
    for run in runs:
        wrong = run.wrong["test"]
        pairs = np.stack([np.broadcast_to(labels, wrong.shape)[wrong], run.said[wrong]])
        pairs, counts = np.unique(pairs, axis=1, return_counts=True)
        kept = np.sort(np.argsort(-counts, kind="stable")[:CONFUSIONS])
        found += [
            ConfusionRow(run.name, label, predicted, count / len(run.seeds))
            for (label, predicted), count in zip(pairs.T[kept].tolist(), counts[kept].tolist(), strict=True)
        ]
    return found


def by_net(histories: Mapping[str, Sequence[Mapping[str, Any]]], runs: Sequence[Run]) -> list[EpochRow]:
    """One record per net and epoch. histories: by run, one record per seed and epoch."""
    teachers = {run.name for run in runs if run.kind == "teacher"}
    return [
        EpochRow(run, None if run in teachers else record["seed"], *(record[key] for key in EpochRow._fields[2:]))
        for run, history in histories.items()
        for record in history
    ]
