"""Gallery: dark knowledge, row by row: what the teacher says beyond its first choice, softened live at the reader's T.

Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network" (2015, arXiv 1503.02531). The browser computes every
softmax from raw logits, by Vega-Lite; on the page probabilities are only in words, at T = 1.
"""

import base64
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.base.commands import short
from pipeline.results.gallery import Exhibit, Gallery
from pipeline.results.page import theme
from pipeline.results.page.chapter import Chapter
from pipeline.results.page.section import Section
from pipeline.results.wording import cut
from pipeline.stats.metrics import log_softmax

ALL = 12  # classes that are all shown, in their order; of more, the LIKELIEST, and one bar for the others
LIKELIEST = 10
LEAST, MOST = 0.5, 20.0  # temperatures of the slider; it reaches half the least and twice the largest of a student
_STEP = 0.02  # of the slider, in octaves
BUTTONS = 10  # temperatures of students to go to at once
_BAR = 18  # pixels
_NAME = 32  # letters of the name of a class or a net
_SEEN = 0.005  # probability
_SMALL = 64  # pixels: those of smaller pictures are shown as squares
_GROUPS = {  # reason → heading and sentence; the same without a student
    "second": (
        ("Second choices that carry mass", "Teacher and student are right, and yet the teacher finds another class likely."),
        ("Second choices that carry mass", "The teacher is right, and yet finds another class likely."),
    ),
    "apart": (("Student and teacher disagree", "One of them is right. First come the rows of which both are surest."),) * 2,
    "wrong": (
        ("Both are wrong", "Hard rows, or wrong labels. First come those of which the teacher is surest."),
        ("The teacher is wrong", "Hard rows, or wrong labels. First come those of which it is surest."),
    ),
}


@dataclass(frozen=True)
class Net:
    """A net of a card, with its logits (C,). weight: in the bars, which are a weighted mean of probabilities."""

    name: str
    kind: str  # member, whole (all teachers as one), or student
    weight: float
    logits: np.ndarray

    @property
    def probabilities(self) -> np.ndarray:
        """(C,) float64, at T = 1."""
        log: np.ndarray = log_softmax(self.logits[None])[0]
        return np.asarray(np.exp(log))


@dataclass(frozen=True)
class Card:
    """One row as the page shows it."""

    gallery: Gallery
    exhibit: Exhibit

    @property
    def id(self) -> str:
        """The row's id, cut."""
        return cut(self.exhibit.id, _NAME)

    @property
    def label(self) -> str:
        """The name of its class, cut."""
        return cut(self.gallery.classes[self.exhibit.label], _NAME)

    @cached_property
    def nets(self) -> list[Net]:
        """What its chart draws."""
        return _nets(self.gallery, self.exhibit)

    @cached_property
    def said(self) -> list[tuple[str, list[str], bool]]:
        """Of the teacher, and of the student: who it is, its two likeliest classes at T = 1, and whether it is right."""
        said = [("ensemble" if len(self.gallery.teachers) > 1 else "teacher", self._teacher)]
        said += [("student", net.probabilities) for net in self.nets if net.kind == "student"]
        return [(who, self._likeliest(p), int(p.argmax()) == self.exhibit.label) for who, p in said]

    @property
    def text(self) -> str:
        """Its chart in words."""
        said = "; ".join(f"{who}: {', '.join(choices)}" for who, choices, _ in self.said)
        return f"Soft targets of {self.id}, whose label is {self.label}. At T = 1, {said}."

    @property
    def drawn(self) -> dict[str, Any]:
        """The names of its bars, the place of its label among them, and the logits of each net, in the order of the bars.

        There may be more logits than bars: those of all further classes belong to the last one.
        """
        classes, order = self.gallery.classes, self._order()
        names = [cut(classes[index], _NAME) for index in order[: len(classes) if len(classes) <= ALL else LIKELIEST]]
        if len(classes) > ALL:
            names.append(f"{len(classes) - LIKELIEST:,} others")
        logits = [[float(str(z)) for z in net.logits[order].astype(np.float32)] for net in self.nets]  # with 9 digits at most
        return {"names": names, "label": order.index(self.exhibit.label), "logits": logits}

    @property
    def small(self) -> bool:
        """Whether its picture has so few pixels that one wants to see them; a PNG has its sides in bytes 16 to 24."""
        sides = struct.unpack(">II", base64.b64decode((self.exhibit.picture or "")[:32])[16:24])
        return bool(max(sides) <= _SMALL)

    @property
    def line(self) -> str:
        """The points of a line through the numbers of its array, in a box of 100 × 40, without those that are not finite."""
        values = np.array(self.exhibit.values)
        kept = np.isfinite(values)
        x, values = np.linspace(0, 100, len(values))[kept], values[kept]
        if not len(values):
            return ""
        low, range_ = values.min(), np.ptp(values) or 1.0
        return " ".join(f"{left:.4g},{39 - 38 * height:.4g}" for left, height in zip(x, (values - low) / range_, strict=True))

    def _order(self) -> list[int]:
        """Numbers of classes: all in their order; of many, first the likeliest at T = 1, the label and the student's choice."""
        count = len(self.gallery.classes)
        if count <= ALL:
            return list(range(count))
        ranked: list[int] = np.argsort(-self._teacher, kind="stable").tolist()
        wanted = [self.exhibit.label, *(int(net.logits.argmax()) for net in self.nets if net.kind == "student")]
        first = sorted(dict.fromkeys([*wanted, *ranked]), key=lambda index: (index not in wanted, ranked.index(index)))[
            :LIKELIEST
        ]
        return [index for index in ranked if index in first] + [index for index in ranked if index not in first]

    @cached_property
    def _teacher(self) -> np.ndarray:
        """What the bars are at T = 1."""
        return np.asarray(sum(net.weight * net.probabilities for net in self.nets))

    def _likeliest(self, p: np.ndarray) -> list[str]:
        """The two likeliest classes, as 9 (62 %) and 1 (30 %)."""
        top = np.argsort(-p, kind="stable")[:2].tolist()
        return [f"{cut(self.gallery.classes[index], _NAME)} ({100 * p[index]:.0f}\u202f%)" for index in top]


