"""Dots: students beside their baselines and the teacher, on one axis."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.results.line import Line
from pipeline.results.page import marks
from pipeline.results.page.chapter import Chapter
from pipeline.results.page.marks import teacher_name, tooltips
from pipeline.results.page.measure import Measure, over_seeds
from pipeline.results.page.section import Figure
from pipeline.results.page.students import Student, setting, students
from pipeline.results.page.theme import QUIET

ROW = 52  # pixels
_SHAPES = {"distilled": "circle", "hard labels": "square"}


def dots(name: str, chapter: Chapter, measure: Measure, title: str) -> Figure:
    """A line for each named student: on hard labels (hollow), and distilled at its best setting (filled)."""
    import altair

    named = [student for student in students(chapter) if student.named]
    points = [point for student in named for point in _points(student, measure)]
    chart = altair.Chart(altair.Data(values=points))
    domain, hues = [student.label for student in named], [student.colour for student in named]
    y = altair.Y("student:N", title=None, scale=altair.Scale(domain=domain), axis=altair.Axis(grid=True, labelLimit=90))
    x, low = (altair.X(f"{at}:Q", title=measure.axis, scale=marks.NARROW, axis=marks.few()) for at in ("x", "low"))
    beside = altair.YOffset("how:N", scale=altair.Scale(domain=list(_SHAPES)))
    colour = altair.Color("student:N", scale=altair.Scale(domain=domain, range=hues), legend=None)
    shape = altair.Shape("how:N", title=None, scale=altair.Scale(domain=list(_SHAPES), range=list(_SHAPES.values())))
    told = tooltips(student="student", trained="setting", **{measure.axis: "shown"}, seeds="seeds")
    fill = altair.condition("datum.hollow", altair.value("transparent"), colour)
    layers = [
        *_teacher(chapter, measure, points),
        chart.mark_rule(strokeWidth=1.5).encode(low, y, beside, x2="high", color=colour),
        chart.mark_point(size=110, strokeWidth=2, opacity=1).encode(
            x, y, beside, stroke=colour, fill=fill, shape=shape, tooltip=told
        ),
    ]
    drawn = altair.layer(*layers).properties(width="container", height=max(80, ROW * len(named)))
    text = [f"{student.label}: {_said(student, measure)}" for student in named]
    if chapter.teacher:
        text.append(f"{teacher_name(chapter.teacher)}: {measure.shown(chapter.teacher)}")
    shown = [line for student in named for line in (student.best, student.baseline) if line]
    note = f"{over_seeds(shown)} Circle: distilled, at the best setting; square: on hard labels."
    return Figure(name, title, f"{measure.axis}. {'; '.join(text)}.", drawn.to_dict(), note)


def _teacher(chapter: Chapter, measure: Measure, points: Sequence[Mapping[str, Any]]) -> list[Any]:
    """A grey line at the teacher's value, and its name on the side where there is room."""
    import altair

    if chapter.teacher is None:
        return []
    value = measure.of(chapter.teacher)
    chart = marks.of_teacher(chapter.teacher, measure)
    x = altair.X("value:Q", title=measure.axis, scale=marks.NARROW)
    ends = [point[end] for point in points for end in ("low", "high")] + [value]
    side = {"align": "right", "dx": -4} if value > (min(ends) + max(ends)) / 2 else {"align": "left", "dx": 4}
    name = chart.mark_text(baseline="bottom", y=0, dy=-4, fontSize=12, limit=200, **side).encode(x, text="name:N")
    return [chart.mark_rule(color=QUIET, strokeWidth=1.5).encode(x), name]


def _said(student: Student, measure: Measure) -> str:
    hard = f", {measure.shown(student.baseline)} on hard labels" if student.baseline else ""
    return f"{measure.shown(student.best)}{hard}"


def _points(student: Student, measure: Measure) -> list[dict[str, Any]]:
    best = student.best
    found = [_point(student, best, measure, f"distilled at {setting(best)}")]
    return found + ([_point(student, student.baseline, measure, "hard labels")] if student.baseline else [])


def _point(student: Student, line: Line, measure: Measure, trained: str) -> dict[str, Any]:
    return {
        "student": student.label, "x": measure.of(line), **measure.bar(line),
        "seeds": line.seeds, "setting": trained, "hollow": line.kind == "baseline",
        "how": "hard labels" if line.kind == "baseline" else "distilled",
    }  # fmt: skip
