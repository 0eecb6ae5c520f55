"""Sizes: how large and how fast the nets of a chapter are, as far as it is known."""

from collections.abc import Mapping

from pipeline.results.line import Line
from pipeline.results.page.chapter import Chapter

SIZES = {  # name → what it is
    "multiply_adds": "multiply-adds a row",
    "parameters": "parameters",
    "kilobytes": "kB on disk",
    "one": "ms for 1 row",
    "many": "ms for 64 rows",
}
_FAST = ("faster", "slower", "as fast")
_WORDS = {  # of a net against a larger, a smaller and a like teacher
    "parameters": ("smaller", "larger", "as large"),
    "multiply_adds": ("fewer", "more", "as many"),
    "one": _FAST,
    "many": _FAST,
}


def sizes(chapter: Chapter, line: Line) -> dict[str, float]:
    """Those of SIZES that are known of a run; of the ensemble, sums over its members, which run one after the other."""
    members = chapter.gallery.teachers if line.kind == "ensemble" else (line.run,)
    found = [_measured(chapter, run) for run in members]
    summed = {name: sum(each[name] for each in found) for name in SIZES if all(name in each for each in found)}
    return summed if line.parameters is None else {"parameters": line.parameters} | summed


def _measured(chapter: Chapter, run: str) -> Mapping[str, float]:
    lineage = chapter.lineage
    if chapter.footprint is None or run not in lineage.models:
        return {}
    entry = chapter.footprint.of(lineage.models[run], lineage.shape, lineage.classes)
    if entry is None:
        return {}
    milliseconds = {rows: 1e3 * seconds for rows, seconds in entry.seconds.items()}
    found = {
        "parameters": entry.parameters, "multiply_adds": entry.multiply_adds,
        "kilobytes": None if entry.size_bytes is None else entry.size_bytes / 1e3,
        "one": milliseconds.get("1"), "many": milliseconds.get("64"),
    }  # fmt: skip
    return {name: value for name, value in found.items() if value is not None}


def ratio(name: str, teacher: Mapping[str, float], net: Mapping[str, float]) -> str:
    """How a net compares with the teacher: 12× smaller, 1.5× larger, or as large; empty where one size is not known.

    name: of _WORDS. teacher, net: what `sizes` says of them.
    """
    large, small = teacher.get(name), net.get(name)
    if not large or not small:
        return ""
    less, more, alike = _WORDS[name]
    times, word = (large / small, less) if large >= small else (small / large, more)
    if times < 1.05:  # 1.0×
        return alike
    return f"{times:,.0f}× {word}" if times >= 9.95 else f"{times:.1f}× {word}"
