"""softcache teach: train one teacher."""

from pathlib import Path

import click

from pipeline.models.training import Training
from stages.options import (
    MODEL_HELP,
    Name,
    Stage,
    Text,
    Whole,
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

_KEYS = ("model", *keys(Training), "policy", "seed")


@click.command(
    cls=Stage,
    short_help="Train a teacher on the training split.",
    epilog=example("softcache teach a --epochs 10"),
    sections={"teach": _KEYS, "teachers.{name}": _KEYS},
)
@click.argument("name", type=Name())
@option("--model", type=Text(), required=True, help=MODEL_HELP)
@options_of(Training, "recipe")
@option("--policy", type=Text(), default="none", show_default=True, help="Augmentation, such as `shift(2) | flip()`.")
@option("--seed", type=Whole(), default=0, show_default=True, help="Seed of weights, order and augmentation.")
@params_option
@data_option
@work_option
@machine_options
def command(
    name: str,
    model: str,
    recipe: Training,
    policy: str,
    seed: int,
    params: str | None,
    data: Path,
    work: Path,
    device: str,
    threads: int | None,
) -> None:
    """Train teacher NAME on the training split and write it to data/teachers/NAME/.

    A training that was stopped goes on from the last epoch that it saved, and ends with the same bits.
    """
    from pipeline.base import runtime
    from pipeline.training.recipe import Recipe
    from pipeline.training.teach import teach

    out = data / "teachers" / name
    last = teach(
        model=model,
        recipe=Recipe.parse(**vars(recipe)),
        policy=policy,
        seed=seed,
        splits=data / "transfer",
        work=work,
        out=out,
        device=runtime.prepare(device, threads=threads),
    )
    epochs = counted(last.epoch, "epoch")
    echo(f"wrote {out}: {epochs}, validation accuracy {last.valid_accuracy:.2%}")
