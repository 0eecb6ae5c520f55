"""Measures: what charts show of a run, on the test split."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.results.line import COLUMNS, Line
from pipeline.results.page.chapter import Chapter
from pipeline.results.page.students import Student, headline, setting, students
from pipeline.stats import comparison

SPLIT = "test"


class Gain(NamedTuple):
    """A mean difference, over so many seeds that both sides have. clear: whether its 95 % intervals exclude 0."""

    mean: float
    seeds: int
    clear: bool


@dataclass(frozen=True)
class Measure:
    """A metric as charts have it.

    name: of a column of lines. words: what a sentence calls it. axis: the title of its axis. unit: after a number.
    difference, digits: the unit of a difference, and its digits.
    """

    name: str
    words: str
    axis: str
    unit: str
    difference: str
    digits: int

    def of(self, line: Line) -> float:
        """The mean of a run with nets."""
        return self._scaled(line.cells[SPLIT, self.name][0])

    def std(self, line: Line) -> float | None:
        """The standard deviation over seeds; None for one net."""
        found = line.cells[SPLIT, self.name][1]
        return None if found is None else self._scaled(found)

    def bar(self, line: Line) -> dict[str, Any]:
        """The ends of a bar of a deviation to both sides, and the text on it: fields of a point."""
        mean, reach = self.of(line), self.std(line) or 0.0
        return {"low": mean - reach, "high": mean + reach, "shown": self.shown(line)}

    def gain(self, chapter: Chapter, line: Line, other: Line) -> Gain:
        """How far a run is above another one: hard labels, of the same seeds, or a teacher, which is one net.

        Its interval is that of comparison.paired; of accuracies against hard labels, that over test rows counts as well.
        """
        mine, theirs = (self._by_seed(chapter, each) for each in (line, other))
        if other.kind != "baseline":
            theirs = dict.fromkeys(mine, self.of(other))
        shared = mine.keys() & theirs.keys()
        over_seeds = comparison.paired(theirs, mine)
        if over_seeds is None:
            apart = [mine[seed] - theirs[seed] for seed in shared] or [self.of(line) - self.of(other)]
            return Gain(apart[0], len(shared), False)
        ends = [(over_seeds.low, over_seeds.high)]
        if self.name == "accuracy" and other.kind == "baseline":
            ends += [(row.over_rows_low, row.over_rows_high) for row in chapter.best if row.run == line.run]
        return Gain(-over_seeds.mean, len(shared), all(low > 0 or high < 0 for low, high in ends))

    def compared(self, chapter: Chapter, line: Line, other: Line, what: str) -> str:
        """How much a run is above or below another one, which words call `what`, and whether that is clear."""
        gain = self.gain(chapter, line, other)
        by, side = f"{abs(gain.mean):.{self.digits}f}", "above" if gain.mean > 0 else "below"
        few = {0: " (no seed in common)", 1: " (one seed)"}.get(gain.seeds, "")
        if not float(by):
            return f"level with {what}{few}"
        if few or gain.clear:
            return f"{by} {self.difference} {side} {what}{few}"
        return f"not clearly {side} {what} ({by} {self.difference})"

    def shown(self, line: Line) -> str:
        """Mean and deviation with their unit."""
        return f"{line.shown(SPLIT, self.name)}{self.unit}"

    def _by_seed(self, chapter: Chapter, line: Line) -> dict[int, float]:
        return {seed: self._scaled(value) for seed, value in chapter.by_seed(line, self.name).items()}

    def _scaled(self, value: float) -> float:
        return round(value * COLUMNS[self.name][1], 8)


ACCURACY = Measure("accuracy", "test accuracy", "test accuracy, %", " %", "points", 1)
NLL = Measure("nll", "test NLL", "test NLL, nats", " nats", "nats", 3)


def over_seeds(lines: Iterable[Line]) -> str:
    """A sentence on the bars of a chart of these runs."""
    several = {line.seeds > 1 for line in lines}
    if several == {False}:
        return "One seed of each."
    return f"Mean ± standard deviation over seeds{', where there are several' if len(several) > 1 else ''}."


def at_best(chapter: Chapter, student: Student) -> str:
    """A student with its best setting, in which alpha is named where there are several."""
    alphas = {line.alpha for each in students(chapter) for line in each.lines}
    return f"{student.label} at {setting(student.best, alpha=len(alphas) > 1)}"


def verdict(chapter: Chapter, measure: Measure) -> str:
    """The title of a chart of this measure, where there is a student."""
    student = headline(chapter)
    if student is None:
        return measure.axis
    others = {"hard labels": student.baseline, "the teacher": chapter.teacher}
    against = [measure.compared(chapter, student.best, line, what) for what, line in others.items() if line]
    return f"{at_best(chapter, student)}: {measure.words} {' and '.join(against) or measure.shown(student.best)}"
