"""softcache distill: students of one architecture at one temperature."""

from pathlib import Path

import click

from stages.options import (
    MODEL_HELP,
    RECIPE,
    VIEWS,
    Name,
    Stage,
    Temperature,
    Whole,
    counted,
    data_option,
    example,
    machine_options,
    params_option,
    recipe_options,
    views_options,
    work_option,
)

_SECTIONS = {
    "recipe": (*RECIPE, "seeds"),
    "views": VIEWS,
    "distill": ("teachers", "weights", "rule", "alpha"),
    "students.{name}": ("model", *RECIPE, "seeds"),
}


@click.command(cls=Stage, epilog=example("softcache distill tiny -T 4"), sections=_SECTIONS, unless=("hard", ("distill",)))
@click.argument("name", type=Name())
@click.option("-T", "--temperature", type=Temperature(), help="Temperature of the soft targets.")
@click.option("--hard", is_flag=True, help="Train the baseline instead: labels only, no cache.")
@click.option("--model", required=True, help=MODEL_HELP)
@recipe_options
@click.option("--seeds", type=Whole(), multiple=True, default=[0], show_default=True, help="One student each; repeatable.")
@views_options
@click.option("--teachers", type=Name(), multiple=True, help="Teachers whose caches to learn from; repeatable.")
@click.option("--weights", type=float, multiple=True, help="Weight of each teacher; repeatable.  [default: equal]")
@click.option("--rule", default="probabilities", show_default=True, help="What an ensemble averages: probabilities or logits.")
@click.option("--alpha", type=float, default=0.9, show_default=True, help="Weight of the soft term; labels weigh 1 − alpha.")
@params_option
@data_option
@work_option
@machine_options
def command(
    name: str,
    temperature: str | None,
    hard: bool,
    model: str,
    seeds: tuple[int, ...],
    policy: str,
    views: int,
    view_seed: int,
    teachers: tuple[str, ...],
    weights: tuple[float, ...],
    rule: str,
    alpha: float,
    params: str,
    data: Path,
    work: Path,
    device: str,
    threads: int,
    **recipe,
) -> None:
    """Train student NAME from cached logits and write it to data/students/NAME-T<temperature>/, one set of weights per seed.

    With --hard, train its baseline from the labels of the training split, in the same views, to data/students/NAME-hard/.
    """
    from pipeline import runtime
    from pipeline.distill import Soft, Views, distill
    from pipeline.fit import Recipe

    if hard == (temperature is not None):
        raise click.UsageError("Give either --temperature or --hard, and not both.")
    soft = None
    if not hard:
        caches = {teacher: data / "caches" / teacher for teacher in teachers}
        soft = Soft(caches, float(temperature), alpha, rule, weights or None)
    out = data / "students" / (f"{name}-hard" if hard else f"{name}-T{temperature}")
    last = distill(
        name=out.name,
        model=model,
        recipe=Recipe.parse(**recipe),
        views=Views(policy, views, view_seed),
        soft=soft,
        seeds=seeds,
        splits=data / "transfer",
        work=work,
        out=out,
        device=runtime.prepare(device, threads=threads),
    )
    mean = sum(row["valid_accuracy"] for row in last) / len(last)
    click.echo(f"wrote {out}: {counted(len(last), 'seed')}, mean validation accuracy {mean:.2%}")
