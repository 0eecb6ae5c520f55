"""Marks: what several charts draw alike.

Names come from users' data. They stand in charts as values of data and in domains, which Vega-Lite draws as text; never as
names of fields or in expressions. So no encoding sorts by them either, which would compile them into one.
"""

from collections.abc import Sequence
from typing import Any, Literal

from pipeline.results.line import Line
from pipeline.results.page import theme
from pipeline.results.page.chapter import Chapter
from pipeline.results.page.measure import Measure
from pipeline.results.page.students import Student, labels
from pipeline.results.page.theme import QUIET

NARROW = {"zero": False, "padding": 16}  # the scale of values far from 0


def colours(named: Sequence[Student], orient: Literal["top", "bottom"] = "bottom", beside: int = 0) -> Any:
    """The encoding of students by their colours; a legend where there are several. beside: pixels of another legend there."""
    import altair

    scale = altair.Scale(domain=[student.label for student in named], range=[student.colour for student in named])
    columns = altair.ExprRef(theme.columns(beside))
    legend = altair.Legend(orient=orient, columns=columns, labelLimit=125) if len(named) > 1 else None
    return altair.Color("student:N", title=None, scale=scale, sort=None, legend=legend)


def tooltips(**fields: str) -> Any:
    """The encoding of a tooltip. fields: by the words before it, a field that is shown as it is."""
    import altair

    return [altair.Tooltip(f"{field}:N", title=title) for title, field in fields.items()]


def teacher_name(line: Line) -> str:
    """What a chart calls the teacher."""
    return "teacher ensemble" if line.kind == "ensemble" else f"teacher {labels([line.run])[0]}"


def of_teacher(line: Line, measure: Measure) -> Any:
    """A chart with the teacher's value, and with its name."""
    import altair

    value = {"value": measure.of(line), "name": teacher_name(line), "shown": measure.shown(line)}
    told = tooltips(**{"of": "name", measure.axis: "shown"})
    return altair.Chart(altair.Data(values=[value])).encode(tooltip=told)


def level(chapter: Chapter, measure: Measure) -> list[Any]:
    """A grey line across the chart at the teacher's value, and its name; nothing without a teacher."""
    import altair

    if chapter.teacher is None:
        return []
    chart, y = of_teacher(chapter.teacher, measure), altair.Y("value:Q", title=measure.axis, scale=NARROW)
    name = chart.mark_text(align="right", x="width", dx=-4, dy=-7, fontSize=12, limit=200).encode(y, text="name:N")
    return [chart.mark_rule(color=QUIET, strokeWidth=1.5).encode(y), name]


def few(apart: int = 90) -> Any:
    """A horizontal axis with as many ticks as there is room for, if they are so many pixels apart."""
    import altair

    return altair.Axis(tickCount=altair.ExprRef(f"max(2, floor(width / {apart}))"), grid=False)
