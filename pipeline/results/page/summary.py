"""Summary: what was distilled from what, and what came of it."""

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from pipeline.results import wording
from pipeline.results.line import Line
from pipeline.results.page.chapter import Chapter
from pipeline.results.page.dots import dots
from pipeline.results.page.marks import teacher_name
from pipeline.results.page.measure import ACCURACY, at_best, verdict
from pipeline.results.page.section import Section
from pipeline.results.page.sizes import ratio, sizes
from pipeline.results.page.sources import learned_from
from pipeline.results.page.students import Student, headline, labels, left_out, students

SHOWN = 6  # findings; the others are folded


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
    every = students(chapter)
    kinds = f"{chapter.lineage.classes:,} classes of {wording.shape(chapter.lineage.inputs)}"
    lost = {line.student for line in chapter.lines if line.kind == "student"} - {student.name for student in every}
    if every:
        yield f"{wording.counted(len(every), 'student')} learned {kinds} from {learned_from(chapter)}."
    elif not lost:
        yield f"No student was measured: here are teachers of {kinds}."
    if lost:
        yield f"All nets of {', '.join(labels(sorted(filter(None, lost))))} diverged."


def _results(chapter: Chapter, best: Student | None) -> Iterator[Tile]:
    """The headline: test accuracies, and what they say of the gap between hard labels and teacher."""
    if best:
        note = "test accuracy of the best student, chosen by validation NLL"
        yield Tile(at_best(chapter, best), ACCURACY.shown(best.best), note)
    if best and best.baseline:
        yield Tile(f"{best.label} on hard labels", ACCURACY.shown(best.baseline), "the same net without a teacher")
    if chapter.teacher:
        yield Tile(teacher_name(chapter.teacher), ACCURACY.shown(chapter.teacher), "what students learned from" if best else "")
    if best and best.baseline and chapter.teacher:
        yield from _recovered(chapter, best.best, best.baseline, chapter.teacher)


def _recovered(chapter: Chapter, soft: Line, hard: Line, teacher: Line) -> Iterator[Tile]:
    """The share of the gap between hard labels and teacher that a student closes; no number where gap or gain is not clear.

    It is one mean over another, each over the seeds that both runs have.
    """
    what, before, after = "Gap closed", chapter.by_seed(hard, "errors"), chapter.by_seed(soft, "errors")
    pairs = [(before[seed] - teacher.cells["test", "errors"][0], before[seed] - after[seed]) for seed in before.keys() & after]
    if not pairs:
        return
    gap, saved = map(fmean, zip(*pairs, strict=True))
    if gap <= 0:
        yield Tile(what, "—", "there is none: on hard labels the student is as good as the teacher")
    elif len(pairs) == 1:
        yield Tile(what, "—", f"{saved:.1f} of {gap:.1f} test errors between hard labels and teacher, but of one seed")
    elif not ACCURACY.gain(chapter, hard, teacher).clear:
        yield Tile(what, "—", f"hard labels and teacher are {gap:.1f} test errors apart, which is not clear over the seeds")
    elif not ACCURACY.gain(chapter, soft, hard).clear:
        yield Tile(what, "—", f"of {gap:.1f} test errors between hard labels and teacher; the gain is not clear")
    else:
        note = f"of the {gap:.1f} test errors between hard labels and teacher"
        if all(apart > 0 for apart, _ in pairs):
            shares = [won / apart for apart, won in pairs]
            note += f"; by seed {_percent(min(shares))} to {_percent(max(shares))}"
        yield Tile(what, _percent(saved / gap) if saved > 0 else "none", note)


def _percent(share: float) -> str:
    return f"{round(100 * share):,} %"  # of a whole number, so that there is no -0


def _sizes(chapter: Chapter, best: Student) -> Iterator[Tile]:
    """The student against the teacher."""
    if chapter.teacher is None:
        return
    large, small = sizes(chapter, chapter.teacher), sizes(chapter, best.best)
    told = {
        "parameters": ("Size", "{} parameters, the teacher has {}"),
        "multiply_adds": ("Multiply-adds", "{} a row, the teacher needs {}"),
        "one": ("Speed on one row", "{} ms in torch, the teacher {} ms"),
        "many": ("Speed on 64 rows", "{} ms in torch, the teacher {} ms"),
    }
    for name, (what, note) in told.items():
        if value := ratio(name, large, small):
            yield Tile(what, value, note.format(wording.number(small[name]), wording.number(large[name])))


def _costs(chapter: Chapter) -> Iterator[Tile]:
    """What the commands took that made these nets, where it is known: sweeps and other nets of the folder do not count."""
    teachers: set[str | None] = {line.run for line in chapter.lines if line.kind == "teacher"}
    learners = {line.student for line in chapter.lines if line.student}
    named: dict[str, set[str | None]] = {"teach": teachers, "capture": teachers, "distill": {*learners}, "evaluate": {None}}
    rows: Sequence[dict[str, Any]] = chapter.costs["rows"] if chapter.costs else ()
    own = [row for row in rows if row["name"] in named.get(row["command"], ()) and not row["live"]]
    seconds = {stage: sum(row["seconds"] for row in own if row["stage"] == stage) for stage in (1, 2)}
    notes = {1: ("Stage one, once", "teachers and caches"), 2: ("Stage two", "students and their evaluation")}
    for stage, (what, note) in notes.items():
        if seconds[stage]:
            yield Tile(what, duration(seconds[stage]), note)


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"
