"""Students: their settings, the best one, and the label and the colour that each has in every chart."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.results import wording
from pipeline.results.line import Line
from pipeline.results.page.chapter import Chapter
from pipeline.results.page.theme import HUES, QUIET
from pipeline.results.wording import cut

_LETTERS = 40  # of a label, at most
# What every object of JavaScript has: Vega would find it where it looks for a group of that name, and fail.
PROPERTIES = {
    "constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString", "toString", "valueOf",
    "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__", "__proto__",
}  # fmt: skip
_INVISIBLE = "\u200b"  # before such a name


@dataclass(frozen=True)
class Student:
    """A student with nets that can be measured.

    label: its name, short and unlike that of others. colour: of HUES where it is `named`, QUIET where there are more students
    than hues and others are better on the validation split. lines: its settings. best: that of the table `best`; where it has
    none, of the lowest validation NLL. baseline: the same net on hard labels.
    """

    name: str
    label: str
    colour: str
    named: bool
    lines: Sequence[Line]
    best: Line
    baseline: Line | None


def students(chapter: Chapter) -> list[Student]:
    """The students of a chapter, in its order."""
    measured = [line for line in chapter.lines if line.seeds]
    chosen = {row.run for row in chapter.best}
    settings: dict[str, list[Line]] = {}
    for line in measured:
        if line.kind == "student":
            settings.setdefault(line.student or line.run, []).append(line)
    best = {
        name: next((line for line in lines if line.run in chosen), min(lines, key=valid_nll))
        for name, lines in settings.items()
    }
    baselines = {line.student: line for line in measured if line.kind == "baseline"}
    ranked = sorted(best, key=lambda name: valid_nll(best[name]))
    coloured = [name for name in best if name in ranked[: len(HUES)]]
    colours = dict(zip(coloured, HUES, strict=False))
    return [
        Student(name, label, colours.get(name, QUIET), name in colours, settings[name], best[name], baselines.get(name))
        for name, label in zip(best, labels(best), strict=True)
    ]


def headline(chapter: Chapter) -> Student | None:
    """The student to show where there is room for one: the same as in the gallery, which choice.headline chose."""
    every = students(chapter)
    ranks = {row.run: row.valid_nll for row in chapter.best}
    compared = [student for student in every if student.best.run in ranks]
    return min(compared or every, key=lambda student: (ranks.get(student.best.run, 0.0), valid_nll(student.best)), default=None)


def valid_nll(line: Line) -> float:
    """The mean validation NLL of a run with nets."""
    return line.cells["valid", "nll"][0]


def labels(names: Iterable[str]) -> list[str]:
    """Names as charts show them: one short line each, unlike each other, and unlike PROPERTIES of JavaScript."""
    found: list[str] = []
    for name in names:
        short = cut(name, _LETTERS)
        text = short = f"{_INVISIBLE}{short}" if short in PROPERTIES else short
        number = 1
        while text in found:
            number += 1
            text = f"{short} ({number})"
        found.append(text)
    return found


def left_out(every: Sequence[Student]) -> str:
    """A sentence on the students without a colour; empty where all have one."""
    grey = sum(not student.named for student in every)
    return f"Coloured: the {len(HUES)} students of the lowest validation NLL. Grey: the other {grey}." if grey else ""


def called(student: Student, line: Line) -> str:
    """What charts of several runs of a student call one of them."""
    return f"{student.label} on hard labels" if line.kind == "baseline" else f"{student.label} at {setting(line, alpha=False)}"


def setting(line: Line, *, alpha: bool = True) -> str:
    """T of a student, and alpha where it is asked for."""
    return wording.setting(line.temperature, line.alpha if alpha else None)
