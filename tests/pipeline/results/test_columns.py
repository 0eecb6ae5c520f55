"""The figures that DVC has columns for, worked out by hand; what DVC makes of them is in test_dvc.py."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.results.choice import best
from pipeline.results.columns import SHOWN, columns, pairs
from runs import RUNS, run

TEACHER = run("teacher", None, None, (None,), [5], [0.2])
OTHER = replace(TEACHER, name="other")


def shown(*runs) -> dict:
    return columns(runs, pairs(runs, best(runs)), TEACHER.name)


def test_the_teacher_and_each_student_at_its_best_setting():
    """s: 9, 8 and 10 errors of 100 at T = 4, where its baseline makes 14, 12 and 10; `alone` is a baseline and nothing else."""
    found = shown(OTHER, TEACHER, *RUNS)
    assert list(found) == ["teacher", "s", "alone"]
    assert found["teacher"] == {"accuracy": 0.95, "nll": 9}
    assert found["s"] == {
        "temperature": 4,
        "accuracy": pytest.approx(0.91),
        "accuracy_std": pytest.approx(0.01),
        "nll": 9,
        "hard_accuracy": pytest.approx(0.88),
        "errors_saved": pytest.approx(3),
        "errors_saved_std": pytest.approx(7**0.5),
    }
    assert found["alone"] == {"hard_accuracy": pytest.approx(0.93)}
    assert list(shown(TEACHER)) == ["teacher"]


def test_without_a_baseline_the_best_is_still_chosen_on_validation():
    assert shown(TEACHER, *RUNS[1:3])["s"].keys() == {"temperature", "accuracy", "accuracy_std", "nll"}
    assert shown(TEACHER, *RUNS[1:3])["s"]["temperature"] == 4


def test_alpha_has_a_column_where_it_varies():
    assert shown(TEACHER, *RUNS, replace(RUNS[1], name="weak", alpha=0.1))["s"]["alpha"] == 0.5


def test_nets_that_diverged_have_no_columns():
    lost = run("student", "s", 1.0, (), np.zeros((0, 1)), [], diverged={0: 1})
    assert shown(TEACHER, RUNS[0], lost)["s"].keys() == {"hard_accuracy"}
    assert list(shown(TEACHER, lost)) == ["teacher"]


def test_a_student_that_is_called_teacher():
    assert list(shown(TEACHER, run("student", "teacher", 2.0, (0,), [4], [0.4]))) == ["teacher", "teacher-2.0"]


def test_of_many_the_best_on_validation_in_their_order():
    """Each student is worse than the next, on validation; the first ones have no column."""
    runs = [run("student", f"s{number}", 1.0, (0,), [number], [1 - number / 100]) for number in range(30)]
    names = [f"s{number}" for number in range(30 - SHOWN, 30)]
    assert list(shown(TEACHER, *runs)) == ["teacher", *names]
