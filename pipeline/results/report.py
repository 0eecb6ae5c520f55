"""Report: one page that opens offline: published figures beside those measured, tables of all runs, and pictures."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.base import commands, files
from pipeline.base.errors import InputError, printable
from pipeline.models.modelfile import FILE_NAME, ModelFile
from pipeline.results import markdown
from pipeline.results.line import COLUMNS, KINDS
from pipeline.results.published import HEADING, Measured, Published
from pipeline.results.section import Section
from pipeline.results.tables import Tables
from pipeline.results.wording import finding

VERSION = 1  # of what the page and its tables show
_log = logging.getLogger(__name__)


def report(*, plots: Mapping[str, Path], published: Published | None, out: Path, teachers: Path | None = None) -> None:
    """Write index.html, results.md (its test tables) and pictures to `out`, from what `evaluate` or `sweep` wrote.

    plots: name → folder with tables; they come under their names, in the order given. A folder whose name is empty has no
    heading, and its picture is temperature.svg, there if it has students; that of another is <name>.svg, and is there if it
    has students at two temperatures, or alphas, or more. published: figures to show beside those measured, on top of the
    page and in published.md and results.json. teachers: the folder of the teachers, to tell of those that were trained anew
    since. `out` is replaced; raises InputError where it holds something else than a report, IntegrityError for damaged tables.
    """
    _require_a_report(out)
    opened = {name: Tables.open(folder) for name, folder in plots.items()}
    if teachers is not None:
        for tables in opened.values():
            _tell_of_new_teachers(tables, teachers)
    sections = [Section.of(name, tables) for name, tables in opened.items()]
    measured = published.measure(opened) if published else []
    written = {"index.html": _page(sections, published, measured), "results.md": markdown.results(sections)}
    written |= {f"{section.name or 'temperature'}.svg": section.picture for section in sections if section.picture}
    if published:
        told = {"source": published.source, "rows": [each.facts() for each in measured]}
        written["published.md"] = markdown.comparison(published.source, measured)
        written["results.json"] = files.readable_json(told).decode()
    with files.replaced_folder(out) as folder:
        for name, text in written.items():
            files.write(folder / name, text.encode())


def _require_a_report(out: Path) -> None:
    """The folder that is replaced has a name, and holds nothing but a report."""
    others = [path.name for path in sorted(out.iterdir()) if not _is_ours(path)] if out.is_dir() else []
    if others or not out.name:
        fix = "Name a folder for the report."
        raise InputError(str(out), expected="a report, or nothing", found=", ".join(others[:3]) or "no name", fix=fix)


def _is_ours(path: Path) -> bool:
    return path.suffix == ".svg" or path.name in ("index.html", "results.md", "published.md", "results.json")


def _tell_of_new_teachers(tables: Tables, teachers: Path) -> None:
    """Say where the teachers that were measured are others by now; the tables are of those that were."""
    for name, digest in tables.teachers.items():
        folder = teachers / name
        if (folder / FILE_NAME).exists() and ModelFile.teacher(folder).nets[0].sha256 != digest:
            again = commands.evaluate(tables.folder)
            _log.warning("%s: measured with teacher %s as it was before it was trained anew; %s", tables.folder, name, again)


def _page(sections: Sequence[Section], published: Published | None, measured: Sequence[Measured]) -> str:
    import jinja2

    loader = jinja2.PackageLoader("pipeline.results")
    strict = jinja2.StrictUndefined
    page = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=strict)
    return page.get_template("report.html").render(
        source=published.source if published else None, heading=HEADING, compared=measured, sections=sections,
        kinds=KINDS, columns=COLUMNS, printable=printable, finding=finding,
    )  # fmt: skip
