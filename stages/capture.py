"""softcache capture: the raw logits of one teacher."""

from pathlib import Path

import click

from pipeline.data.settings import Views
from stages.options import (
    Name,
    Stage,
    Text,
    Whole,
    anew_option,
    counted,
    data_option,
    example,
    keys,
    machine_options,
    option,
    options_of,
    params_option,
    work_option,
)
from stages.terminal import echo


@click.command(
    cls=Stage,
    short_help="Run a teacher once and cache its raw logits.",
    epilog=example('softcache capture a --views 8 --policy "shift(2)"'),
    sections={"capture": ("dtype", "tile"), "views": keys(Views)},
)
@click.argument("name", type=Name())
@options_of(Views, "views")
@option("--dtype", type=Text(), default="float32", show_default=True, help="float32 (exact) or float16 (half the size).")
@option("--tile", type=Whole(), default=512, show_default=True, help="Rows per forward pass.")
@anew_option
@params_option
@data_option
@work_option
@machine_options
def command(
    name: str,
    views: Views,
    dtype: str,
    tile: int,
    anew: bool,
    params: str | None,
    data: Path,
    work: Path,
    device: str,
    threads: int | None,
) -> None:
    """Run teacher NAME once and write its raw logits to data/caches/NAME/: every view of the transfer set, valid and test.

    A capture that was stopped goes on from the spans that it finished.
    """
    from pipeline.base import runtime
    from pipeline.cache.capture import capture

    out = data / "caches" / name
    done = capture(
        teacher=data / "teachers" / name,
        splits=data / "transfer",
        views=views,
        dtype=dtype,
        tile=tile,
        anew=anew,
        work=work,
        out=out,
        provenance=data / "provenance" / f"{name}.json",
        device=runtime.prepare(device, threads=threads),
    )
    extent = done.manifest.extents["transfer"]
    size = sum(record.size_bytes for record in done.manifest.records) / 1e6
    spans = f"{counted(done.computed, 'span')} computed" + (f", {done.kept} kept from before" if done.kept else "")
    rows = f"{counted(extent.rows, 'row')} × {counted(extent.views, 'view')}"
    echo(f"wrote {out}: {rows}, {size:,.1f} MB, {spans}")
