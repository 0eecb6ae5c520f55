"""Runs: means over seeds, seeds picked by number, and what is measured of logits, by hand."""

import math

import numpy as np
import pytest

from pipeline.results.run import Measure, mean_std
from runs import RUNS


def test_seeds_are_picked_by_number_in_the_order_asked_for():
    """With their own figures and their own wrong rows."""
    picked = RUNS[2].of([1, 2])
    assert RUNS[2].seeds == (2, 1, 0)
    assert (picked.seeds, picked.column("test", "errors"), picked.column("valid", "nll")) == ((1, 2), [8, 9], [0.3, 0.2])
    assert picked.wrong["test"].sum(1).tolist() == [8, 9]
    assert (picked.name, picked.temperature, picked.kind) == (RUNS[2].name, 4.0, "student")
    with pytest.raises(ValueError, match="tuple"):
        RUNS[2].of([3])


LABELS = {"valid": np.array([0, 0, 0, 1]), "test": np.array([1, 1, 0, 0])}
ZERO = {split: np.array([[math.log(3), 0.0]] * len(labels), np.float32) for split, labels in LABELS.items()}  # class 0, at ¾
TRUE = {split: np.stack([labels == 0, labels == 1], 1).astype(np.float32) for split, labels in LABELS.items()}


def test_what_is_measured_of_logits():
    """Two nets: one says class 0 of every row, at ¾, and one is right everywhere; the teacher says class 0."""
    found = Measure(LABELS, ZERO).run("s-T4", "student", 7, {3: ZERO, 5: TRUE}, student="s", temperature=4.0, alpha=0.5)
    assert (found.seeds, found.parameters, found.student, found.temperature, found.alpha) == ((3, 5), 7, "s", 4.0, 0.5)
    assert found.column("test", "errors") == [2, 0]
    assert found.column("valid", "accuracy") == pytest.approx([0.75, 1])
    assert found.column("test", "agreement") == [1, 0.5]
    assert found.column("test", "nll")[0] == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)
    assert found.column("valid", "kl_to_teacher")[0] == pytest.approx(0, abs=1e-7)
    assert found.wrong["test"].tolist() == [[True, True, False, False], [False] * 4]
    assert found.wrong["valid"].tolist() == [[False, False, False, True], [False] * 4]
    assert found.chance == {3}  # class 0 is the commonest of the validation rows


def test_nothing_is_measured_where_all_diverged():
    found = Measure(LABELS, ZERO).run("s-T4", "student", 7, {}, diverged={0: 2})
    assert {split: wrong.shape for split, wrong in found.wrong.items()} == {"valid": (0, 4), "test": (0, 4)}
    assert (found.seeds, found.values) == ((), ())


def test_a_spread_by_hand():
    """2, 4 and 9: a mean of 5, and (9 + 1 + 16) / 2 = 13."""
    assert mean_std([2, 4, 9]) == (5, pytest.approx(13**0.5))
    assert mean_std(iter([2.5])) == (2.5, None)
