"""What to deploy: accuracy against what a net costs to run."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.base import commands
from pipeline.results.footprint import beside
from pipeline.results.line import Line
from pipeline.results.page import marks, theme
from pipeline.results.page.chapter import Chapter
from pipeline.results.page.measure import ACCURACY, over_seeds
from pipeline.results.page.section import Figure, Section
from pipeline.results.page.sizes import SIZES, sizes
from pipeline.results.page.students import Student, labels, left_out, setting, students
from pipeline.results.page.theme import QUIET
from pipeline.results.wording import number

_KINDS = {"distilled": "circle", "hard labels": "square", "teacher": "diamond"}  # and their shapes
_DRAWN = ("quiet", "solid", "hollow")
_TITLED = 6  # names in a title
_TOLD = 30  # nets in words


class Net(NamedTuple):
    """A net that could be deployed. kind: of _KINDS. student: None for a teacher. sizes: see sizes.py."""

    label: str
    kind: str
    line: Line
    student: Student | None
    sizes: Mapping[str, float]


def deploy(chapter: Chapter) -> Section | None:
    """The section of deployment; None without students."""
    every = students(chapter)
    if not every:
        return None
    nets = list(_nets(chapter, every))
    known = [name for name in SIZES if any(name in net.sizes for net in nets)]
    figures = [_figure(nets, known)] if known else []
    content = {
        "rows": [_row(net, known) for net in nets if net.kind != "hard labels"],
        "machine": chapter.footprint.machine if chapter.footprint else None,
        "measure": commands.footprint(beside(chapter.tables.folder)).strip("`"),
        "sentences": [left_out(every)],
    }
    return Section("deploy", "What to deploy", figures, content)


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (cost, gain) that no other one beats: none costs as little and gains more, or costs less and gains as much.

    Of equal points there is one. The costs rise, and so do the gains.
    """
    front: list[tuple[float, float]] = []
    for cost, gain in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or gain > front[-1][1]:
            front.append((cost, gain))
    return front


def _nets(chapter: Chapter, every: Sequence[Student]) -> Iterator[Net]:
    """Teachers, then each student at its best setting and on hard labels."""
    taught = [line for line in chapter.lines if line.kind in ("teacher", "ensemble") and line.seeds]
    for line, label in zip(taught, labels(line.run for line in taught), strict=True):
        name = "teacher ensemble" if line.kind == "ensemble" else f"teacher {label}"
        yield Net(name, "teacher", line, None, sizes(chapter, line))
    for student in every:
        yield Net(student.label, "distilled", student.best, student, sizes(chapter, student.best))
        if student.baseline:
            yield Net(student.label, "hard labels", student.baseline, student, sizes(chapter, student.baseline))


def _figure(nets: Sequence[Net], known: Sequence[str]) -> Figure:
    """Accuracy against one of the sizes, which the reader chooses."""
    import altair

    named = list({net.student.name: net.student for net in nets if net.student and net.student.named}.values())
    fronts = {name: _front(nets, name) for name in known}
    points = [_point(net, name) for name in known for net in nets if name in net.sizes]
    quiet, solid, hollow = (
        altair.Chart(altair.Data(values=[point for point in points if point["drawn"] == how])) for how in _DRAWN
    )
    steps = altair.Chart(altair.Data(values=[step for name in known for step in _steps(nets, fronts[name], name)]))
    ticks = altair.Axis(format=",.3~r", labelOverlap="greedy", labelSeparation=8, grid=False)
    scale = altair.Scale(type="log", nice=False, padding=24)
    x = altair.X("x:Q", title=SIZES[known[0]] if len(known) == 1 else None, scale=scale, axis=ticks)
    y, low = (altair.Y(f"{at}:Q", title=ACCURACY.axis, scale=marks.NARROW) for at in ("y", "low"))
    room = altair.ExprRef(f"{theme.ROOM} < 480 ? 1 : 3")
    above = altair.Legend(orient="top", columns=room)  # so that the name of the size is right below its axis
    shapes = altair.Scale(domain=list(_KINDS), range=list(_KINDS.values()))
    told = marks.tooltips(net="net", setting="setting", **{ACCURACY.axis: "shown", "size": "size"})
    dot = {"x": x, "y": y, "tooltip": told, "shape": altair.Shape("kind:N", title=None, scale=shapes, sort=None, legend=above)}
    colour = marks.colours(named, orient="top", beside=120)
    label = altair.Chart(altair.Data(values=[point for point in points if point["label"]]))
    layers = [
        steps.mark_line(interpolate="step-after", color=QUIET, strokeDash=[2, 3], strokeWidth=1.5).encode(x, y),
        quiet.mark_point(filled=True, color=QUIET, size=70, opacity=0.7).encode(**dot),
        hollow.mark_rule(strokeWidth=1.5, opacity=0.6).encode(x, low, y2="high", color=colour),
        hollow.mark_point(size=80, strokeWidth=2, opacity=1).encode(color=colour, **dot),
        solid.mark_rule(strokeWidth=1.5, opacity=0.6).encode(x, low, y2="high", color=colour),
        solid.mark_point(filled=True, size=90, opacity=1).encode(color=colour, **dot),
        label.mark_text(align="right", dx=-8, dy=-8, fontSize=12, limit=160).encode(x, y, text="label:N"),
    ]
    layers = [layer for layer in layers if layer.data.values]
    if len(known) > 1:
        layers = [layer.transform_filter("datum.measure === size") for layer in layers]
    chart = altair.layer(*layers).properties(width="container", height=340)
    if len(known) > 1:
        options = [SIZES[name] for name in known]
        choice = altair.param(name="size", value=options[0], bind=altair.binding_radio(options=options, name="against "))
        below = altair.TitleParams(altair.ExprRef("size"), orient="bottom", anchor="middle", fontSize=12, fontWeight="normal")
        chart = chart.add_params(choice).properties(title=below)
    title = f"Worth a look: {_listed(fronts[known[0]])}"
    spread = over_seeds(net.line for net in nets if net.student)
    every = f"Every other net is on average less accurate than one with no more {SIZES[known[0]]}"
    note = f"{every}. Dotted: the best mean test accuracy for what a net costs. {spread}"
    return Figure("deploy", title, _text(nets, known), chart.to_dict(), note)


