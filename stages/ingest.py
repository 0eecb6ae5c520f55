"""softcache ingest: from sources to the splits in data/transfer/."""

from typing import Literal

import click

from pipeline.base.places import Place
from stages.options import (
    Size,
    SourceOrAmount,
    Stage,
    Switch,
    Text,
    Whole,
    WholeOrAll,
    counted,
    data_option,
    example,
    option,
    params_option,
    shown_inputs,
)
from stages.terminal import echo

SOURCE_HELP = "A file or folder, or a spec such as `csv('train.csv', text='question')`; see docs/data.md."


@click.command(
    cls=Stage,
    short_help="Read sources, shuffle their rows once, and write the splits.",
    epilog=example("softcache ingest --train train.parquet --test test.parquet --valid 0.1"),
    sections={"ingest": ("train", "valid", "test", "labels", "transfer", "size", "fit", "damaged", "seed", "fold")},
)
@option("--train", type=Text(), required=True, help=SOURCE_HELP)
@option("--valid", type=SourceOrAmount(), default=0.1, show_default=True, help="The same, or a share or count of train.")
@option("--test", type=SourceOrAmount(), default=0.2, show_default=True, help="The same, or a share or count of train.")
@option(
    "--labels",
    type=WholeOrAll(),
    default="all",
    show_default=True,
    help="Labels kept of each class of train, drawn by the seed, or all; rows without one are in the transfer set alone.",
)
@option(
    "--transfer",
    type=Text(),
    multiple=True,
    help="Source of the transfer set, labels optional; repeatable.  [default: the training split]",
)
@option(
    "--size",
    type=Size(),
    help="Pixels that images are resized to: 224, or 224x256 for height and width.  [default: they have one size]",
)
@option(
    "--fit", type=Text(), default="crop", show_default=True, help="How images are brought to that size: crop, pad or stretch."
)
@option(
    "--damaged",
    type=Text(),
    default="fail",
    show_default=True,
    help="For images that do not decode, and numbers that are not finite: fail, or exclude their rows.",
)
@option("--seed", type=Whole(), default=0, show_default=True, help="Seed of splitting and shuffling.")
@option(
    "--fold/--no-fold",
    type=Switch(),
    default=False,
    show_default=True,
    help="For final models: also train on the validation rows.",
)
@params_option
@data_option
def command(
    train: str,
    valid: str | float,
    test: str | float,
    labels: int | Literal["all"],
    transfer: tuple[str, ...],
    size: tuple[int, ...] | None,
    fit: str,
    damaged: str,
    seed: int,
    fold: bool,
    params: str | None,
    data: Place,
) -> None:
    """Read sources, check and shuffle their rows once, and write the splits to data/transfer/.

    Memory does not grow with the size of the data: rows wait in buckets on disk until all of them are in order.
    """
    from pipeline.data.ingest import ingest
    from pipeline.data.splits import described

    splits = ingest(
        train=train,
        valid=valid,
        test=test,
        labels=labels,
        transfer_set=transfer,
        size=size or (),
        fit=fit,
        damaged=damaged,
        seed=seed,
        fold=fold,
        out=data / "transfer",
    )
    sizes = ", ".join(f"{name} {split.rows:,}" for name, split in splits.items())
    left_out = len({name for split in splits.values() for name in split.excluded})
    bare = int((splits["transfer"].labels() < 0).sum()) if "transfer" in splits else 0
    if bare:
        echo(f"{counted(bare, 'row')} of the transfer set without a label: students learn from their soft targets alone")
    rows, classes = shown_inputs(described(splits["train"].inputs)), len(splits["train"].classes)
    echo(
        f"wrote {data / 'transfer'}: {sizes} rows of {rows}, {classes} classes"
        + (f", {counted(left_out, 'damaged row')} left out" if left_out else "")
        + ("; folded: the validation rows are training rows too" if splits["valid"].folded else "")
    )
