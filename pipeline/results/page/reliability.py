"""Reliability: accuracy against confidence (Guo et al. 2017, arXiv 1706.04599, figure 1), at T = 1, on the test split."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline.results.page import marks
from pipeline.results.page.chapter import Chapter
from pipeline.results.page.judged import Judged, told_apart
from pipeline.results.page.section import Figure
from pipeline.results.page.theme import QUIET
from pipeline.results.tables import BinRow
from pipeline.results.wording import number, spread


class Bin(NamedTuple):
    """The rows of all nets of a run in one bin of confidence. rows: of one net, a mean. confidence, accuracy: of all."""

    rows: float
    confidence: float
    accuracy: float


def pooled(rows: Sequence[BinRow]) -> list[Bin]:
    """The bins of a run, in their order, from those of each of its nets."""
    seeds = len({row.seed for row in rows})
    found: dict[int, list[BinRow]] = {}
    for row in sorted(rows, key=lambda row: row.bin):
        found.setdefault(row.bin, []).append(row)
    bins = []
    for members in found.values():
        count = sum(row.rows for row in members)
        confidence = sum(row.rows * row.confidence for row in members) / count
        bins.append(Bin(count / seeds, confidence, sum(row.rows * row.accuracy for row in members) / count))
    return bins


def reliability(chapter: Chapter, nets: Sequence[Judged]) -> Figure | None:
    """The diagram of these nets, of which each bin is a point; None where there are no bins."""
    import altair

    of_run: dict[str, list[BinRow]] = {}
    for row in chapter.bins:
        of_run.setdefault(row.run, []).append(row)
    nets = [net for net in nets if net.line.run in of_run]
    if not nets:
        return None
    bins = [pooled(of_run[net.line.run]) for net in nets]
    domain = [f"ECE {_ece(net)} %: {net.label}" for net in nets]
    points = [_point(name, each) for name, members in zip(domain, bins, strict=True) for each in members]
    colour, shape = told_apart(nets, domain, legend=altair.Legend(columns=1, labelLimit=240))
    whole = altair.Scale(domain=[0, 100])
    x, y = (
        altair.X("confidence:Q", title="confidence, %", scale=whole),
        altair.Y("accuracy:Q", title="accuracy, %", scale=whole),
    )
    size = altair.Size("rows:Q", legend=None, scale=altair.Scale(type="sqrt", range=[15, 350]))
    told = marks.tooltips(net="net", **{"confidence, %": "sure", "accuracy, %": "right", "rows": "count"})
    ends = altair.Chart(altair.Data(values=[{"confidence": end, "accuracy": end} for end in (0, 100)]))
    chart = altair.Chart(altair.Data(values=points))
    drawn = altair.layer(
        ends.mark_line(color=QUIET, strokeDash=[2, 3], strokeWidth=1.5).encode(x, y),
        chart.mark_line(strokeWidth=1, opacity=0.6).encode(x, y, color=colour),
        chart.mark_point(filled=True, opacity=0.9).encode(x, y, color=colour, shape=shape, size=size, tooltip=told),
    ).properties(width="container", height=340)
    said = [f"{net.label} {_verdict(net, members)}" for net, members in zip(nets, bins, strict=True)]
    text = "; ".join(f"{name}, {_listed(members)}" for name, members in zip(domain, bins, strict=True))
    note = "At T = 1. Each point is a fifteenth of confidence, larger with more test rows; on the dotted line both are equal."
    title = f"How far confidence is off: {', '.join(said)}"
    return Figure("reliability", title, f"Accuracy against confidence on the test split. {text}.", drawn.to_dict(), note)


def _ece(net: Judged) -> str:
    mean, std = net.line.cells["test", "ece"]
    return spread(100 * mean, None if std is None else 100 * std, 1)


def _point(net: str, each: Bin) -> dict[str, Any]:
    sure, right = 100 * each.confidence, 100 * each.accuracy
    return {
        "net": net, "confidence": round(sure, 3), "accuracy": round(right, 3), "rows": round(each.rows, 2),
        "sure": f"{sure:.1f}", "right": f"{right:.1f}", "count": number(each.rows),
    }  # fmt: skip


def _verdict(net: Judged, bins: Sequence[Bin]) -> str:
    """How far apart confidence and accuracy are, and which is larger where most of it is on one side."""
    ece = 100 * net.line.cells["test", "ece"][0]
    count = sum(each.rows for each in bins)
    apart = 100 * sum(each.rows * (each.accuracy - each.confidence) for each in bins) / count
    which = "" if abs(apart) <= ece / 2 else " (too cautious)" if apart > 0 else " (too sure)"
    return f"{ece:.1f} points{which}"


def _listed(bins: Sequence[Bin]) -> str:
    return ", ".join(f"{100 * each.accuracy:.0f} % right where {100 * each.confidence:.0f} % sure" for each in bins)
