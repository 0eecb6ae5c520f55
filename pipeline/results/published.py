"""Published figures, and the same figures as measured here, from the tables of `evaluate`."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.base.errors import InputError
from pipeline.results.tables import ClassRow, RunRow, Tables
from pipeline.results.wording import spread

SPLIT = "test"
METRICS = ("errors", "error_rate", "accuracy")  # a count; the other two in %
HEADING = ("experiment", "published", "measured", "runs")
_UNITS = {"errors": ("", 1), "error_rate": (" %", 2), "accuracy": (" %", 2)}  # metric → (unit, digits)
_KEYS = ("what", "folder", "runs", "class", "metric", "published")


@dataclass(frozen=True)
class Figure:
    """One figure: a metric of the nets of some runs, over all test rows or over those of one class.

    folder: the name of the report's folder that has the runs; it may be empty. published: None if there is no published value.
    """

    what: str
    folder: str
    runs: tuple[str, ...]
    of_class: str | None
    metric: str
    published: float | None

    @classmethod
    def parse(cls, row: Any, where: str) -> "Figure":
        """Parse one of the settings `rows`. Raises InputError that names `where` and what is expected there."""
        _require(isinstance(row, Mapping), where, f"a row with {', '.join(_KEYS)}", repr(row))
        _require_known(row, _KEYS, where)
        given = {key: value for key, value in row.items() if value is not None}
        _require(_is_text(given.get("what")), f"{where}, what", "the name of an experiment", repr(row.get("what")))
        where = f"published {given['what']!r}"
        runs: Any = given.get("runs")
        listed = isinstance(runs, list) and bool(runs) and all(map(_is_name, runs)) and len(set(map(str, runs))) == len(runs)
        _require(listed, f"{where}, runs", "a list of names of runs, each once", repr(runs))
        for key in ("folder", "class"):
            _require(key not in given or _is_name(given[key]), f"{where}, {key}", "a name", repr(given.get(key)))
        metric, number = given.get("metric", METRICS[0]), given.get("published")
        _require(metric in METRICS, f"{where}, metric", f"one of {', '.join(METRICS)}", repr(metric))
        _require(number is None or _is_number(number), f"{where}, published", "a number, or null", repr(number))
        of_class = str(given["class"]) if "class" in given else None
        return cls(str(given["what"]), str(given.get("folder", "")), tuple(map(str, runs)), of_class, metric, number)


@dataclass(frozen=True)
class Measured:
    """A figure with its measured values: one for each seed of its runs, in their order."""

    figure: Figure
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean over all nets."""
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        """The sample standard deviation over all nets; None if there is one net."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def cells(self) -> tuple[str, str, str]:
        """The texts of the columns published, measured and runs."""
        unit, digits = _UNITS[self.figure.metric]
        if self.figure.metric == "errors" and self.std is None:
            digits = 0
        published = "—" if self.figure.published is None else f"{self.figure.published}{unit}"
        return published, f"{spread(self.mean, self.std, digits)}{unit}", str(len(self.values))

    def to_dict(self) -> dict[str, Any]:
        """The record in results.json."""
        figure = self.figure
        return {
            "what": figure.what, "folder": figure.folder or None, "runs": list(figure.runs), "class": figure.of_class,
            "metric": figure.metric, "published": figure.published, "mean": self.mean, "std": self.std,
            "count": len(self.values), "values": list(self.values),
        }  # fmt: skip


@dataclass(frozen=True)
class Published:
    """Figures from one source."""

    source: str
    figures: tuple[Figure, ...]

    @classmethod
    def parse(cls, section: Mapping[str, Any]) -> "Published":
        """Parse {source: text, rows: [{what, folder, runs, class, metric, published}]}. Raises InputError if it is wrong."""
        _require_known(section, ("source", "rows"), "published")
        source: Any = section.get("source")
        rows: Any = section.get("rows")
        _require(_is_text(source), "published, source", "where the figures were published", repr(source))
        _require(isinstance(rows, list) and bool(rows), "published, rows", "a list of figures", repr(rows))
        return cls(source, tuple(Figure.parse(row, f"published, row {number}") for number, row in enumerate(rows, 1)))

    def measure(self, tables: Mapping[str, Tables]) -> list[Measured]:
        """Look up each figure in the tables. tables: by the name of their folder.

        Raises InputError for an unknown folder, run or class, listing the known ones, and for a run whose nets all diverged.
        """
        records: dict[tuple[str, bool], list[RunRow | ClassRow]] = {}
        measured = []
        for figure in self.figures:
            where = f"published {figure.what!r}"
            if figure.folder not in tables:
                fix = "Correct the section `published`, report on that folder as well, or give --no-published."
                raise InputError(f"{where}, folder", expected=_listed(tables), found=repr(figure.folder), fix=fix)
            key = (figure.folder, figure.of_class is None)
            if key not in records:
                found = tables[figure.folder]
                read = found.read(RunRow) if figure.of_class is None else found.read(ClassRow)
                records[key] = [record for record in read if record.split == SPLIT]
            measured.append(Measured(figure, tuple(_value(net, figure.metric) for net in _nets(records[key], figure, where))))
        return measured


def _nets(records: Sequence[RunRow | ClassRow], figure: Figure, where: str) -> list[RunRow | ClassRow]:
    """The records that a figure is computed from: one for each net."""
    chosen: list[RunRow | ClassRow] = []
    for run in figure.runs:
        found = [record for record in records if record.run == run]
        _require(bool(found), f"{where}, runs", _listed(record.run for record in records), repr(run))
        found = [record for record in found if record.errors is not None]
        _require(bool(found), f"{where}, runs", "a net that did not diverge", f"none in {run!r}")
        if figure.of_class is not None:
            classes = [record for record in found if isinstance(record, ClassRow)]
            of_class = [record for record in classes if record.class_ == figure.of_class]
            _require(bool(of_class), f"{where}, class", _listed(record.class_ for record in classes), repr(figure.of_class))
            any_rows = all(record.rows for record in of_class)
            _require(any_rows, f"{where}, class {figure.of_class!r}", f"rows of it in the {SPLIT} split", "none")
            found = [*of_class]
        chosen += found
    return chosen


def _value(net: RunRow | ClassRow, metric: str) -> float:
    """The metric of a net that did not diverge."""
    errors, right = (net.errors, net.accuracy) if isinstance(net, RunRow) else (net.errors, 1 - net.errors / net.rows)
    assert errors is not None
    assert right is not None
    if metric == "errors":
        return float(errors)
    return round(100 * (right if metric == "accuracy" else 1 - right), 9)  # rounding removes the float error of 1 - right


# ---------------------------------------------------------------- checks


def _require(holds: bool, what: str, expected: str, found: str) -> None:
    if not holds:
        raise InputError(what, expected=expected, found=found, fix="Correct the section `published`.")


def _require_known(given: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    unknown = [key for key in given if key not in known]
    _require(not unknown, where, f"keys out of {', '.join(known)}", ", ".join(map(repr, unknown)))


def _listed(names: Iterable[str]) -> str:
    known = [name for name in dict.fromkeys(names) if name]
    return f"one of {', '.join(known)}" if known else "none, because there are none"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_name(value: Any) -> bool:
    """Whether this is a name. It may be an integer, because YAML reads digits as one."""
    return _is_text(value) or (isinstance(value, int) and not isinstance(value, bool))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
