"""softcache report: one page with the results."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.base import files
from pipeline.base.errors import InputError
from pipeline.base.places import Place
from stages.options import Folder, Params, Stage, data_option, example, option, params_option
from stages.terminal import echo

if TYPE_CHECKING:
    from pipeline.results.page.picture import Format


@click.command(
    cls=Stage,
    short_help="Write one page with the tables and charts.",
    epilog=example("softcache report data/sweeps/paper data/sweeps/no3"),
)
@click.argument("folders", nargs=-1, type=Folder())
@option("--out", type=Folder(), help="Folder of the page.  [default: DATA/report]")
@option("--published/--no-published", default=True, show_default=True, help="Figures that were published beside ours.")
@option(
    "--figures", type=click.Choice(["svg", "png"]), multiple=True, help="Write every chart into OUT/figures/ too; repeatable."
)
@option(
    "--tensorboard",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of event files to write as well: curves and settings of every net.",
)
@params_option
@data_option
def command(
    folders: tuple[Place, ...],
    out: Place | None,
    published: bool,
    tensorboard: Path | None,
    figures: "tuple[Format, ...]",
    params: str | None,
    data: Place,
) -> None:
    """Write index.html, a page that opens offline, from the tables in data/plots/, or in FOLDER/plots/ of several FOLDERS.

    Beside it are its tables as results.md, and accuracy against temperature as temperature.svg, or as the name of a folder.

    Where params.yaml has a section `published`, figures that were published stand beside those measured.
    With --tensorboard the same nets can be looked at by `tensorboard --logdir`.
    """
    from pipeline.results.events import write_events
    from pipeline.results.published import Published
    from pipeline.results.report import report

    settings = Params.read(Path(params) if params else None)
    section = settings.section("published") if published and settings and settings.values.get("published") is not None else None
    out = out or data / "report"
    plots = _named(folders) if folders else {"": data / "plots"}
    if tensorboard is not None:
        _require_apart(tensorboard, out)
    report(
        plots=plots,
        published=Published.parse(section) if section is not None else None,
        out=out,
        data=data,
        pictures=figures,
    )
    if tensorboard is not None:
        write_events(plots, tensorboard)
        echo(f"wrote {tensorboard}: look at it with {shlex.join(('tensorboard', '--logdir', str(tensorboard)))}")
    echo(f"wrote {out / 'index.html'}: open it in a browser")


def _require_apart(events: Path, out: Place) -> None:
    """Raise InputError for event files within the report, or around it: each of the two folders is replaced whole."""
    if not isinstance(out, Path):
        return
    one, other = Path(os.path.abspath(events)), Path(os.path.abspath(out))
    if one.is_relative_to(other) or other.is_relative_to(one):
        raise InputError("tensorboard", expected=f"a folder apart from {out}", found=str(events), fix="Name another folder.")


def _named(folders: Sequence[Place]) -> dict[str, Place]:
    """The folder of tables of each folder, by the last part of its path."""
    named: dict[str, Place] = {}
    for folder in folders:
        name = os.path.basename(os.path.abspath(folder)) if isinstance(folder, Path) else folder.name
        if name in named:
            found = f"{named[name].parent} and {folder}"
            raise InputError("report", expected="folders of different names", found=found, fix="Rename one of them.")
        named[name] = files.current(folder) / "plots"
    return named
