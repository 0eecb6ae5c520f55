"""Lineage: a drawing of what the nets come from, and all of it in words, with the commands that give it again."""

from collections.abc import Sequence

from pipeline.results.lineage import Lineage
from pipeline.results.page.chapter import Chapter
from pipeline.results.page.drawing import CACHE, DATA, STUDENT, TEACHER, narrow, wide
from pipeline.results.page.particulars import particulars
from pipeline.results.page.pedigree import MOST, pedigree
from pipeline.results.page.reproduction import whole
from pipeline.results.page.section import Section
from pipeline.results.wording import counted

_HEADINGS = {DATA: "Rows", TEACHER: "Teachers", CACHE: "Caches", STUDENT: "Students"}


def lineage(chapter: Chapter) -> Section | None:
    """The section of lineage; None where the tables are of no data."""
    told, weights = chapter.lineage, chapter.tables.basis.students
    if not told.parts:
        return None
    nodes, edges = pedigree(told, weights)
    content = {
        "title": _title(told),
        "text": _text(told),
        "drawings": {"wide": wide(nodes, edges, _HEADINGS), "narrow": narrow(nodes, edges, _HEADINGS)},
        "groups": particulars(told, weights),
        "commands": whole(told.study),
        "study": told.study,
    }
    return Section("lineage", "Lineage", content=content)


def _title(told: Lineage) -> str:
    nets = sum(len(run.kept) for student in told.students for run in student.runs)
    caches = "its cache" if len(told.teachers) == 1 else "their caches"
    live = any(student.kind == "live" for student in told.students)
    through = f"{counted(len(told.teachers), 'teacher')} {'in the loop' if live else f'and {caches}'}"
    transfer, train = told.parts["transfer"], told.parts["train"]
    labels = "" if train == transfer else f" and {counted(train.labelled, 'label')}"
    rows = f"From {counted(transfer.rows, 'row')}{labels} through {through}"
    return f"{rows} to {counted(nets, 'trained net')}" if nets else rows


def _text(told: Lineage) -> str:
    """What the drawing shows, for those who cannot see it."""
    students = dict.fromkeys(student.name for student in told.students)
    named = {"teachers": [each.name for each in told.teachers], "caches": list(told.caches), "students": list(students)}
    boxes = "; ".join(f"{what} {_listed(names)}" for what, names in named.items() if names)
    return f"Boxes and what comes of what: the transfer set; {boxes}. All of it is in words below."


def _listed(names: Sequence[str]) -> str:
    """The names of the boxes, and how many have none."""
    return ", ".join(names[:MOST]) + (f" and {len(names) - MOST:,} more" if len(names) > MOST else "")
