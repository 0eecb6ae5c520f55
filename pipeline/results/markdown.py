"""Markdown: the tables of a report as Markdown."""

import html
from collections.abc import Sequence

from pipeline.base.errors import printable
from pipeline.results.line import COLUMNS
from pipeline.results.page.chapter import Chapter
from pipeline.results.published import HEADING, Measured
from pipeline.results.wording import finding

SHOWN = ("accuracy", "errors", "nll", "agreement")


def results(chapters: Sequence[Chapter]) -> str:
    """The text of results.md: the test table of each folder, under its name if it has one."""
    texts = [(chapter.name, _results(chapter)) for chapter in chapters]
    return "\n".join(f"### {plain(name)}\n\n{text.rstrip()}\n" if name else text for name, text in texts)


def _results(chapter: Chapter) -> str:
    rows = [
        [
            plain(line.run) + (f" ({line.remark})" if line.remark else ""),
            line.size,
            *(line.shown("test", metric) for metric in SHOWN),
        ]
        for line in chapter.lines
    ]
    text = table(["run", "parameters", *(COLUMNS[metric][0] for metric in SHOWN)], rows)
    return text + "\n" + "".join(f"- {plain(finding(row))}\n" for row in chapter.best)


def comparison(source: str, measured: Sequence[Measured]) -> str:
    """The text of published.md: published figures next to the measured ones."""
    rows = [[plain(each.figure.what), *each.cells] for each in measured]
    return f"{table(HEADING, rows)}\nPublished: {plain(source)}\n"


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table. All columns but the first hold numbers, so they are aligned to the right."""
    lines = [heading, ["---", *["---:"] * (len(heading) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def plain(text: str) -> str:
    """Text escaped for a line or a cell of Markdown: no HTML, no links, no control characters."""
    shown = html.escape(printable(" ".join(text.split())), quote=False)
    return "".join(f"\\{char}" if char in "\\`*[]|" else char for char in shown)
