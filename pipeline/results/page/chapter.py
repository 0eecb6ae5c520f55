"""Chapter: all that the page says of one folder of tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.results.footprint import Footprint
from pipeline.results.gallery import Gallery
from pipeline.results.line import Line, lines
from pipeline.results.lineage import Lineage
from pipeline.results.tables import BestRow, BinRow, ConfusionRow, EpochRow, RunRow, Tables


@dataclass(frozen=True)
class Chapter:
    """One folder of tables, which are read when they are first asked for, and what lies beside it.

    name: its heading; empty for the only one of a page. costs: what cost.cost says of the data folder, where it is known.
    number: its place on the page, from 1: ids are made of it, never of a name, which is a user's text.
    footprint: how large and fast its nets are, where it was measured.
    """

    name: str
    tables: Tables
    costs: Mapping[str, Any] | None = None
    number: int = 1
    footprint: Footprint | None = None

    @cached_property
    def runs(self) -> list[RunRow]:
        """Every net on both splits."""
        return self.tables.read(RunRow)

    @cached_property
    def lines(self) -> list[Line]:
        """Every run, with means over its seeds."""
        return lines(self.runs)

    @cached_property
    def best(self) -> Sequence[BestRow]:
        """Each student at its best setting."""
        return self.tables.read(BestRow)

    @cached_property
    def epochs(self) -> list[EpochRow]:
        """Every net after each epoch."""
        return self.tables.read(EpochRow)

    @cached_property
    def bins(self) -> list[BinRow]:
        """Every net in bins of confidence."""
        return self.tables.read(BinRow)

    @cached_property
    def confusions(self) -> list[ConfusionRow]:
        """What the teacher, the best students and their baselines take for what."""
        return self.tables.read(ConfusionRow)

    @cached_property
    def gallery(self) -> Gallery:
        """The rows to show."""
        return self.tables.gallery()

    @cached_property
    def lineage(self) -> Lineage:
        """What the nets come from."""
        return self.tables.lineage()

    def by_seed(self, line: Line, metric: str) -> dict[int, float]:
        """A metric of each net of a run on the test split; of teachers, whose nets have no seed here, nothing."""
        rows = (row for row in self.runs if row.run == line.run and row.split == "test" and row.diverged is None)
        return {row.seed: getattr(row, metric) for row in rows if row.seed is not None}

    @property
    def teacher(self) -> Line | None:
        """What students are compared with: the ensemble, or its only teacher."""
        return next((line for line in self.lines if line.run == self.gallery.reference), None)
