"""Training: loss and validation accuracy after each epoch."""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from statistics import fmean
from typing import Any, NamedTuple

from pipeline.results.page import marks, theme
from pipeline.results.page.chapter import Chapter
from pipeline.results.page.section import Figure, Section
from pipeline.results.page.students import called, headline, labels, students, valid_nll
from pipeline.results.page.theme import QUIET
from pipeline.results.tables import EpochRow
from pipeline.results.wording import counted, cut, number

_STUDENTS = 6
_TEACHERS = 4
_SEEDS = 10  # of a run, drawn at most; means are over all
EPOCHS = 60  # of a net, drawn at most
_DASHES = {"student": [1, 0], "baseline": [5, 3], "teacher": [1, 0]}
_LOGARITHMIC = 20  # a scale, where values differ by this factor or more
_CUT = 8  # of accuracies, one in so many is cut off
_SPAN = 1.0  # points of accuracy that the axis shows at least
_LETTERS = 36  # of a name in the list of them, which must fit a phone
_Net = Mapping[int, EpochRow]  # by epoch


class Curve(NamedTuple):
    """A run, what the chart calls it, and its nets."""

    label: str
    colour: str
    kind: str
    nets: Sequence[_Net]


def training(chapter: Chapter) -> Section | None:
    """The section of training; None where there are no histories."""
    curves, left_out = _curves(chapter)
    if not curves:
        return None
    best = headline(chapter)
    first = called(best, best.best) if best else ""
    figures = [
        _figure(curves, first, "training-loss", "train_loss", "training loss", 1.0),
        _figure(curves, first, "training-accuracy", "valid_accuracy", "validation accuracy, %", 100.0),
    ]
    return Section("training", "Training", figures, {"sentences": [left_out]})


def _curves(chapter: Chapter) -> tuple[list[Curve], str]:
    """Teachers, the best students and their baselines; and a sentence on those that are left out."""
    nets: dict[str, dict[int | None, dict[int, EpochRow]]] = {}
    diverged = {(row.run, row.seed) for row in chapter.runs if row.diverged is not None}
    for row in chapter.epochs:
        if (row.run, row.seed) in diverged or not isfinite(row.train_loss):
            continue
        nets.setdefault(row.run, {}).setdefault(row.seed, {})[row.epoch] = row
    every = students(chapter)
    kept = [student.name for student in sorted(every, key=lambda student: valid_nll(student.best))[:_STUDENTS]]
    taught = [line.run for line in chapter.lines if line.kind == "teacher" and line.run in nets]
    wanted = [(f"teacher {label}", QUIET, "teacher", run) for run, label in zip(taught, labels(taught), strict=True)][
        :_TEACHERS
    ]
    for student in (student for student in every if student.name in kept):
        runs = [student.best] + ([student.baseline] if student.baseline else [])
        wanted += [(called(student, line), student.colour, line.kind, line.run) for line in runs if line.run in nets]
    curves = [Curve(label, colour, kind, list(nets[run].values())) for label, colour, kind, run in wanted]
    return curves, _left_out(len(taught) - _TEACHERS, len(every) - _STUDENTS)


def _left_out(teachers: int, students: int) -> str:
    """A sentence; empty where all are drawn."""
    what = [counted(count, noun) for count, noun in ((teachers, "teacher"), (students, "student")) if count > 0]
    return f"Not drawn: {' and '.join(what)} more." if what else ""


def thinned(epochs: Sequence[int], most: int = EPOCHS) -> list[int]:
    """Some of these epochs, evenly spaced, the first and the last among them; all where they are not more than `most`."""
    if len(epochs) <= most:
        return list(epochs)
    return [epochs[round(index * (len(epochs) - 1) / (most - 1))] for index in range(most)]


def _figure(curves: Sequence[Curve], first: str, name: str, column: str, title: str, factor: float) -> Figure:
    """A column of epochs for each run: nets thin, their mean thick. first: the run that the title is of, if it is there."""
    import altair

    thick = [curve for curve in curves if curve.kind != "teacher"] or curves
    alone = [curve for curve in curves if len(curve.nets) > 1 or curve not in thick]
    lines = {
        "nets": [line for curve in alone for line in _nets(curve, column, factor)],
        "means": [_mean(curve, column, factor) for curve in thick],
    }
    drawn = {each: [point for line in found for point in line] for each, found in lines.items()}
    drawn["points"] = [line[0] for found in lines.values() for line in found if len(line) == 1]  # which no line would show
    y, cut_off = _vertical(title, *([point["value"] for point in drawn[each]] for each in ("means", "nets")))
    chart = altair.layer(*_layers(curves, drawn, y))
    if len(curves) > 1:
        chart = chart.add_params(_choice([curve.label for curve in curves]))
    spec = chart.properties(width="container", height=320).to_dict()
    spec["datasets"] = drawn  # which altair would check point by point, for seconds
    ends = {curve.label: _mean(curve, column, factor)[-1] for curve in curves}
    said = "; ".join(f"{each}: {number(end['value'])} after epoch {end['epoch']}" for each, end in ends.items())
    label = first if first in ends else curves[0].label
    unit = " %" if title.endswith("%") else ""
    what = f"{title[0].upper()}{title[1:].partition(',')[0]}"
    end = f"{number(ends[label]['value'])}{unit} after {counted(ends[label]['epoch'], 'epoch')}"
    note = [*_notes(curves), cut_off]
    if column == "train_loss" and len({curve.kind for curve in curves}) > 1:
        note.append("Losses of soft targets and of hard labels differ in kind.")
    return Figure(name, f"{what} of {label} ends at {end}", f"{title}. {said}.", spec, " ".join(filter(None, note)))


