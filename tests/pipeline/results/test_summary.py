"""Rows of tables from runs, by hand."""

import numpy as np
import pytest

from pipeline.results import summary
from pipeline.results.tables import BinRow, ConfusionRow, EpochRow
from runs import RUNS, run

LOST = run("student", "s", 2.0, (0,), [3], [0.7], diverged={4: 6}, chance=frozenset([0]))


def test_a_row_for_each_student_and_seed():
    teacher = run("teacher", None, None, (None,), [5], [0.2])
    rows = summary.by_seed([teacher, RUNS[0], LOST])
    assert [(row.student, row.temperature, row.alpha, row.seed) for row in rows] == [
        ("s", None, None, 0), ("s", None, None, 1), ("s", None, None, 2), ("s", 2.0, 0.5, 0), ("s", 2.0, 0.5, 4),
    ]  # fmt: skip
    assert [row.test_errors for row in rows] == [10, 12, 14, 3, None]
    assert [row.valid_nll for row in rows] == [0.5, 0.5, 0.5, 0.7, None]
    assert [(row.chance, row.diverged) for row in rows] == [(False, None)] * 3 + [(True, None), (None, 6)]


def test_a_row_for_each_run_seed_and_split():
    rows = summary.by_split([LOST])
    assert [(row.run, row.kind, row.seed, row.split, row.errors) for row in rows] == [
        ("s-2.0", "student", 0, "valid", 50), ("s-2.0", "student", 0, "test", 3),
        ("s-2.0", "student", 4, "valid", None), ("s-2.0", "student", 4, "test", None),
    ]  # fmt: skip


def test_errors_of_each_class():
    """The first net is wrong on rows 0, 1 and 3 of the classes 2, 0, 0 and 2; the second on none. No row is of class 1."""
    labels = np.array([2, 0, 0, 2])
    wrong = np.array([[True, True, False, True], [False] * 4])
    found = run("student", "s", 2.0, (0, 1), [3, 0], [1, 1])
    found.wrong["valid"] = found.wrong["test"] = wrong
    rows = summary.by_class([found], {"valid": labels, "test": labels}, ["x", "y", "z"])
    assert len(rows) == 2 * 2 * 3
    assert [(row.class_, row.rows, row.errors) for row in rows if (row.split, row.seed) == ("test", 0)] == [
        ("x", 2, 1), ("y", 0, 0), ("z", 2, 2),
    ]  # fmt: skip
    assert not any(row.errors for row in rows if row.seed == 1)


def test_every_net_and_epoch_has_a_row():
    """A teacher has no seed, as in the other tables."""
    row = {"seed": 3, "lr": 0.1, "train_loss": 1.0, "valid_accuracy": 0.5, "valid_nll": 2.0, "epoch": 1}
    teacher = run("teacher", None, None, (None,), [5], [0.2])
    found = summary.by_net({teacher.name: [row], "s-4.0": [row, row | {"seed": 4}]}, [teacher])
    assert found == [
        EpochRow(teacher.name, None, 1, 1.0, 0.5, 2.0), EpochRow("s-4.0", 3, 1, 1.0, 0.5, 2.0),
        EpochRow("s-4.0", 4, 1, 1.0, 0.5, 2.0),
    ]  # fmt: skip


def test_confusions_are_means_over_seeds():
    """Of classes 2, 0, 0, 2 the first net says 0, 1, 0, 0 and the second 2, 1, 0, 0."""
    labels, said = np.array([2, 0, 0, 2]), np.array([[0, 1, 0, 0], [2, 1, 0, 0]])
    found = run("student", "s", 2.0, (0, 1), [3, 2], [1, 1])
    found.wrong["test"] = said != labels
    found = type(found)(**vars(found) | {"said": said})
    assert summary.confusions([found], labels) == [ConfusionRow("s-2.0", 0, 1, 1.0), ConfusionRow("s-2.0", 2, 0, 1.5)]


def test_only_the_commonest_confusions_are_kept(monkeypatch):
    monkeypatch.setattr(summary, "CONFUSIONS", 1)
    labels, said = np.array([2, 0, 0, 2]), np.array([[0, 1, 0, 0]])
    found = run("student", "s", 2.0, (0,), [3], [1])
    found.wrong["test"] = said != labels
    found = type(found)(**vars(found) | {"said": said})
    assert summary.confusions([found], labels) == [ConfusionRow("s-2.0", 2, 0, 2.0)]


def test_bins_of_confidence():
    """Three rows in bin 4 with a sum of 0.9, of which one is right, and one in the last."""
    bins = np.zeros((3, 15))
    bins[:, 4], bins[:, 14] = (3, 0.9, 1), (1, 0.97, 1)
    found = run("student", "s", 2.0, (7,), [3], [1])
    found = type(found)(**vars(found) | {"bins": (bins,)})
    assert summary.by_bin([found]) == [
        BinRow("s-2.0", 7, 4, 3, pytest.approx(0.3), pytest.approx(1 / 3)), BinRow("s-2.0", 7, 14, 1, 0.97, 1.0)
    ]  # fmt: skip
