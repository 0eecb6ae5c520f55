"""Judged: the nets of which the page says how far they can be trusted."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline.results.line import Line
from pipeline.results.page import marks
from pipeline.results.page.chapter import Chapter
from pipeline.results.page.students import called, headline
from pipeline.results.page.theme import QUIET


class Judged(NamedTuple):
    """A run, what charts call it, its colour and the shape of its points."""

    line: Line
    label: str
    colour: str
    shape: str


def judged(chapter: Chapter) -> list[Judged]:
    """The teacher, the student of the headline, and its baseline, as far as there are any."""
    found = [Judged(chapter.teacher, marks.teacher_name(chapter.teacher), QUIET, "diamond")] if chapter.teacher else []
    if student := headline(chapter):
        found.append(Judged(student.best, called(student, student.best), student.colour, "circle"))
        if student.baseline:
            found.append(Judged(student.baseline, called(student, student.baseline), student.colour, "square"))
    return found


def told_apart(nets: Sequence[Judged], names: Sequence[str], **more: Any) -> list[Any]:
    """The encodings of the field `net` by colour and by shape. names: what it calls these nets. more: of both encodings."""
    import altair

    return [
        encoding("net:N", title=None, sort=None, scale=altair.Scale(domain=list(names), range=values), **more)
        for encoding, values in ((altair.Color, [net.colour for net in nets]), (altair.Shape, [net.shape for net in nets]))
    ]
