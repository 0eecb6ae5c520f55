"""Training: loss and validation accuracy after each epoch."""

from collections.abc import Mapping, Sequence
from math import isfinite
from statistics import fmean
from typing import Any, NamedTuple

from pipeline.results.page import marks, theme
from pipeline.results.page.chapter import Chapter
from pipeline.results.page.section import Figure, Section
from pipeline.results.page.students import called, headline, labels, students, valid_nll
from pipeline.results.page.theme import QUIET
from pipeline.results.tables import EpochRow
from pipeline.results.wording import counted

_STUDENTS = 6
_TEACHERS = 4
_SEEDS = 10  # of a run, drawn at most; means are over all
EPOCHS = 60  # of a net, drawn at most
_DASHES = {"student": [1, 0], "baseline": [5, 3], "teacher": [1, 0]}
_LOGARITHMIC = 20  # a scale, where values differ by this factor or more
_CUT = 8  # of accuracies, one in so many is cut off
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
    means = [point for curve in thick for point in _mean(curve, column, factor)]
    alone = [curve for curve in curves if len(curve.nets) > 1 or curve not in thick]
    drawn = {"nets": [point for curve in alone for point in _nets(curve, column, factor)], "means": means}
    x = altair.X("epoch:Q", title="epoch", axis=marks.few(50), scale=altair.Scale(zero=False, nice=False))
    y, cut = _vertical(title, *([point["value"] for point in drawn[name]] for name in ("means", "nets")))
    legend = altair.Legend(symbolType="stroke", columns=altair.ExprRef(theme.columns(wide=200)))
    domain = [curve.label for curve in curves]
    colour, dash = (
        encoding("run:N", title=None, sort=None, legend=legend, scale=altair.Scale(domain=domain, range=ranged))
        for encoding, ranged in (
            (altair.Color, [curve.colour for curve in curves]),
            (altair.StrokeDash, [_DASHES[curve.kind] for curve in curves]),
        )
    )
    chosen = altair.selection_point(name="chosen", fields=["run"], bind="legend")
    layers = [
        altair.Chart(altair.NamedData(name))
        .mark_line(strokeWidth=width, clip=True)
        .encode(x, y, color=colour, strokeDash=dash, detail=detail, opacity=_shown(chosen, opacity))
        for name, width, detail, opacity in (("nets", 1, ["net:N"], 0.4), ("means", 2, [], 1.0))
        if drawn[name]
    ]
    layers[-1] = layers[-1].add_params(chosen)
    spec = altair.layer(*layers).properties(width="container", height=320).to_dict()
    spec["datasets"] = drawn  # which altair would check point by point, for seconds
    ends = [(curve.label, _mean(curve, column, factor)[-1]) for curve in curves]
    text = "; ".join(f"{label}: {point['value']:.4g} after epoch {point['epoch']}" for label, point in ends)
    label, end = next((each for each in ends if each[0] == first), ends[0])
    unit = " %" if title.endswith("%") else ""
    what = f"{title[0].upper()}{title[1:].partition(',')[0]}"
    heading = f"{what} of {label} ends at {end['value']:.3g}{unit} after {end['epoch']} epochs"
    note = f"Thick: mean over seeds; thin: each seed. Choose a name to see it alone.{cut}"
    if column == "train_loss" and len({curve.kind for curve in curves}) > 1:
        note += " Losses of soft targets and of hard labels differ in kind."
    return Figure(name, heading, f"{title}. {text}.", spec, note)


def _vertical(title: str, means: Sequence[float], single: Sequence[float]) -> tuple[Any, str]:
    """The axis of a column: of losses logarithmic where they differ much, of accuracies without the first steps up.

    And a sentence on what is cut off.
    """
    import altair

    low, high = min([*means, *single]), max([*means, *single])
    if title.endswith("%"):
        least = sorted(means)[len(means) // _CUT]
        scale = altair.Scale(domain=[least, high], zero=False)
        return altair.Y("value:Q", title=title, scale=scale), f" Below {least:.3g} % is cut off." if low < least else ""
    if low > 0 and high > _LOGARITHMIC * low:
        scale = altair.Scale(type="log", nice=False)
        return altair.Y("value:Q", title=f"{title} (log scale)", scale=scale, axis=altair.Axis(labelOverlap="greedy")), ""
    return altair.Y("value:Q", title=title, scale=altair.Scale(zero=False)), ""


def _shown(chosen: Any, opacity: float) -> Any:
    """The opacity of a line, which a choice of another one takes away."""
    import altair

    return altair.condition(chosen, altair.value(opacity), altair.value(0.05))


def _mean(curve: Curve, column: str, factor: float) -> list[dict[str, Any]]:
    """Means over the nets, at epochs that all of them have."""
    epochs = sorted(set.intersection(*(set(net) for net in curve.nets)))
    return [
        _point(curve, epoch, factor * fmean(getattr(net[epoch], column) for net in curve.nets)) for epoch in thinned(epochs)
    ]


def _nets(curve: Curve, column: str, factor: float) -> list[dict[str, Any]]:
    return [
        _point(curve, epoch, factor * getattr(net[epoch], column)) | {"net": number}
        for number, net in enumerate(curve.nets[:_SEEDS])
        for epoch in thinned(sorted(net))
    ]


def _point(curve: Curve, epoch: int, value: float) -> dict[str, Any]:
    return {"run": curve.label, "epoch": epoch, "value": float(f"{value:.4g}")}
