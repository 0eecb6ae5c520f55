"""Sections and figures of the page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MOST = 120  # rows of the table of a figure: longer ones help nobody, and make the page heavy


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

    @property
    def numbers(self) -> list[Mapping[str, Any]]:
        """The rows that it draws, for a table; empty where they are more than MOST, or several tables."""
        tables = list(_tables(self.spec))
        rows = tables[0] if tables and all(table == tables[0] for table in tables) else []
        return list(rows) if len(rows) <= MOST and all(row.keys() == rows[0].keys() for row in rows) else []


@dataclass(frozen=True)
class Section:
    """A section of a chapter.

    name: of its anchor, and of its template, templates/page/<name>.html, whose headings are <h3>. content: what it shows.
    """

    name: str
    title: str
    figures: Sequence[Figure] = ()
    content: Mapping[str, Any] = field(default_factory=dict)


def _tables(spec: Mapping[str, Any]) -> Iterator[Sequence[Mapping[str, Any]]]:
    """The data of a chart and of its layers, in which altair may have put it under `datasets`."""
    yield from spec.get("datasets", {}).values()
    if "values" in spec.get("data", {}):
        yield spec["data"]["values"]
    for parts in ("layer", "hconcat", "vconcat", "concat"):
        for part in spec.get(parts, ()):
            yield from _tables(part)
    if isinstance(spec.get("spec"), Mapping):
        yield from _tables(spec["spec"])