def _layers(curves: Sequence[Curve], drawn: Mapping[str, Sequence[Any]], y: Any) -> list[Any]:
    """Thin lines, thick ones, and points, as far as there are any."""
    import altair

    x = altair.X("epoch:Q", title="epoch", axis=marks.few(50), scale=altair.Scale(zero=False, nice=False))
    legend = altair.Legend(symbolType="stroke", columns=altair.ExprRef(theme.columns(wide=200)))
    domain = [curve.label for curve in curves]
    colour, dash = (
        encoding("run:N", title=None, sort=None, legend=legend, scale=altair.Scale(domain=domain, range=ranged))
        for encoding, ranged in (
            (altair.Color, [curve.colour for curve in curves]),
            (altair.StrokeDash, [_DASHES[curve.kind] for curve in curves]),
        )
    )
    thin, thick, points = (altair.Chart(altair.NamedData(name)) for name in ("nets", "means", "points"))
    layers = [
        thin.mark_line(strokeWidth=1, clip=True).encode(
            x, y, color=colour, strokeDash=dash, detail="net:N", opacity=_opacity(curves, 0.4)
        ),
        thick.mark_line(strokeWidth=2, clip=True).encode(x, y, color=colour, strokeDash=dash, opacity=_opacity(curves, 1.0)),
        points.mark_point(filled=True, size=60).encode(x, y, color=colour, opacity=_opacity(curves, 1.0)),
    ]
    return [layer for layer in layers if drawn[layer.data.name]]


def _choice(names: Sequence[str]) -> Any:
    """The list of names beside the chart, of which one can be seen alone."""
    import altair

    shown = ["all", *(cut(name, _LETTERS) for name in names)]
    return altair.param(name="only", value="", bind=altair.binding_select(options=["", *names], labels=shown, name="show "))


def _opacity(curves: Sequence[Curve], opacity: float) -> Any:
    """The opacity of a line, which a choice of another one takes away."""
    import altair

    if len(curves) == 1:
        return altair.value(opacity)
    return altair.condition("!only || datum.run === only", altair.value(opacity), altair.value(0.05))


def _notes(curves: Sequence[Curve]) -> Iterator[str]:
    """How to read the lines, and what is left out of them."""
    seeds = max(len(curve.nets) for curve in curves)
    if seeds > 1:
        yield f"Thick: mean over seeds; thin: {f'the first {_SEEDS} seeds' if seeds > _SEEDS else 'each seed'}."
    epochs = max(len(net) for curve in curves for net in curve.nets)
    if epochs > EPOCHS:
        yield f"Drawn: {EPOCHS} of up to {epochs:,} epochs, with the first and the last."


def _vertical(title: str, means: Sequence[float], single: Sequence[float]) -> tuple[Any, str]:
    """The axis of a column: of losses logarithmic where they differ much, of accuracies without the first steps up.

    And a sentence on what is cut off: nothing where most of what is drawn is one number.
    """
    import altair

    low, high = min([*means, *single]), max([*means, *single])
    if title.endswith("%"):
        least = sorted(means)[len(means) // _CUT]
        least = least if least < high - _SPAN else low
        scale = altair.Scale(domain=[min(least, high - _SPAN), high], zero=False)
        return altair.Y("value:Q", title=title, scale=scale), f"Below {number(least)} % is cut off." if low < least else ""
    if low > 0 and high > _LOGARITHMIC * low:
        scale = altair.Scale(type="log", nice=False)
        return altair.Y("value:Q", title=f"{title} (log scale)", scale=scale, axis=altair.Axis(labelOverlap="greedy")), ""
    return altair.Y("value:Q", title=title, scale=altair.Scale(zero=False)), ""


def _mean(curve: Curve, column: str, factor: float) -> list[dict[str, Any]]:
    """Means over the nets, at epochs that all of them have."""
    epochs = sorted(set.intersection(*(set(net) for net in curve.nets)))
    return [
        _point(curve, epoch, factor * fmean(getattr(net[epoch], column) for net in curve.nets)) for epoch in thinned(epochs)
    ]


def _nets(curve: Curve, column: str, factor: float) -> list[list[dict[str, Any]]]:
    """The line of each net."""
    return [
        [_point(curve, epoch, factor * getattr(net[epoch], column)) | {"net": place} for epoch in thinned(sorted(net))]
        for place, net in enumerate(curve.nets[:_SEEDS])
    ]


def _point(curve: Curve, epoch: int, value: float) -> dict[str, Any]:
    return {"run": curve.label, "epoch": epoch, "value": float(f"{value:.4g}")}
