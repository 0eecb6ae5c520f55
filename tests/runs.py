"""Runs of made-up figures."""

import numpy as np

from pipeline.results.run import Run


def run(kind: str, student: str, temperature: float | None, seeds: tuple, errors: list, valid_nll: list, **more) -> Run:
    values = tuple(
        {"valid": dict.fromkeys(("accuracy", "errors", "ece", "agreement"), 0.5) | {"nll": nll},
         "test": {"accuracy": 1 - wrong / 100, "errors": wrong, "nll": 9.0, "ece": 0.0, "agreement": 1.0}}
        for wrong, nll in zip(errors, valid_nll, strict=True)
    )  # fmt: skip
    alpha = 0.5 if temperature else None
    rows = np.arange(100) < np.array(errors)[:, None]  # each seed is wrong on the first so many of 100 rows
    name, wrong = f"{student}-{temperature or kind}", {"test": rows}
    return Run(name, kind, 10, seeds, values, wrong, student=student, temperature=temperature, alpha=alpha, **more)


RUNS = [
    run("baseline", "s", None, (0, 1, 2), [10, 12, 14], [0.5, 0.5, 0.5]),
    run("student", "s", 1.0, (0, 1, 2), [1, 1, 1], [0.4, 0.4, 0.4]),
    run("student", "s", 4.0, (2, 1, 0), [9, 8, 10], [0.2, 0.3, 0.4]),
    run("baseline", "alone", None, (0,), [7], [0.1]),
]
