"""Report: one page that opens offline, with published and measured figures, tables of all runs, and charts."""

import logging
from collections.abc import Mapping
from pathlib import Path

from pipeline.base import commands, files
from pipeline.base.errors import InputError
from pipeline.models.modelfile import FILE_NAME, ModelFile
from pipeline.results import markdown
from pipeline.results.page.chapter import Chapter
from pipeline.results.page.page import page, sections
from pipeline.results.published import Published
from pipeline.results.tables import Tables

VERSION = 2  # of the page and its tables
_log = logging.getLogger(__name__)


def report(*, plots: Mapping[str, Path], published: Published | None, out: Path, teachers: Path | None = None) -> None:
    """Write the page index.html, its test tables as results.md, and its charts as SVG, from the tables of evaluate or sweep.

    Args:
        plots: Folders of tables by name, shown in this order, each under its name. A folder with an empty name gets no
            heading; its chart is temperature.svg, written if it has students. The chart of another is <name>.svg, written
            if its students have at least two temperatures or alphas.
        published: Published figures, shown next to the measured ones on the page, in published.md and in results.json.
        out: The folder of the report, which is replaced.
        teachers: The folder of the teachers. If given, a warning names teachers that were trained again since.

    Raises:
        InputError: `out` holds something other than a report, a folder has no tables, a published figure has no match, or
            altair is not installed.
        IntegrityError: The tables, or the files of a teacher, are damaged.
    """
    _require_a_report(out)
    opened = {name: Tables.open(folder) for name, folder in plots.items()}
    if teachers is not None:
        for tables in opened.values():
            _warn_of_new_teachers(tables, teachers)
    chapters = [Chapter(name, tables, number=number) for number, (name, tables) in enumerate(opened.items(), 1)]
    shown = [(chapter, sections(chapter)) for chapter in chapters]
    measured = published.measure(opened) if published else []
    written = {"index.html": page(shown, published, measured), "results.md": markdown.results(chapters)}
    if published:
        compared = {"source": published.source, "rows": [each.to_dict() for each in measured]}
        written["published.md"] = markdown.comparison(published.source, measured)
        written["results.json"] = files.readable_json(compared).decode()
    with files.replaced_folder(out) as folder:
        for name, text in written.items():
            files.write(folder / name, text.encode())


def _require_a_report(out: Path) -> None:
    """Raise InputError if the folder to replace has no name, or holds anything but a report."""
    others = [path.name for path in sorted(out.iterdir()) if not _is_ours(path)] if out.is_dir() else []
    if others or not out.name:
        fix = "Name a folder for the report."
        raise InputError(str(out), expected="a report, or nothing", found=", ".join(others[:3]) or "no name", fix=fix)


def _is_ours(path: Path) -> bool:
    return path.suffix == ".svg" or path.name in ("index.html", "results.md", "published.md", "results.json")


def _warn_of_new_teachers(tables: Tables, teachers: Path) -> None:
    """Warn if a teacher was trained again after it was measured."""
    for name, digest in tables.basis.teachers.items():
        folder = teachers / name
        if (folder / FILE_NAME).exists() and ModelFile.teacher(folder).nets[0].sha256 != digest:
            fix = commands.evaluate(tables.folder)
            _log.warning("%s: teacher %s was trained again after it was measured. Run %s.", tables.folder, name, fix)
