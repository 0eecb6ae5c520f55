"""Report: one page that opens offline, with published and measured figures, tables of all runs, and charts."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base import commands, files
from pipeline.base.errors import InputError, IntegrityError
from pipeline.base.places import Place
from pipeline.models.modelfile import FILE_NAME, ModelFile
from pipeline.results import markdown, times
from pipeline.results.cost import cost
from pipeline.results.footprint import FILE_NAME as FOOTPRINT
from pipeline.results.footprint import Footprint, beside
from pipeline.results.page import theme
from pipeline.results.page.chapter import Chapter
from pipeline.results.page.page import page, sections
from pipeline.results.page.picture import Format, picture
from pipeline.results.page.section import Section
from pipeline.results.page.students import students
from pipeline.results.page.temperature import axis_of
from pipeline.results.published import Published
from pipeline.results.tables import Tables

VERSION = 2  # of the page and its tables
FIGURES = "figures"  # the folder of pictures
_LONGEST = 180  # bytes of a chapter in the name of a file: a disk holds 255, and there is more in it
_log = logging.getLogger(__name__)


def report(
    *,
    plots: Mapping[str, Place],
    published: Published | None,
    out: Place,
    data: Place | None = None,
    pictures: Sequence[Format] = (),
) -> None:
    """Write the page index.html, its test tables as results.md, and pictures, from the tables of evaluate or sweep.

    Args:
        plots: Folders of tables by name, shown in this order, each under its name. A folder with an empty name gets no
            heading; its accuracy against temperature is temperature.svg, written if it has students. That of another is
            <name>.svg, cut where it is very long, written if its students have at least two temperatures or alphas.
        published: Published figures, shown next to the measured ones on the page, in published.md and in results.json.
        out: The folder of the report, which is replaced.
        data: The data folder, if the nets are of one. What commands took is read there, as far as it is known, and a warning
            names teachers that were trained again since they were measured.
        pictures: The kinds of files in which every chart of the page is also written, into the folder `figures`.

    Raises:
        InputError: `out` holds something other than a report, a folder has no tables, a published figure has no match, or
            altair is not installed.
        IntegrityError: The tables, or the files of a teacher, are damaged.
    """
    theme.libraries()  # before anything else: sections want them, too
    _require_a_report(out)
    opened = {name: Tables.open(folder) for name, folder in plots.items()}
    if data is not None:
        for tables in opened.values():
            _warn_of_new_teachers(tables, data / "teachers")
    chapters = [
        Chapter(name, tables, None if name else _costs(data), number, _footprint(tables.folder))
        for number, (name, tables) in enumerate(opened.items(), 1)
    ]
    shown = [(chapter, sections(chapter)) for chapter in chapters]
    measured = published.measure(opened) if published else []
    written = {"index.html": page(shown, published, measured), "results.md": markdown.results(chapters)}
    if published:
        compared = {"source": published.source, "rows": [each.to_dict() for each in measured]}
        written["published.md"] = markdown.comparison(published.source, measured)
        written["results.json"] = files.readable_json(compared).decode()
    drawn = dict(_pictures(shown, pictures))
    with files.replaced_folder(out) as folder:
        if pictures:
            (folder / FIGURES).mkdir()
        for name, content in ({name: text.encode() for name, text in written.items()} | drawn).items():
            files.write(folder / name, content)


def _pictures(shown: Sequence[tuple[Chapter, Sequence[Section]]], kinds: Sequence[Format]) -> Iterator[tuple[str, bytes]]:
    """The charts beside the page, by their paths: that of temperatures, and those that were asked for."""
    for chapter, members in shown:
        stem = _stem(chapter)
        for section in members:
            if section.name == "temperature" and (not chapter.name or axis_of(students(chapter))[1] > 1):
                yield f"{stem or section.name}.svg", picture(section.figures[0], "svg")
            for figure in section.figures:
                for kind in kinds:
                    name = f"{stem}-{figure.name}" if stem else figure.name
                    yield f"{FIGURES}/{name}.{kind}", picture(figure, kind)


def _stem(chapter: Chapter) -> str:
    """The name of a chapter in those of its files; where it is long a part of it, and the chapter's number."""
    name = os.fsencode(chapter.name)
    return chapter.name if len(name) <= _LONGEST else f"{name[:_LONGEST].decode(errors='ignore')}-{chapter.number}"


def _require_a_report(out: Place) -> None:
    """Raise InputError if the folder to replace has no name, or holds anything but a report."""
    others = [path.name for path in sorted(files.current(out).iterdir()) if not _is_ours(path)] if out.is_dir() else []
    if others or not out.name:
        fix = "Name a folder for the report."
        raise InputError(str(out), expected="a report, or nothing", found=", ".join(others[:3]) or "no name", fix=fix)


def _is_ours(path: Place) -> bool:
    if path.name == FIGURES:
        return path.is_dir() and all(each.suffix in (".svg", ".png") for each in path.iterdir())
    return path.suffix == ".svg" or path.name in ("index.html", "results.md", "published.md", "results.json")


def _footprint(plots: Place) -> Footprint | None:
    """How large and fast the nets of these tables are, where it was measured in their data folder."""
    return Footprint.open(beside(plots)) if files.holds(beside(plots), FOOTPRINT) else None


def _costs(data: Place | None) -> Mapping[str, Any] | None:
    """What commands took, where it is known: a report needs no times."""
    if not isinstance(data, Path) or not (data / times.FILE).exists():
        return None
    try:
        return cost(data)
    except (InputError, IntegrityError) as error:
        _log.warning("what commands took is left out: %s", error)
        return None


def _warn_of_new_teachers(tables: Tables, teachers: Place) -> None:
    """Warn if a teacher was trained again after it was measured."""
    for name, digest in tables.basis.teachers.items():
        folder = teachers / name
        if files.holds(folder, FILE_NAME) and ModelFile.teacher(folder).nets[0].sha256 != digest:
            fix = commands.evaluate(tables.folder)
            _log.warning("%s: teacher %s was trained again after it was measured. Run %s.", tables.folder, name, fix)
