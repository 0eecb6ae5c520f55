"""Confusions: which class a net takes for which other one, on the test split; means over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.results.page import marks
from pipeline.results.page.chapter import Chapter
from pipeline.results.page.judged import Judged, told_apart
from pipeline.results.page.section import Figure
from pipeline.results.page.students import labels
from pipeline.results.page.theme import HUES, QUIET
from pipeline.results.wording import cut, number

MAPPED = 24  # classes, at most, of a map
_NUMBERED = 12  # classes, at most, of a map with numbers in it
_PAIRS = 15  # in the chart for more classes
_MORE, _LESS = HUES[1], HUES[0]
_FAINT, _STRONG = "18", "b0"  # opacities, behind a colour: at the stronger one, letters of both themes still stand out
Pair = tuple[int, int]  # the class of a row, and what it is taken for
Counts = Mapping[Pair, float]  # rows


def confusions(chapter: Chapter, nets: Sequence[Judged]) -> list[Figure]:
    """Maps of teacher, student, and what the student confuses more or less; the commonest pairs where classes are many."""
    runs = {net.line.run for net in nets}
    counts: dict[str, dict[Pair, float]] = {}
    for row in chapter.confusions:
        if row.run in runs:
            counts.setdefault(row.run, {})[row.label, row.predicted] = row.rows
    nets = [net for net in nets if net.line.run in counts]  # the others are among neither the best nor those that go wrong
    if not nets:
        return []
    names = labels(chapter.gallery.classes)
    if len(names) > MAPPED:
        return [_pairs(names, nets, [counts[net.line.run] for net in nets])]
    most = max(max(each.values()) for each in counts.values())
    figures = [_map(names, net, counts[net.line.run], most) for net in nets]
    return [*figures, _difference(names, nets, counts)] if len(nets) == 2 else figures


def _map(names: Sequence[str], net: Judged, counts: Counts, most: float) -> Figure:
    import altair

    scale = altair.Scale(domain=[0, most], range=[f"{_LESS}{_FAINT}", f"{_LESS}{_STRONG}"], interpolate="rgb")
    name = "confusions-student" if net.line.kind == "student" else "confusions-teacher"
    title = f"{net.label} {_commonest(names, counts)}"
    return Figure(name, title, f"{title}. {_listed(names, counts)}", _cells(names, counts, scale, "rows"))


def _difference(names: Sequence[str], nets: Sequence[Judged], counts: Mapping[str, Counts]) -> Figure:
    """The second net less the first."""
    import altair

    before, after = (counts[net.line.run] for net in nets)
    apart = {pair: after.get(pair, 0.0) - before.get(pair, 0.0) for pair in sorted({*before, *after})}
    apart = {pair: rows for pair, rows in apart.items() if rows}
    reach = max((abs(rows) for rows in apart.values()), default=1.0)
    colours = [f"{_LESS}{_STRONG}", f"{QUIET}{_FAINT}", f"{_MORE}{_STRONG}"]
    scale = altair.Scale(domain=[-reach, 0, reach], range=colours, interpolate="rgb")
    most = max(apart.items(), key=lambda item: item[1], default=((0, 0), 0.0))
    if most[1] > 0:
        title = f"Where {nets[1].label} goes wrong more often than the teacher: {_taken(names, most[0])}, {_rows(most[1])} more"
    else:
        title = f"Nowhere does {nets[1].label} go wrong more often than the teacher"
    spec = _cells(names, apart, scale, "rows more than the teacher")
    return Figure(
        "confusions-difference", title, f"{title}. {_listed(names, apart)}", spec, "Orange: more often; blue: less often."
    )


def _cells(names: Sequence[str], counts: Counts, scale: Any, what: str) -> dict[str, Any]:
    """A map: a cell for each pair."""
    import altair

    shown = altair.Scale(domain=list(names))
    angle = 0 if max(map(len, names)) < 3 else -90
    x = altair.X("taken:N", title="taken for", scale=shown, axis=altair.Axis(labelAngle=angle, labelLimit=90, grid=False))
    y = altair.Y("label:N", title="label", scale=shown, axis=altair.Axis(labelLimit=90, grid=False))
    cells = [
        {"label": names[label], "taken": names[taken], "rows": round(rows, 3), "shown": number(rows)}
        for (label, taken), rows in counts.items()
    ]
    chart = altair.Chart(altair.Data(values=cells))
    right = altair.Chart(altair.Data(values=[{"label": name, "taken": name} for name in names]))
    colour = altair.Color("rows:Q", title=what, scale=scale, legend=altair.Legend(gradientLength=160, tickCount=3))
    told = marks.tooltips(**{"label": "label", "taken for": "taken", what: "shown"})
    layers = [
        right.mark_rect(color=QUIET, opacity=0.15).encode(x, y),
        chart.mark_rect().encode(x, y, color=colour, tooltip=told),
    ]
    if len(names) <= _NUMBERED:
        layers.append(chart.mark_text(fontSize=10).encode(x, y, text="shown:N"))
    return altair.layer(*layers).properties(width="container", height=300).to_dict()


def _pairs(names: Sequence[str], nets: Sequence[Judged], counts: Sequence[Counts]) -> Figure:
    """The commonest pairs, each with the rows of every net."""
    import altair

    total: dict[Pair, float] = {}
    for each in counts:
        for pair, rows in each.items():
            total[pair] = total.get(pair, 0.0) + rows
    pairs = sorted(total, key=lambda pair: (-total[pair], pair))[:_PAIRS]
    named = dict(zip(pairs, labels(_short(names, pair) for pair in pairs), strict=True))
    points = [
        {
            "pair": named[pair], "rows": round(each.get(pair, 0.0), 3), "net": net.label, "shown": number(each.get(pair, 0.0)),
            "label": names[pair[0]], "taken": names[pair[1]],
        }
        for pair in pairs
        for net, each in zip(nets, counts, strict=True)
    ]  # fmt: skip
    chart = altair.Chart(altair.Data(values=points))
    colour, shape = told_apart(nets, [net.label for net in nets])
    y = altair.Y(
        "pair:N", title=None, scale=altair.Scale(domain=list(named.values())), axis=altair.Axis(labelLimit=170, grid=True)
    )
    x = altair.X("rows:Q", title="test rows", axis=marks.few())
    told = marks.tooltips(net="net", label="label", **{"taken for": "taken", "rows": "shown"})
    drawn = altair.layer(
        chart.mark_line(color=QUIET, strokeWidth=1).encode(x, y, detail="pair:N"),
        chart.mark_point(filled=True, size=80, opacity=1).encode(x, y, color=colour, shape=shape, tooltip=told),
    ).properties(width="container", height=24 * len(pairs))
    title = f"{nets[-1].label} {_commonest(names, counts[-1])}"
    text = " ".join(f"{net.label}: {_listed(names, each)}" for net, each in zip(nets, counts, strict=True))
    note = f"The {len(pairs)} pairs of classes that are confused most."
    return Figure("confusions", title, f"{title}. {text}", drawn.to_dict(), note)


def _short(names: Sequence[str], pair: Pair) -> str:
    return " → ".join(cut(names[index], 18) for index in pair)


def _commonest(names: Sequence[str], counts: Counts) -> str:
    pair = max(counts, key=lambda pair: counts[pair])
    return f"most often takes {_taken(names, pair)}: {_rows(counts[pair])}"


def _taken(names: Sequence[str], pair: Pair) -> str:
    return f"{names[pair[0]]} for {names[pair[1]]}"


def _rows(count: float) -> str:
    return f"{number(count)} test {'row' if count == 1 else 'rows'}"


def _listed(names: Sequence[str], counts: Counts) -> str:
    """The largest counts in words."""
    largest = sorted(counts, key=lambda pair: (-abs(counts[pair]), pair))[:_PAIRS]
    return "; ".join(f"{_taken(names, pair)}: {number(counts[pair])}" for pair in largest) + "."
