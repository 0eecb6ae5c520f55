"""Sources: what the students of a chapter learned from, in words."""

from collections.abc import Sequence

from pipeline.results.lineage import Student
from pipeline.results.page.chapter import Chapter
from pipeline.results.page.pedigree import heeds
from pipeline.results.page.students import labels
from pipeline.results.wording import number

_NAMED = 6  # teachers


def learned_from(chapter: Chapter) -> str:
    """Teachers, in caches or in the loop, how these are combined, and the rows: all as the lineage has it."""
    soft = [each for each in chapter.lineage.students if each.soft]
    taught = [each for each in soft if heeds(each)]
    if soft and not taught:
        return "labels" + (" and from each other" if any(each.mutual for each in soft) else "")
    return _teachers(chapter, taught) + _rows(chapter, taught)


def _teachers(chapter: Chapter, taught: Sequence[Student]) -> str:
    ways = list(dict.fromkeys((tuple(each.soft.teachers), each.soft.weights, each.soft.rule) for each in taught if each.soft))
    if not ways:
        ways = [(chapter.gallery.teachers, chapter.gallery.weights, chapter.gallery.rule)]
    names = dict.fromkeys(name for of, _, _ in ways for name in of)
    named = ", ".join(labels(list(names)[:_NAMED])) + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")
    if len(names) == 1:
        return _whence(taught, f"the teacher {named}")
    combined = "combined in several ways, see Lineage"
    if len(ways) == 1:
        ((_, weights, rule),) = ways
        weighted = "" if len(set(weights)) == 1 else f", weighted {', '.join(map(number, weights))}"
        combined = f"the mean of their {rule}{weighted}"
    return _whence(taught, f"{len(names):,} teachers ({named}; {combined})")


def _whence(taught: Sequence[Student], teachers: str) -> str:
    live = {each.kind == "live" for each in taught}
    if live == {True}:
        return f"{teachers} in the loop"
    cached = f"the cached answers of {teachers}"
    return f"{cached}, or with these in the loop," if True in live else cached


def _rows(chapter: Chapter, taught: Sequence[Student]) -> str:
    """The rows of the transfer set that were learned from."""
    transfer = chapter.lineage.parts.get("transfer")
    if transfer is None:
        return ""
    counts = sorted({each.rows.count for each in taught if each.rows} or {transfer.rows})
    if counts == [transfer.rows]:
        labelled = "all with labels" if transfer.labelled == transfer.rows else f"of which {transfer.labelled:,} have labels"
        return f" on {transfer.rows:,} rows, {labelled}"
    return f" on {' to '.join(dict.fromkeys(f'{count:,}' for count in (counts[0], counts[-1])))} of {transfer.rows:,} rows"
