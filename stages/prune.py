"""softcache prune: remove from a store what no artifact needs any more."""

import click

from pipeline.base.errors import InputError
from pipeline.base.places import ObjectPlace, Place
from stages.options import counted, data_option, example, option
from stages.terminal import echo


@click.command(
    short_help="Remove former generations from a store.",
    epilog=example("softcache prune --data s3://bucket/run --dry-run"),
)
@option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@data_option
def command(dry_run: bool, data: Place) -> None:
    """Remove former generations of splits, models, caches and tables from a store, where all are kept for those who read them.

    Present ones stay, and captures that are unfinished. Run it when nothing else reads former ones or writes there.
    """
    from pipeline.base import runtime
    from pipeline.cache.prune import superseded

    if not isinstance(data, ObjectPlace):
        fix = "Name a store with --data; on a disk nothing former is kept."
        raise InputError("data", expected="a store, such as s3://bucket/run", found=str(data), fix=fix)
    if not data.is_dir():
        raise InputError(str(data), expected="a folder of data in a store", found="nothing", fix="Correct --data.")
    found = superseded(data)
    for each in found:
        echo(f"{each.place}  {each.size_bytes / 1e6:,.1f} MB")
    for each in runtime.progress([] if dry_run else found, "prune", unit="generations"):
        each.place.remove()
    size = sum(each.size_bytes for each in found) / 1e6
    echo(f"{'would remove' if dry_run else 'removed'} {counted(len(found), 'folder')}, {size:,.1f} MB, from {data}")
