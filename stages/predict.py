"""softcache predict: the likeliest classes of files, by an export."""

from pathlib import Path

import click

from pipeline.base.errors import InputError, IntegrityError
from stages.options import Whole, example, local_data_option, option
from stages.terminal import echo


@click.command(
    short_help="Print the likeliest classes of files, by an export.",
    epilog=example("softcache predict tiny-T4 photo.png"),
)
@click.argument("export")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@option("--top", type=Whole(), default=3, show_default=True, help="Classes of each.")
@option("--int8", is_flag=True, help="Use model.int8.onnx.")
@local_data_option
def command(export: str, files: tuple[str, ...], top: int, int8: bool, data: Path) -> None:
    """Print the likeliest classes of each FILE by EXPORT: a run that was exported, or the path of a folder.

    A FILE is an image, a .npy file of arrays, or a text file with a text on each line; - is standard input. onnxruntime runs
    the model; torch is not used. softcache_export.py, in the folder of the export, does the same without this project.
    """
    import softcache_export

    if top < 1:
        raise click.BadParameter("expected 1 or more.", param_hint="--top")
    named = data / "exports" / export
    folder = named if named.is_dir() else Path(export)
    if not folder.is_dir():
        exports = data / "exports"
        known = [path.parent for depth in ("*", "*/*") for path in sorted(exports.glob(f"{depth}/config.json"))]
        names = [path.relative_to(exports).as_posix() for path in known]  # those of sweeps lie in a folder of the sweep
        fix = "Correct the name, or run `softcache export`."
        raise InputError("export", expected=f"a folder, or one of {', '.join(names) or 'none yet'}", found=export, fix=fix)
    try:
        for found in softcache_export.Predictor(folder, int8=int8).predict(files, top):
            echo(softcache_export.shown(found))
    except softcache_export.Refused as error:
        kind = IntegrityError if error.exit_code == IntegrityError.exit_code else InputError
        raise kind(error.what, expected=error.expected, found=error.found, fix=error.fix) from error
