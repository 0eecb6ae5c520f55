"""Sections and figures of the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A chart.

    name: of its element and its file; unique in its chapter. title: what to see in it. text: the same for those who cannot see
    it, with the numbers that matter. spec: Vega-Lite, without colours of text and axes, which the theme has. Its width is
    "container" or fits a phone.
    """

    name: str
    title: str
    text: str
    spec: Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """A section of a chapter. name: of its anchor, and of its template, templates/page/<name>.html. content: what it shows."""

    name: str
    title: str
    figures: Sequence[Figure] = ()
    content: Mapping[str, Any] = field(default_factory=dict)
