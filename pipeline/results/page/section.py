"""Sections and figures of the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A chart.

    name: of its element and its file, of small letters, digits and hyphens; unique in its chapter. title: what to see in it.
    text: the same for those who cannot see it, with the numbers that matter. spec: Vega-Lite, without colours of text and axes,
    which the theme has. Its width is "container" or fits a phone. note: how to read it.
    """

    name: str
    title: str
    text: str
    spec: Mapping[str, Any]
    note: str = ""

    @property
    def height(self) -> int:
        """The pixels to keep free until it is drawn, so that nothing jumps then: at least so many it will have."""
        height = self.spec.get("height")
        return height if isinstance(height, int) else 0


@dataclass(frozen=True)
class Section:
    """A section of a chapter.

    name: of its anchor, and of its template, templates/page/<name>.html, whose headings are <h3>; without one of its own, that
    is charts.html: sentences, and charts side by side. content: what it shows.
    """

    name: str
    title: str
    figures: Sequence[Figure] = ()
    content: Mapping[str, Any] = field(default_factory=dict)
