"""All runs: the tables of both splits."""

from pipeline.results.line import COLUMNS, KINDS
from pipeline.results.page.chapter import Chapter
from pipeline.results.page.section import Section


def runs(chapter: Chapter) -> Section:
    """The section of all runs."""
    content = {
        "lines": chapter.lines, "chosen": {row.run for row in chapter.best}, "kinds": KINDS, "columns": COLUMNS,
        "splits": {"test": "Test split", "valid": "Validation split"},
    }  # fmt: skip
    return Section("runs", "All runs", content=content)
