"""softcache capture: the raw logits of one teacher."""

import click

from pipeline.base.crew import Workers
from pipeline.base.places import Place
from pipeline.cache.settings import Keep
from pipeline.data.settings import Views
from stages.options import (
    Folder,
    Name,
    Stage,
    anew_option,
    counted,
    crew_options,
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
    sections={"capture": (*keys(Keep), "store"), "views": keys(Views)},
)
@click.argument("name", type=Name())
@options_of(Views, "views")
@options_of(Keep, "keep")
@option("--store", type=Folder(), help="Where spans are kept: a path or a URL; the folder of the cache then has no spans.")
@anew_option
@params_option
@data_option
@work_option
@machine_options
@crew_options
def command(
    name: str,
    views: Views,
    keep: Keep,
    store: Place | None,
    anew: bool,
    params: str | None,
    data: Place,
    work: Place,
    device: str,
    threads: int | None,
    workers: Workers,
) -> None:
    """Run teacher NAME once and write its raw logits to data/caches/NAME/: every view of the transfer set, valid and test.

    With --knowledge hidden it keeps what goes into its last layer, and that layer, which give all logits: smaller where classes
    are many.
    With --features it keeps outputs of other layers beside them, for students that learn from these too.

    With --store the spans are kept apart, such as in an object store, and stay there when another cache of this name is made:
    data/caches/NAME/ has the manifest and their address, which are small enough for DVC, or git, to track.

    A capture that was stopped goes on from the spans that it finished.

    With --on processes or --on ray, workers run the teacher on spans; any number of them gives the same bytes, and any of them
    may die.
    """
    from pipeline.base import runtime
    from pipeline.cache.capture import capture

    out = data / "caches" / name
    if workers.on == "here":
        chosen = runtime.prepare(device, threads=threads)
    else:  # on as many threads as its workers, so that it measures what they will
        chosen = runtime.prepare("cpu", threads=runtime.asked_threads(threads) or 1)
    done = capture(
        teacher=data / "teachers" / name,
        splits=data / "transfer",
        views=views,
        keep=keep,
        anew=anew,
        store=store,
        work=work,
        out=out,
        provenance=data / "provenance" / f"{name}.json",
        device=chosen,
        workers=workers,
    )
    extent = done.manifest.extents["transfer"]
    size = sum(record.size_bytes for record in done.manifest.records) / 1e6
    spans = f"{counted(done.computed, 'span')} computed" + (f", {done.kept} kept from before" if done.kept else "")
    rows = f"{counted(extent.rows, 'row')} × {counted(extent.views, 'view')}"
    echo(f"wrote {out}: {rows}, {size:,.1f} MB, {spans}")
