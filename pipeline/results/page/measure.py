"""Measures: what charts show of a run, on the test split."""

import math
from dataclasses import dataclass

from pipeline.results.line import COLUMNS, Line
from pipeline.results.page.chapter import Chapter
from pipeline.results.page.students import headline, setting, students

SPLIT = "test"


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

    def compared(self, line: Line, other: Line, what: str) -> str:
        """How much a run is above or below another one, which words call `what`.

        Noise: less than two standard errors over the seeds of both.
        """
        gain = self.of(line) - self.of(other)
        error = math.hypot(*((self.std(each) or 0.0) / math.sqrt(each.seeds) for each in (line, other)))
        by = f"{abs(gain):.{self.digits}f}"
        if not float(by):
            return f"level with {what}"
        noise = " (within the noise of the seeds)" if abs(gain) < 2 * error else ""
        return f"{by} {self.difference} {'above' if gain > 0 else 'below'} {what}{noise}"

    def shown(self, line: Line) -> str:
        """Mean and deviation with their unit."""
        return f"{line.shown(SPLIT, self.name)}{self.unit}"

    def _scaled(self, value: float) -> float:
        return round(value * COLUMNS[self.name][1], 8)


ACCURACY = Measure("accuracy", "test accuracy", "test accuracy, %", " %", "points", 1)
NLL = Measure("nll", "test NLL", "test NLL, nats", " nats", "nats", 3)


def verdict(chapter: Chapter, measure: Measure) -> str:
    """The title of a chart of this measure, where there is a student."""
    student = headline(chapter)
    if student is None:
        return measure.axis
    against = [measure.compared(student.best, student.baseline, "hard labels")] if student.baseline else []
    against += [measure.compared(student.best, chapter.teacher, "the teacher")] if chapter.teacher else []
    alphas = {line.alpha for each in students(chapter) for line in each.lines}
    at = f"{student.label} at {setting(student.best, alpha=len(alphas) > 1)}"
    return f"{at}: {measure.words} {' and '.join(against) or measure.shown(student.best)}"
