"""softcache teach: train one teacher."""

from collections.abc import Mapping

import click
from click.core import ParameterSource

from pipeline.base.places import Place
from pipeline.models.training import Training
from stages.options import (
    MODEL_HELP,
    ClassMap,
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

KEYS = ("model", *keys(Training), "policy", "seed", "weights", "classes", "logits", "student")  # the last four: see adopt.py


@click.command(
    cls=Stage,
    short_help="Train a teacher on the training split.",
    epilog=example("softcache teach a --epochs 10"),
    sections={"teach": KEYS, "teachers.{name}": KEYS},
)
@click.argument("name", type=Name())
@option("--model", type=Text(), help=MODEL_HELP)
@options_of(Training, "recipe")
@option("--policy", type=Text(), default="none", show_default=True, help="Augmentation, such as `shift(2) | flip()`.")
@option("--seed", type=Whole(), default=0, show_default=True, help="Seed of weights, order and augmentation.")
@option("--weights", type=Text(), hidden=True)
@option("--classes", type=ClassMap(), hidden=True)
@option("--logits", type=Text(), multiple=True, hidden=True)
@option("--student", type=Text(), hidden=True)
@params_option
@data_option
@work_option
@machine_options
def command(
    name: str,
    model: str | None,
    recipe: Training,
    policy: str,
    seed: int,
    weights: str | None,
    classes: Mapping[str, object] | None,
    logits: tuple[str, ...],
    student: str | None,
    params: str | None,
    data: Place,
    work: Place,
    device: str,
    threads: int | None,
) -> None:
    """Train teacher NAME on the training split and write it to data/teachers/NAME/.

    A training that was stopped goes on from the last epoch that it saved, and ends with the same bits. A teacher that was
    trained elsewhere, whose entry in params.yaml has `weights` or names files, is adopted, and so is a `student`: see
    `softcache adopt --help`.
    """
    from pipeline.base import ranks, runtime
    from pipeline.cache.adopt import adopts
    from pipeline.training.recipe import Recipe
    from pipeline.training.teach import teach

    if logits or student or (model and adopts(model, weights)):
        from stages.adopt import command as adopt

        ranks.require_alone(f"softcache teach {name}, which is adopted")
        context = click.get_current_context()
        said = [key for key in context.params if context.get_parameter_source(key) is ParameterSource.COMMANDLINE]
        if odd := [key for key in said if key not in ("name", "params", "data", "work", "device", "threads")]:
            raise click.UsageError(f"--{odd[0]}: {name} is adopted, not trained; give it to `softcache adopt {name}`.")
        given = {"--params": params, "--data": data, "--device": device, "--threads": threads}
        words = [word for option, value in given.items() if value is not None for word in (option, str(value))]
        with adopt.make_context("adopt", [name, *words], parent=context) as of_adopt:
            adopt.invoke(of_adopt)
        return
    if model is None:
        raise click.UsageError("Missing option '--model'.")
    out = data / "teachers" / name
    with ranks.joined(device) as own:
        last = teach(
            model=model,
            recipe=Recipe.parse(**vars(recipe)),
            policy=policy,
            seed=seed,
            splits=data / "transfer",
            work=work,
            out=out,
            device=runtime.prepare(own, threads=threads),
        )
    epochs = counted(last.epoch, "epoch")
    echo(f"wrote {out}: {epochs}, validation accuracy {last.valid_accuracy:.2%}")
