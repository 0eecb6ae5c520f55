"""Runs of made-up figures, and rows of tables of such."""

import numpy as np

from pipeline.results.run import Run
from pipeline.stats.metrics import Summary


def run(kind: str, student: str | None, temperature: float | None, seeds: tuple, errors: list, valid_nll: list, **more) -> Run:
    values = tuple(
        {"valid": Summary(0.5, 50, nll, 0.5, 0.5, 0.5, 0.5), "test": Summary(1 - wrong / 100, wrong, 9.0, 0.0, 0.0, 1.0, 0.0)}
        for wrong, nll in zip(errors, valid_nll, strict=True)
    )
    alpha = 0.5 if temperature else None
    rows = np.arange(100) < np.array(errors)[:, None]  # each seed is wrong on the first so many of 100 rows
    name, wrong = f"{student}-{temperature or kind}", {"test": rows}
    said, bins = np.zeros((len(seeds), 100), int), tuple(np.zeros((3, 15)) for _ in seeds)
    return Run(name, kind, 10, seeds, values, wrong, said, bins, student=student, temperature=temperature, alpha=alpha, **more)


RUNS = [
    run("baseline", "s", None, (0, 1, 2), [10, 12, 14], [0.5, 0.5, 0.5]),
    run("student", "s", 1.0, (0, 1, 2), [1, 1, 1], [0.4, 0.4, 0.4]),
    run("student", "s", 4.0, (2, 1, 0), [9, 8, 10], [0.2, 0.3, 0.4]),
    run("baseline", "alone", None, (0,), [7], [0.1]),
]

METRICS = {"accuracy": 0.9, "errors": 10, "nll": 0.25, "ece": 0.05, "brier": 0.1, "agreement": 1.0, "kl_to_teacher": 0.0}


def rows(run: str, kind: str, student=None, temperature=None, errors=(10,), alpha=0.5) -> list[dict]:
    """Of the table `runs`: a seed for each number of errors, in 100 rows of each split."""
    return [
        {"run": run, "kind": kind, "student": student, "temperature": temperature, "alpha": alpha if temperature else None,
         "parameters": 1234, "seed": seed}
        | METRICS | {"split": split, "errors": wrong, "accuracy": 1 - wrong / 100}
        for seed, wrong in enumerate(errors)
        for split in ("valid", "test")
    ]  # fmt: skip


def lost(row: dict) -> dict:
    """The row of a net that diverged."""
    return row | dict.fromkeys(METRICS) | {"diverged": 3}
