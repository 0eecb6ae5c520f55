"""Sections of a report: one for each folder of tables."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.results import chart
from pipeline.results.chart import Axis
from pipeline.results.line import Line, lines
from pipeline.results.tables import BestRow, RunRow, Tables


@dataclass(frozen=True)
class Section:
    """One folder of tables on the page. picture: its chart against `axis`, as SVG; None if there is nothing to draw."""

    name: str
    lines: Sequence[Line]
    best: Sequence[BestRow]
    axis: Axis
    picture: str | None

    @classmethod
    def of(cls, name: str, tables: Tables) -> "Section":
        """The section of these tables. name: if empty, the chart is drawn even if the students have only one value."""
        shown = lines(tables.read(RunRow))
        axis, values = chart.axis_of(shown)
        picture = chart.draw(shown, name, axis) if values >= (2 if name else 1) else None
        return cls(name, shown, tables.read(BestRow), axis, picture)