def gallery(chapter: Chapter) -> Section | None:
    """The section of dark knowledge; None without rows to show."""
    held = chapter.gallery
    if not held.exhibits:
        return None
    groups = []
    for reason, texts in _GROUPS.items():
        cards = [Card(held, exhibit) for exhibit in held.exhibits if exhibit.reason == reason]
        if cards:
            groups.append((*texts[held.student is None], cards))
    first = groups[0][2][0]
    trained = sorted({row.temperature for row in chapter.runs if row.temperature is not None})
    content = {
        "gallery": held, "groups": groups, "spec": spec(first.nets, len(held.classes)), "shown": _shown(trained),
        "low": -_octaves(1 / min([LEAST, *(each / 2 for each in trained)])), "step": _STEP,
        "high": _octaves(max([MOST, *(2 * each for each in trained)])),
        "many": len(held.classes) > ALL,
    }  # fmt: skip
    return Section("gallery", "Dark knowledge", content=content)


def spec(nets: Sequence[Net], classes: int) -> dict[str, Any]:
    """Vega-Lite of every card; the page gives it names, label and rows (net, place, z) of a card, and T as one moves it.

    What does not depend on T comes first, and rows are summed up by bar as soon as can be, so that a thousand classes answer
    at once. Ticks and diamonds near 0 are left out: they would hide where the bars begin.
    """
    named, bars = (classes, classes) if classes <= ALL else (LIKELIEST, LIKELIEST + 1)
    share = {
        "field": "p",
        "type": "quantitative",
        "title": "probability",
        "axis": {"format": "%", "values": [0, 0.25, 0.5, 0.75, 1], "labelSeparation": 8},
    }
    of_net = [{"field": field, "title": title} for field, title in (("who", "net"), ("name", "class"))]
    p = {"field": "p", "title": "probability", "format": ".2%"}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "params": [
            {"name": "T", "value": 1}, {"name": "names", "value": []}, {"name": "label", "value": 0},
            {"name": "nets", "value": [cut(net.name, _NAME) for net in nets]},
            {"name": "kinds", "value": [net.kind for net in nets]},
            {"name": "weights", "value": [net.weight for net in nets]},
        ],
        "transform": [
            {"joinaggregate": [{"op": "max", "field": "z", "as": "top"}], "groupby": ["net"]},
            {"calculate": "exp((datum.z - datum.top) / T)", "as": "e"},
            {"aggregate": [{"op": "sum", "field": "e", "as": "e"}], "groupby": ["net", "place"]},
            {"joinaggregate": [{"op": "sum", "field": "e", "as": "sum"}], "groupby": ["net"]},
            {"calculate": "datum.e / datum.sum", "as": "p"},
            {"calculate": "names[datum.place]", "as": "name"},
            {"calculate": "nets[datum.net]", "as": "who"},
        ],
        "width": "container",
        "height": _BAR * bars,
        "encoding": {
            "y": {
                "field": "place", "type": "ordinal", "title": None,
                "axis": {
                    "labelExpr": "names[datum.value]", "labelLimit": 110, "labelPadding": 6, "ticks": False, "domain": False,
                    "labelFontWeight": {"condition": {"test": "datum.value === label", "value": "bold"}, "value": "normal"},
                },
            },
        },
        "layer": [
            {
                "transform": [
                    {"calculate": "datum.p * weights[datum.net]", "as": "part"},
                    {"aggregate": [{"op": "sum", "field": "part", "as": "p"}], "groupby": ["place", "name"]},
                ],
                "mark": {"type": "bar", "height": _BAR - 6},
                "encoding": {
                    "x": share | {"scale": {"domain": [0, 1]}},
                    "color": {
                        "condition": [
                            {"test": "datum.place === label", "value": theme.HUES[2]},
                            {"test": f"datum.place < {named}", "value": theme.HUES[0]},
                        ],
                        "value": theme.QUIET,  # of all others
                    },
                    "tooltip": [of_net[1], p],
                },
            },
            {
                "transform": [{"filter": f"kinds[datum.net] === 'member' && datum.p >= {_SEEN}"}],
                "mark": {"type": "tick", "color": "currentColor", "size": _BAR - 4, "thickness": 1.5},
                "encoding": {"x": share, "tooltip": [*of_net, p]},
            },
            {
                "transform": [{"filter": f"kinds[datum.net] === 'student' && datum.p >= {_SEEN}"}],
                "mark": {
                    "type": "point", "shape": "diamond", "filled": True, "size": 80, "opacity": 1,
                    "color": theme.HUES[1], "stroke": "var(--page)", "strokeWidth": 1,
                },
                "encoding": {"x": share, "tooltip": [*of_net, p]},
            },
        ],
    }  # fmt: skip


