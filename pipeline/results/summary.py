"""What an evaluation writes of its runs, as the rows of tables."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.base.commands import short
from pipeline.results.run import SPLITS, Run
from pipeline.results.tables import Rows


def _nets(run: Run) -> list[tuple[dict[str, object], Mapping[str, Mapping[str, float]]]]:
    """Every net of a run: what is known of it besides metrics, and its metrics per split; none where it diverged."""
    known = [({"seed": seed, "chance": seed in run.chance}, values) for seed, values in zip(run.seeds, run.values, strict=True)]
    lost = [({"seed": seed, "diverged": epoch}, {}) for seed, epoch in run.diverged.items()]
    return [({"parameters": run.parameters, **_setting(run), **each}, values) for each, values in known + lost]


def _setting(run: Run) -> dict[str, object]:
    return {"student": run.student, "temperature": run.temperature, "alpha": run.alpha}


def by_seed(runs: Sequence[Run]) -> list[dict[str, object]]:
    """One row per student and seed: settings, and each metric on both splits. T and alpha are null for baselines."""
    return [
        known | {f"{split}_{metric}": value for split, found in values.items() for metric, value in found.items()}
        for run in runs
        if run.student
        for known, values in _nets(run)
    ]


def by_split(runs: Sequence[Run]) -> list[dict[str, object]]:
    """One row per run, seed and split, with every metric."""
    return [
        {"run": run.name, "kind": run.kind, **known, "split": split, **values.get(split, {})}
        for run in runs
        for known, values in _nets(run)
        for split in SPLITS
    ]


def by_class(runs: Sequence[Run], labels: Mapping[str, np.ndarray], classes: Sequence[str]) -> list[dict[str, object]]:
    """One row per run, seed, split and class: how many rows are of it, and how many of those were taken for another."""
    rows = []
    for run in runs:
        for split in SPLITS:
            counts = np.bincount(labels[split], minlength=len(classes))
            for seed, wrong in zip(run.seeds, run.wrong[split], strict=True):
                errors = np.bincount(labels[split][wrong], minlength=len(classes))
                where = {"run": run.name, "seed": seed, "split": split}
                rows += [
                    where | {"class": name, "rows": int(count), "errors": int(missed)}
                    for name, count, missed in zip(classes, counts, errors, strict=True)
                ]
    return rows


def by_temperature(runs: Sequence[Run]) -> list[dict[str, object]]:
    """One row per student, alpha and temperature, means over seeds; a line of the plot for each student and alpha."""
    rows = []
    several = len({run.alpha for run in runs if run.kind == "student"}) > 1
    for run in runs:
        if run.kind == "student" and run.seeds:
            means = {f"{split}_accuracy": statistics.fmean(run.column(split, "accuracy")) for split in SPLITS}
            series = f"{run.student}, alpha {short(run.alpha)}" if several else run.student
            rows.append({"series": series, "temperature": run.temperature, **means})
    return rows


def by_epoch(found: Mapping[str, Rows]) -> list[dict[str, object]]:
    """Every training's history, the mean over seeds of each epoch."""
    rows = []
    for run, history in found.items():
        epochs: dict[int, list[Mapping[str, Any]]] = {}
        for row in history:
            epochs.setdefault(row["epoch"], []).append(row)
        for epoch, of_epoch in epochs.items():
            means = {
                key: statistics.fmean(row[key] for row in of_epoch) for key in ("train_loss", "valid_accuracy", "valid_nll")
            }
            rows.append({"series": run, "epoch": epoch, **means})
    return rows
