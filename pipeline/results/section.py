"""A section of a report: what one folder of results has to show."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.results import chart
from pipeline.results.chart import Axis
from pipeline.results.line import Line, lines
from pipeline.results.tables import BestRow, RunRow, Tables


@dataclass(frozen=True)
class Section:
    """One folder of results on the page. picture: SVG against `axis`, or None where there is nothing to draw."""

    name: str
    lines: Sequence[Line]
    best: Sequence[BestRow]
    axis: Axis
    picture: str | None

    @classmethod
    def of(cls, name: str, tables: Tables) -> "Section":
        """name: empty for a folder that needs none, which is drawn even where it has students at one value alone."""
        shown = lines(tables.read(RunRow))
        axis, values = chart.axis_of(shown)
        picture = chart.draw(shown, name, axis) if values >= (2 if name else 1) else None
        return cls(name, shown, tables.read(BestRow), axis, picture)
