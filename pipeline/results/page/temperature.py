"""Temperature: what T, and alpha, do to each student."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pipeline.base.commands import short
from pipeline.results import wording
from pipeline.results.line import Line
from pipeline.results.page import marks
from pipeline.results.page.chapter import Chapter
from pipeline.results.page.dots import dots
from pipeline.results.page.measure import ACCURACY, NLL, Measure, over_seeds
from pipeline.results.page.section import Figure, Section
from pipeline.results.page.students import Student, headline, left_out, setting, students, valid_nll
from pipeline.results.page.theme import QUIET

Axis = Literal["temperature", "alpha"]
TITLES = {"temperature": "temperature T (log scale)", "alpha": "alpha, the weight of the soft targets"}
_SHAPES = ("circle", "square", "triangle-up", "diamond")  # of the points of an alpha
_APART = 0.012  # of the width of the chart, between the points of two students at one T
_Shown = Mapping[str, Sequence[Line]]  # by student, in the order of the axis


def temperature(chapter: Chapter) -> Section | None:
    """The section of temperature; None without students."""
    every = students(chapter)
    if not every:
        return None
    axis, values = axis_of(every)
    shown, said = _shown(every, axis)
    titles = {each: _title(chapter, shown, axis, each) for each in (ACCURACY, NLL)}
    if values < 2:
        said = f"All students were trained at {setting(every[0].lines[0])}."
        figures = [dots(f"temperature-{each.name}", chapter, each, title) for each, title in titles.items()]
    else:
        figures = [_figure(chapter, every, shown, axis, each, title) for each, title in titles.items()]
    return Section("temperature", "Temperature", figures, {"sentences": [said, left_out(every)]})


def axis_of(every: Sequence[Student]) -> tuple[Axis, int]:
    """What students are drawn against: alpha if that is all that varies; and how many values it has."""
    lines = [line for student in every for line in student.lines]
    temperatures, alphas = {line.temperature for line in lines}, {line.alpha for line in lines}
    return ("alpha", len(alphas)) if len(temperatures) == 1 < len(alphas) else ("temperature", len(temperatures))


def _shown(every: Sequence[Student], axis: Axis) -> tuple[_Shown, str]:
    """The settings that are drawn: all; or the best one at each T, where alphas are more than shapes. And a sentence on it."""
    alphas = _alphas(every)
    best = axis == "temperature" and len(alphas) > len(_SHAPES)
    shown: dict[str, list[Line]] = {}
    for student in every:
        lines: Sequence[Line] = student.lines
        if best:
            lines = list({line.temperature: line for line in sorted(lines, key=valid_nll, reverse=True)}.values())
        shown[student.name] = sorted(lines, key=lambda line: _at(line, axis))
    return shown, f"At each T: the best of {len(alphas)} alphas by validation NLL." if best else ""


def _alphas(every: Sequence[Student]) -> list[str]:
    return [short(alpha) for alpha in sorted({line.alpha or 0.0 for student in every for line in student.lines}, reverse=True)]


def _at(line: Line, axis: Axis) -> float:
    return (line.temperature if axis == "temperature" else line.alpha) or 0.0


def _figure(chapter: Chapter, every: Sequence[Student], shown: _Shown, axis: Axis, measure: Measure, title: str) -> Figure:
    """A measure of the test split against T or alpha."""
    import altair

    named, alphas = [student for student in every if student.named], _alphas(every)
    shaped = axis == "temperature" and 1 < len(alphas) <= len(_SHAPES)
    points = list(_points(every, shown, axis, measure, shaped))
    drawn, quiet = (
        altair.Chart(altair.Data(values=[point for point in points if point["named"] == is_so])) for is_so in (True, False)
    )
    baselines = [
        {
            "student": student.label,
            "y": measure.of(student.baseline),
            "shown": measure.shown(student.baseline),
            "how": "hard labels",
        }
        for student in named
        if student.baseline
    ]
    values = sorted({point["value"] for point in points})
    scale = {"type": "log", "nice": False} if axis == "temperature" else {"zero": False}
    ticks = altair.Axis(values=values, grid=False, format="~r", labelOverlap="greedy", labelSeparation=4)
    x = altair.X("x:Q", title=TITLES[axis], scale=altair.Scale(padding=16, **scale), axis=ticks)
    y, low = (altair.Y(f"{at}:Q", title=measure.axis, scale=marks.NARROW) for at in ("y", "low"))
    colour, value = marks.colours(named), {measure.axis: "shown"}
    told = marks.tooltips(student="student", T="temperature", alpha="alpha", **value, seeds="seeds")
    shapes = altair.Scale(domain=alphas, range=list(_SHAPES[: len(alphas)]))
    grey = altair.Legend(symbolFillColor=QUIET, symbolStrokeColor=QUIET)
    layers = [
        quiet.mark_line(color=QUIET, strokeWidth=1, opacity=0.5).encode(x, y, detail=["student:N", "series:N"]),
        altair.Chart(altair.Data(values=baselines)).mark_rule(strokeDash=[6, 4], strokeWidth=1.5).encode(
            y, color=colour, tooltip=marks.tooltips(student="student", on="how", **value)
        ),
        *marks.level(chapter, measure),
        drawn.mark_rule(strokeWidth=1.5, opacity=0.6).encode(x, low, y2="high", color=colour),
        drawn.mark_line(strokeWidth=2).encode(x, y, color=colour, detail="series:N"),
        drawn.mark_point(filled=True, size=70, opacity=1).encode(
            x, y, color=colour, tooltip=told,
            **({"shape": altair.Shape("series:N", title="alpha", scale=shapes, sort=None, legend=grey)} if shaped else {}),
        ),
    ]  # fmt: skip
    chart = altair.layer(*(layer for layer in layers if layer.data.values)).properties(width="container", height=320)
    note = [
        over_seeds(line for student in every for line in shown[student.name]),
        "Dashed: the same student on hard labels." if baselines else "",
        f"Points at one {'T' if axis == 'temperature' else axis} stand side by side." if len(named) > 1 else "",
    ]
    text = _text(chapter, named, shown, axis, measure)
    return Figure(f"temperature-{measure.name}", title, text, chart.to_dict(), " ".join(filter(None, note)))


def _title(chapter: Chapter, shown: _Shown, axis: Axis, measure: Measure) -> str:
    """The range of the measure over the settings of the student of the headline."""
    student = headline(chapter)
    if student is None:
        return measure.axis
    lines, several = sorted(shown[student.name], key=measure.of), len(_alphas([student])) > 1
    low, high = (f"{measure.of(line):.{measure.digits}f}{measure.unit}" for line in (lines[0], lines[-1]))
    what = f"{student.label}: {measure.words}"
    if low == high:
        return f"{what} {low} {f'at {_place(lines[0], axis, several)}' if len(lines) == 1 else 'at every setting'}"
    ends = (f"{value} at {_place(line, axis, several)}" for value, line in ((low, lines[0]), (high, lines[-1])))
    return f"{what} between {' and '.join(ends)}"


def _points(every: Sequence[Student], shown: _Shown, axis: Axis, measure: Measure, shaped: bool) -> Iterator[dict[str, Any]]:
    """A point for each setting, in the order of its line. Those of named students stand beside each other."""
    values = [_at(line, axis) for lines in shown.values() for line in lines]
    low, high = min(values), max(values)
    named = [student.name for student in every if student.named]
    for student in every:
        aside = _APART * (named.index(student.name) - (len(named) - 1) / 2) if student.named else 0.0
        for line in shown[student.name]:
            value = _at(line, axis)
            x = value * (high / low) ** aside if axis == "temperature" else value + (high - low) * aside
            yield {
                "student": student.label, "named": student.named, "series": short(line.alpha or 0.0) if shaped else "",
                "value": value, "x": x, "y": measure.of(line), **measure.bar(line), "seeds": line.seeds,
                "temperature": short(line.temperature or 0.0), "alpha": short(line.alpha or 0.0),
            }  # fmt: skip


def _text(chapter: Chapter, named: Sequence[Student], shown: _Shown, axis: Axis, measure: Measure) -> str:
    """The chart in words."""
    several = len(_alphas(named)) > 1
    said = []
    for student in named:
        at = [f"{measure.shown(line)} at {_place(line, axis, several)}" for line in shown[student.name]]
        hard = f"; {measure.shown(student.baseline)} on hard labels" if student.baseline else ""
        said.append(f"{student.label}: {', '.join(at)}{hard}.")
    if chapter.teacher:
        said.append(f"{marks.teacher_name(chapter.teacher)}: {measure.shown(chapter.teacher)}.")
    return f"{measure.axis} against {axis}. {' '.join(said)}"


def _place(line: Line, axis: Axis, several: bool) -> str:
    return wording.setting(None if axis == "alpha" else line.temperature, line.alpha if several or axis == "alpha" else None)
