"""The chart of a report: test accuracy against temperature, or against alpha if all students have one temperature."""

import io
from collections.abc import Sequence
from typing import Any, Literal

from pipeline.base.commands import short
from pipeline.base.errors import InputError
from pipeline.results.line import Line

Axis = Literal["temperature", "alpha"]
TITLES: dict[Axis, str] = {"temperature": "temperature T (log scale)", "alpha": "alpha, the weight of the soft targets"}
HUES = ["#1f6feb", "#d9480f", "#2b8a3e", "#9c36b5", "#0b7285", "#e67700", "#c2255c", "#5c940d", "#495057", "#862e9c"]


def axis_of(lines: Sequence[Line]) -> tuple[Axis, int]:
    """The x axis of the chart, and how many different values the students have on it."""
    students = [line for line in lines if line.kind == "student" and line.seeds]
    temperatures, alphas = (len({getattr(line, name) for line in students}) for name in ("temperature", "alpha"))
    return ("alpha", alphas) if temperatures < 2 <= alphas else ("temperature", temperatures)


def draw(lines: Sequence[Line], name: str, axis: Axis) -> str:
    """The chart as SVG. name: of the folder that the lines come from; it may be empty. Raises InputError without altair."""
    try:
        import altair
        import vl_convert  # noqa: F401  # altair needs it to draw without a browser or a network
    except ImportError as error:
        fix = 'Install them: pip install "softcache[report]".'
        raise InputError("report", expected="altair and vl-convert-python", found="not installed", fix=fix) from error
    lines = [line for line in lines if line.seeds]
    several = axis == "temperature" and len({line.alpha for line in lines if line.kind == "student"}) > 1
    drawn = {kind: [_point(line, axis, several) for line in lines if line.kind == kind] for kind in ("student", "baseline")}
    teacher = [_point(line, axis) for line in lines if line.kind in ("teacher", "ensemble")][-1:]  # the ensemble is last
    students, baselines, taught = (
        altair.Chart(altair.Data(values=points)) for points in (drawn["student"], drawn["baseline"], teacher)
    )
    alone = len({point["student"] for points in drawn.values() for point in points}) == 1
    colour = altair.Color("student:N", title=None, sort=None, scale=altair.Scale(range=HUES))
    colour = colour.legend(None) if alone else colour
    log = {"type": "log", "nice": False} if axis == "temperature" else {"zero": False}
    values = sorted({point["x"] for point in drawn["student"]})
    ticks = altair.Axis(values=values, grid=False, format="~r", labelOverlap="greedy", labelSeparation=4)
    x = altair.X("x:Q", title=TITLES[axis], scale=altair.Scale(padding=16, **log), axis=ticks)
    y, low = (
        altair.Y(f"{field}:Q", title="test accuracy, %", scale=altair.Scale(zero=False, padding=12))
        for field in ("accuracy", "low")
    )
    dashed = "; dashed: the same student on hard labels" if drawn["baseline"] else ""
    text, subtitle = "Students distilled from cached logits", f"mean ± standard deviation over seeds{dashed}"
    title = altair.Title(f"{text}: {name}" if name else text, subtitle=subtitle, anchor="start", offset=12)
    chart = altair.layer(
        baselines.mark_rule(strokeDash=[6, 4], strokeWidth=1.5).encode(y=y, color=colour),
        taught.mark_rule(color="#868e96").encode(y=y),
        taught.mark_text(color="#495057", align="right", x="width", dx=-4, dy=-7, fontSize=12).encode(y=y, text="label:N"),
        students.mark_rule(strokeWidth=1.5).encode(x=x, y=low, y2="high", color=colour),
        students.mark_line(strokeWidth=2).encode(x=x, y=y, color=colour),
        students.mark_point(filled=True, size=60, opacity=1).encode(x=x, y=y, color=colour),
    ).properties(width=600, height=340, title=title, background="white")
    chart = chart.configure(font="sans-serif").configure_view(stroke=None).configure_legend(labelFontSize=12)
    svg = io.StringIO()
    chart.configure_axis(gridColor="#e5e7eb", labelFontSize=12, titleFontSize=12).save(svg, format="svg")
    return svg.getvalue()


def _point(line: Line, axis: Axis, several_alphas: bool = False) -> dict[str, Any]:
    mean, std = line.cells["test", "accuracy"]
    reach = std or 0.0
    setting = "hard labels" if line.alpha is None else f"alpha {short(line.alpha)}"
    return {
        "student": f"{line.student}, {setting}" if several_alphas else line.student,
        "label": "teacher ensemble" if line.kind == "ensemble" else f"teacher {line.run}",
        "x": getattr(line, axis) or 0.0,
        "accuracy": 100 * mean,
        "low": 100 * (mean - reach),
        "high": 100 * (mean + reach),
    }
