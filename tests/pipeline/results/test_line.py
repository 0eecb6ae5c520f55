"""Lines of a report: the rows of a run, its means by hand, and how they are shown."""

import pytest

from pipeline.results.line import Line, lines
from pipeline.results.tables import RunRow
from runs import lost, rows


def of(*given: dict) -> list[Line]:
    return lines([RunRow(**dict.fromkeys(RunRow._fields) | row) for row in given])


def test_a_line_for_each_run_in_their_order_but_uncorrected_ones_last():
    before, after = rows("w-raw", "uncorrected"), rows("w", "student", "w", 2.0, (1, 2), 0.9)
    found = of(*before, *after, *rows("a", "teacher"))
    assert [line.run for line in found] == ["w", "a", "w-raw"]
    assert [(line.student, line.temperature, line.alpha, line.seeds) for line in found] == [
        ("w", 2.0, 0.9, 2), (None, None, None, 1), (None, None, None, 1),
    ]  # fmt: skip


def test_means_by_hand():
    """12 and 16 errors: a deviation of √8. Each split has its own."""
    row, other = rows("s", "student", errors=(12, 16))[1::2]
    (line,) = of(row, other, row | {"split": "valid", "errors": 30})
    assert line.cells["test", "errors"] == (14, pytest.approx(8**0.5))
    assert line.cells["valid", "errors"] == (30, None)
    assert line.cells["test", "accuracy"] == (pytest.approx(0.86), pytest.approx(8**0.5 / 100))


def test_how_cells_are_shown():
    """Shares in %."""
    (one,), (two,) = of(*rows("a", "teacher")), of(*rows("s", "student", errors=(12, 16)))
    metrics = ("accuracy", "errors", "nll", "ece", "agreement")
    assert [one.shown("test", metric) for metric in metrics] == ["90.00", "10.0", "0.2500", "5.00", "100.00"]
    assert [two.shown("valid", metric) for metric in metrics[:2]] == ["86.00 ± 2.83", "14.0 ± 2.8"]


def test_nets_that_diverged_are_in_no_mean():
    kept, gone = rows("s", "student", errors=(12, 90, 16)), rows("t", "student")
    (line, none) = of(*kept[:2], *map(lost, kept[2:4]), *kept[4:], *map(lost, gone))
    assert (line.seeds, line.diverged, line.shown("test", "errors"), line.remark) == (2, 1, "14.0 ± 2.8", "1 diverged")
    assert (none.seeds, none.diverged, none.cells, none.shown("test", "errors")) == (0, 1, {}, "—")


def test_nets_that_learned_nothing_are_told():
    """Once, though the rows of both splits say so."""
    every = [row | {"chance": row["seed"] == 1} for row in rows("s", "student", errors=(1, 2))]
    (line,), (both,) = of(*every), of(*every, *map(lost, rows("s", "student")))
    assert line.remark == "1 no better than the commonest class, on the validation split"
    assert (line.seeds, line.chance) == (2, 1)
    assert both.remark == f"1 diverged, {line.remark}"
    assert of(*rows("a", "teacher"))[0].remark == ""
