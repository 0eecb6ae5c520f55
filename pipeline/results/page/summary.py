"""Summary: what was distilled from what, and what came of it."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pipeline.results import wording
from pipeline.results.page.chapter import Chapter
from pipeline.results.page.dots import dots
from pipeline.results.page.marks import teacher_name
from pipeline.results.page.measure import ACCURACY, verdict
from pipeline.results.page.section import Section
from pipeline.results.page.sizes import ratio, sizes
from pipeline.results.page.students import Student, headline, labels, left_out, setting, students
from pipeline.results.tables import BestRow

SHOWN = 6  # findings; the others are folded
_NAMED = 6  # teachers


class Tile(NamedTuple):
    """A figure in large letters. what: above it. note: below it."""

    what: str
    value: str
    note: str = ""


def summary(chapter: Chapter) -> Section:
    """The section of the summary."""
    best, every = headline(chapter), students(chapter)
    figures = [dots("summary-accuracy", chapter, ACCURACY, verdict(chapter, ACCURACY))] if best else []
    tiles = [*_results(chapter, best), *(_sizes(chapter, best) if best else ()), *_costs(chapter)]
    findings = list(_findings(chapter, every))
    content = {"sentences": [*_sentences(chapter), left_out(every)], "tiles": tiles, "findings": findings, "shown": SHOWN}
    return Section("summary", "Summary", figures, content)


def _findings(chapter: Chapter, every: Sequence[Student]) -> Iterator[str]:
    """A sentence for each student that has a baseline: those of the lowest validation NLL first."""
    called = {student.name: student.label for student in every}
    for row in sorted(chapter.best, key=lambda row: row.valid_nll):
        yield wording.finding(row._replace(student=called.get(row.student, row.student)))


def _sentences(chapter: Chapter) -> Iterator[str]:
    """What was distilled from what."""
    every, lineage, teachers = students(chapter), chapter.lineage, chapter.gallery.teachers
    shape = f" ({' × '.join(map(str, lineage.shape))})" if lineage.shape else ""
    kinds = f"{lineage.classes:,} classes of {lineage.kind}s{shape}"
    names = ", ".join(labels(teachers[:_NAMED])) + (f" and {len(teachers) - _NAMED:,} more" if len(teachers) > _NAMED else "")
    mean = f"{len(teachers):,} teachers ({names}; the mean of their {chapter.gallery.rule})"
    taught = mean if len(teachers) > 1 else f"the teacher {names}"
    transfer = lineage.parts.get("transfer")
    on = ""
    if transfer:
        labelled = "all with labels" if transfer.labelled == transfer.rows else f"of which {transfer.labelled:,} have labels"
        on = f" on {transfer.rows:,} rows, {labelled}"
    lost = {line.student for line in chapter.lines if line.kind == "student"} - {student.name for student in every}
    if every:
        yield f"{wording.counted(len(every), 'student')} learned {kinds} from the cached logits of {taught}{on}."
    elif not lost:
        yield f"No student was measured: here are teachers of {kinds}."
    if lost:
        yield f"All nets of {', '.join(labels(sorted(filter(None, lost))))} diverged."


def _results(chapter: Chapter, best: Student | None) -> Iterator[Tile]:
    """The headline: test accuracies, and what they say of the gap between hard labels and teacher."""
    if best:
        at = f"{best.label} at {setting(best.best)}"
        yield Tile(at, ACCURACY.shown(best.best), "test accuracy of the best student, chosen by validation NLL")
    if best and best.baseline:
        yield Tile(f"{best.label} on hard labels", ACCURACY.shown(best.baseline), "the same net without a teacher")
    if chapter.teacher:
        yield Tile(teacher_name(chapter.teacher), ACCURACY.shown(chapter.teacher), "what students learned from" if best else "")
    row = next((row for row in chapter.best if best and row.run == best.best.run), None)
    if row and chapter.teacher:
        yield recovered(row, chapter.teacher.cells["test", "errors"][0])


def recovered(row: BestRow, teacher_errors: float) -> Tile:
    """The share of the gap between hard labels and teacher that a student closes; no number where there is no clear gap."""
    what, gap = "Gap closed", row.baseline_test_errors - teacher_errors
    if gap <= 0:
        return Tile(what, "—", "there is none: on hard labels the student is as good as the teacher")
    if gap < 2 * (row.baseline_test_errors_std or 0.0) / math.sqrt(row.seeds):
        return Tile(
            what, "—", f"hard labels and teacher are {gap:.1f} test errors apart, which is within the noise of the seeds"
        )
    share = row.errors_saved / gap
    note = f"of the {gap:.1f} test errors between hard labels and teacher"
    if row.over_seeds_low is not None and row.over_seeds_high is not None:
        note += f"; 95 % interval over seeds {_percent(row.over_seeds_low / gap)} to {_percent(row.over_seeds_high / gap)}"
    return Tile(what, _percent(share) if share > 0 else "none", note)


def _percent(share: float) -> str:
    return f"{100 * share + 0.0:.0f} %"


def _sizes(chapter: Chapter, best: Student) -> Iterator[Tile]:
    """The student against the teacher."""
    if chapter.teacher is None:
        return
    large, small = sizes(chapter, chapter.teacher), sizes(chapter, best.best)

    def compared(name: str, less: str, more: str) -> str:
        return ratio(large.get(name), small.get(name), less, more)

    if value := compared("parameters", "smaller", "larger"):
        yield Tile("Size", value, f"{small['parameters']:,.0f} parameters, the teacher has {large['parameters']:,.0f}")
    if value := compared("multiply_adds", "fewer", "more"):
        yield Tile(
            "Multiply-adds", value, f"{small['multiply_adds']:,.0f} a row, the teacher needs {large['multiply_adds']:,.0f}"
        )
    one, many = compared("one", "faster", "slower"), compared("many", "faster", "slower")
    if one:
        yield Tile("Speed on one row", one, f"{small['one']:.3g} ms, the teacher {large['one']:.3g} ms")
    if many:
        yield Tile("Speed on 64 rows", many, f"{small['many']:.3g} ms, the teacher {large['many']:.3g} ms")


def _costs(chapter: Chapter) -> Iterator[Tile]:
    """What both stages took, where it is known."""
    rows: Sequence[dict[str, Any]] = chapter.costs["rows"] if chapter.costs else ()
    for row in rows:
        if row["command"] is not None:
            continue
        share = f"{_percent(row['share'])} of the time"
        if row["stage"] == 1:
            yield Tile("Stage one, once", duration(row["seconds"]), f"teachers and caches, {share}")
        else:
            count = f"{wording.counted(row['students'], 'student')} and their evaluation, {share}"
            yield Tile("Stage two", duration(row["seconds"]), count)


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"