def _front(nets: Sequence[Net], name: str) -> list[Net]:
    """The nets on the front of this size, with those that are equal to one."""
    at: dict[tuple[float, float], list[Net]] = {}
    for net in nets:
        if name in net.sizes:
            at.setdefault((net.sizes[name], ACCURACY.of(net.line)), []).append(net)
    return [net for point in pareto(list(at)) for net in at[point]]


def _steps(nets: Sequence[Net], front: Sequence[Net], name: str) -> list[dict[str, Any]]:
    """The front as a line, which goes on to the largest net."""
    ends = list(dict.fromkeys((net.sizes[name], ACCURACY.of(net.line)) for net in front))
    ends.append((max(net.sizes[name] for net in nets if name in net.sizes), ends[-1][1]))
    return [{"measure": SIZES[name], "x": x, "y": y} for x, y in ends]


def _point(net: Net, name: str) -> dict[str, Any]:
    named = net.student is not None and net.student.named
    return {
        "measure": SIZES[name], "drawn": "hollow" if named and net.kind == "hard labels" else "solid" if named else "quiet",
        "student": net.label, "net": net.label, "kind": net.kind, "setting": _setting(net), "x": net.sizes[name],
        "y": ACCURACY.of(net.line), **ACCURACY.bar(net.line),
        "size": f"{number(net.sizes[name])} {SIZES[name]}", "label": net.label if net.line.kind == "ensemble" else "",
    }  # fmt: skip


def _setting(net: Net) -> str:
    """How a student learned; empty for a teacher."""
    return "" if net.student is None else setting(net.line) if net.kind == "distilled" else "hard labels"


def _listed(nets: Sequence[Net]) -> str:
    """The names of some nets in a sentence."""
    names = [f"{net.label} on hard labels" if net.kind == "hard labels" and net.student else net.label for net in nets]
    names = names if len(names) <= _TITLED else [*names[: _TITLED - 1], f"{len(names) - _TITLED + 1} more"]
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _text(nets: Sequence[Net], known: Sequence[str]) -> str:
    """The chart in words; students without a colour are in the table."""
    said = [
        f"{', '.join(filter(None, (net.label, _setting(net))))}: {ACCURACY.shown(net.line)}, "
        + ", ".join(f"{number(net.sizes[name])} {SIZES[name]}" for name in known if name in net.sizes)
        for net in nets
        if net.student is None or net.student.named
    ]
    return f"{ACCURACY.axis} against size. {'; '.join(said[:_TOLD])}."


def _row(net: Net, known: Sequence[str]) -> dict[str, str]:
    """The row of a net in the table, by its heading. known: the sizes that are known of any."""
    name = f"{net.label} at {_setting(net)}" if net.student else net.label
    row = {"net": name, "accuracy, %": net.line.shown("test", "accuracy")}
    return row | {SIZES[name]: number(net.sizes[name]) if name in net.sizes else "—" for name in known}
