"""The lines that DVC plots, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.results import plotted
from pipeline.results.choice import best
from pipeline.results.columns import SHOWN, pairs
from pipeline.results.tables import EpochPoint, TemperaturePoint
from runs import RUNS, run

TEACHER = run("teacher", None, None, (None,), [5], [0.2])
RECORD = {"seed": 0, "lr": 0.1, "train_loss": 1.0, "valid_accuracy": 0.5, "valid_nll": 2.0, "epoch": 1}


def against_temperature(*runs) -> list[TemperaturePoint]:
    return plotted.by_temperature(runs, pairs(runs, best(runs)), TEACHER.name)


def test_students_against_temperature_between_baseline_and_teacher():
    """Means over seeds; settings of which nothing is left have no place on a line."""
    gone = run("student", "s", 8.0, (), np.zeros((0, 1)), [], diverged={0: 1})
    assert against_temperature(TEACHER, *RUNS[:3], gone) == [
        TemperaturePoint("s, distilled", 1.0, pytest.approx(0.4), pytest.approx(0.99)),
        TemperaturePoint("s, distilled", 4.0, pytest.approx(0.3), pytest.approx(0.91)),
        TemperaturePoint("s, hard labels", 1.0, 0.5, pytest.approx(0.88)),
        TemperaturePoint("s, hard labels", 4.0, 0.5, pytest.approx(0.88)),
        TemperaturePoint("teacher", 1.0, 0.2, 0.95),
        TemperaturePoint("teacher", 4.0, 0.2, 0.95),
    ]
    assert against_temperature(TEACHER, RUNS[0]) == []


def test_each_alpha_has_its_line():
    other = replace(run("student", "u", 1.0, (0,), [4], [1]), alpha=1.0)
    assert [row.series for row in against_temperature(TEACHER, RUNS[1], other)] == ["s, alpha 0.5", "u, alpha 1", "teacher"]


def test_histories_are_means_over_the_seeds_of_an_epoch():
    """One seed may have stopped sooner. s is best at T = 4, so that the other setting has no line."""
    histories = {run.name: [RECORD] for run in RUNS}
    histories["s-4.0"] = [
        RECORD, RECORD | {"epoch": 2, "valid_nll": 1.0}, RECORD | {"seed": 1, "train_loss": 4.0, "valid_nll": 3.0}
    ]  # fmt: skip
    assert plotted.by_epoch(histories | {TEACHER.name: []}, [TEACHER, *RUNS], pairs(RUNS, best(RUNS))) == [
        EpochPoint("s, hard labels", 1, 1.0, 0.5, 2.0),
        EpochPoint("s, distilled", 1, 2.5, 0.5, 2.5),
        EpochPoint("s, distilled", 2, 1.0, 0.5, 1.0),
        EpochPoint("alone, hard labels", 1, 1.0, 0.5, 2.0),
    ]


def test_of_many_only_some_have_lines():
    runs = [replace(TEACHER, name=f"t{number}") for number in range(30)]
    runs += [run("student", f"s{number}", 1.0, (0,), [number], [0.5]) for number in range(30)]
    few = pairs(runs, [])
    assert len(plotted.by_epoch({run.name: [RECORD] for run in runs}, runs, few)) == 2 * SHOWN
    assert len(plotted.by_temperature(runs, few, "t3")) == SHOWN + 1
