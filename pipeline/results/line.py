"""Lines of a report: one for each run, with means over its seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.results import wording
from pipeline.results.run import SPLITS, mean_std
from pipeline.results.tables import RunRow

KINDS = {
    "teacher": "Teachers",
    "ensemble": "Ensemble",
    "baseline": "Hard-label baselines",
    "student": "Distilled students",
    "uncorrected": "Students before the bias correction",
}
COLUMNS = {  # metric → (heading, factor, digits)
    "accuracy": ("accuracy, %", 100, 2),
    "errors": ("errors", 1, 1),
    "nll": ("NLL, nats", 1, 4),
    "ece": ("ECE, %", 100, 2),
    "agreement": ("agrees with teacher, %", 100, 2),
}
Cell = tuple[float, float | None]  # mean, and standard deviation if there are several seeds


@dataclass(frozen=True)
class Line:
    """One run in the report. cells: by (split, metric), over seeds; empty if all nets diverged.

    student, temperature, alpha: None if they do not apply. parameters: None if they are not known. seeds: the number of nets in
    the means. diverged: the number of nets that are left out. chance: how many nets in the means are no better than
    predicting the commonest class.
    """

    run: str
    kind: str
    student: str | None
    temperature: float | None
    alpha: float | None
    parameters: int | None
    seeds: int
    diverged: int
    chance: int
    cells: Mapping[tuple[str, str], Cell]

    @property
    def size(self) -> str:
        """The number of parameters, as a cell of a table."""
        return "—" if self.parameters is None else f"{self.parameters:,}"

    @property
    def remark(self) -> str:
        """A remark on the nets that did not learn; empty if all did."""
        diverged = f"{self.diverged} diverged" if self.diverged else ""
        chance = f"{self.chance} no better than the commonest class, on the validation split" if self.chance else ""
        return ", ".join(filter(None, (diverged, chance)))

    def shown(self, split: str, metric: str) -> str:
        """The text of a cell of a table."""
        if (split, metric) not in self.cells:
            return "—"
        (mean, std), (_, factor, digits) = self.cells[split, metric], COLUMNS[metric]
        return wording.spread(mean * factor, None if std is None else std * factor, digits)


def lines(rows: Sequence[RunRow]) -> list[Line]:
    """One line per run, from records per run, seed and split. The order is kept, but uncorrected runs come last."""
    grouped: dict[str, list[RunRow]] = {}
    for row in rows:
        grouped.setdefault(row.run, []).append(row)
    return sorted((_line(members) for members in grouped.values()), key=lambda line: line.kind == "uncorrected")


def _line(rows: Sequence[RunRow]) -> Line:
    """The line of one run, from its records."""
    cells: dict[tuple[str, str], Cell] = {}
    for split in SPLITS:
        measured = [row for row in rows if row.split == split and row.diverged is None]
        if measured:
            cells |= {(split, metric): mean_std(getattr(row, metric) for row in measured) for metric in COLUMNS}
    first, nets = rows[0], [row for row in rows if row.split == "test"]
    return Line(
        first.run, first.kind, first.student, first.temperature, first.alpha, first.parameters,
        seeds=sum(row.diverged is None for row in nets), diverged=sum(row.diverged is not None for row in nets),
        chance=sum(bool(row.chance) for row in nets), cells=cells,
    )  # fmt: skip
