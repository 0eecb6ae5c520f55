"""The verdict: how the student to show compares with hard labels and with the teacher, in words."""

from pipeline.base.commands import short
from pipeline.results.line import Line
from pipeline.results.page.chapter import Chapter
from pipeline.results.page.measure import Measure
from pipeline.results.page.students import Student, headline, students


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


def called(student: Student, line: Line) -> str:
    """What charts of several runs of a student call one of them."""
    return f"{student.label} on hard labels" if line.kind == "baseline" else f"{student.label} at {setting(line, alpha=False)}"


def setting(line: Line, *, alpha: bool = True) -> str:
    """T of a student, and alpha where it is asked for."""
    temperature = f"T = {short(line.temperature or 0.0)}"
    return f"{temperature} and alpha = {short(line.alpha or 0.0)}" if alpha else temperature