def _nets(gallery: Gallery, exhibit: Exhibit) -> list[Net]:
    """The teachers, their combination where a mean of probabilities does not give it, and the student.

    Rule `logits` averages logits, at any T the same; see ensemble.combine.
    """
    members, whole = [np.array(logits) for logits in exhibit.teachers], gallery.rule == "logits" or len(gallery.teachers) == 1
    nets = []
    if len(members) > 1:
        weights = [0.0] * len(members) if whole else gallery.weights
        named = zip(gallery.teachers, weights, members, strict=True)
        nets += [Net(f"teacher {name}", "member", weight, logits) for name, weight, logits in named]
    if whole:
        mean = sum(weight * logits for weight, logits in zip(gallery.weights, members, strict=True))
        nets.append(Net(gallery.reference, "whole", 1.0, np.asarray(mean)))
    if exhibit.student is not None:
        nets.append(Net(f"student {gallery.student}", "student", 0.0, np.array(exhibit.student)))
    return nets


def _shown(temperatures: Sequence[float]) -> list[tuple[float, str]]:
    """The temperatures to go to, T = 1 among them, with their texts: of many, some from the least to the largest."""
    every = sorted({1.0, *temperatures})
    places = (
        np.unique(np.linspace(0, len(every) - 1, BUTTONS).round().astype(int)) if len(every) > BUTTONS else range(len(every))
    )
    chosen = sorted({1.0, *(every[place] for place in places)})
    return [(each, short(each)) for each in chosen]


def _octaves(times: float) -> float:
    """How far from T = 1 the slider must go, in whole steps."""
    return _STEP * math.ceil(round(math.log2(times) / _STEP, 6))
