"""softcache ingest: from sources of images to the splits in data/transfer/."""

from pathlib import Path

import click

from stages.options import SourceOrAmount, Stage, Switch, Text, Whole, counted, data_option, example, option, params_option
from stages.terminal import echo


@click.command(
    cls=Stage,
    short_help="Read images, shuffle them once, and write the splits.",
    epilog=example("softcache ingest --train train.parquet --test test.parquet --valid 0.1"),
    sections={"ingest": ("train", "valid", "test", "transfer", "damaged", "seed", "fold")},
)
@option("--train", type=Text(), required=True, help="`digits`, or a Parquet file in the Hugging Face image layout.")
@option("--valid", type=SourceOrAmount(), default=0.1, show_default=True, help="The same, or a share or count of train.")
@option("--test", type=SourceOrAmount(), default=0.2, show_default=True, help="The same, or a share or count of train.")
@option(
    "--transfer",
    type=Text(),
    multiple=True,
    help="Source of the transfer set, labels optional; repeatable.  [default: the training split]",
)
@option(
    "--damaged",
    type=Text(),
    default="fail",
    show_default=True,
    help="For images that do not decode: fail, or exclude their rows.",
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
    transfer: tuple[str, ...],
    damaged: str,
    seed: int,
    fold: bool,
    params: str | None,
    data: Path,
) -> None:
    """Read images, check and shuffle them once, and write the splits to data/transfer/."""
    from pipeline.data.ingest import ingest

    splits = ingest(
        train=train,
        valid=valid,
        test=test,
        transfer_set=transfer,
        damaged=damaged,
        seed=seed,
        fold=fold,
        out=data / "transfer",
    )
    sizes = ", ".join(f"{name} {split.rows:,}" for name, split in splits.items())
    channels, height, width = splits["train"].shape
    left_out = len({name for split in splits.values() for name in split.excluded})
    bare = int((splits["transfer"].labels() < 0).sum()) if "transfer" in splits else 0
    if bare:
        echo(f"{counted(bare, 'row')} of the transfer set without a label: students need alpha 1 to learn from them")
    echo(
        f"wrote {data / 'transfer'}: {sizes} rows of {height}×{width}×{channels}, {len(splits['train'].classes)} classes"
        + (f", {counted(left_out, 'damaged row')} left out" if left_out else "")
        + ("; folded: the validation rows are training rows too" if splits["valid"].folded else "")
    )
