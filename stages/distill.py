"""softcache distill: students of one architecture at one temperature."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.models.runname import run_name
from stages.options import (
    MODEL_HELP,
    RECIPE,
    VIEWS,
    Name,
    Number,
    Stage,
    Switch,
    Temperature,
    Text,
    Whole,
    counted,
    data_option,
    example,
    machine_options,
    option,
    options,
    params_option,
    recipe_options,
    views_options,
    work_option,
)
from stages.terminal import echo

if TYPE_CHECKING:
    from pipeline.training.lesson import Soft

_STUDENTS = (*RECIPE, "seeds", "rows", "correct")
_SOFT = ("teachers", "weights", "rule", "loss", "t_squared", "standardise", "alpha", "label_weight")
_SECTIONS = {"recipe": _STUDENTS, "views": VIEWS, "distill": _SOFT, "students.{name}": ("model", *_STUDENTS)}
KEYS = (*_STUDENTS, *VIEWS, *_SOFT)  # what a sweep may set for all of its students
_LOSSES = "kl, ce, mse, dkd(alpha, beta), dist(beta, gamma)"
soft_options = options(
    option("--teachers", type=Name(), multiple=True, help="Teachers whose caches to learn from; repeatable."),
    option(
        "--weights", type=Number(), multiple=True, repeats=True, help="Weight of each teacher; repeatable.  [default: equal]"
    ),
    option(
        "--rule", type=Text(), default="probabilities", show_default=True, help="An ensemble averages probabilities or logits."
    ),
    option("--loss", type=Text(), default="kl", show_default=True, help=f"Soft loss: {_LOSSES}."),
    option("--t_squared/--no-t_squared", type=Switch(), default=True, show_default=True, help="Multiply the soft loss by T²."),
    option(
        "--standardise/--no-standardise", type=Switch(), default=False, show_default=True, help="Logits by their mean and std."
    ),
    option("--alpha", type=Number(), default=0.9, show_default=True, help="Weight of the soft loss."),
    option("--label_weight", "--label-weight", type=Number(), help="Weight of the labels.  [default: 1 − alpha]"),
)


class Distill(Stage):
    """Writes several outputs of one NAME."""

    def run_name(self, given: Mapping[str, Any]) -> str:
        return run_name(given["name"], None if given["hard"] else given["temperature"], live=given["live"])


@click.command(cls=Distill, epilog=example("softcache distill tiny -T 4"), sections=_SECTIONS, unless=("hard", ("distill",)))
@click.argument("name", type=Name())
@option("-T", "--temperature", type=Temperature(), help="Temperature of the soft targets.")
@option("--hard", is_flag=True, help="Train the baseline instead: labels only, no cache.")
@option("--live", is_flag=True, help="Run the teachers in the loop instead of reading their caches.")
@option("--model", type=Text(), required=True, help=MODEL_HELP)
@recipe_options
@option("--seeds", type=Whole(), multiple=True, default=[0], show_default=True, help="One student each; repeatable.")
@option("--rows", type=Text(), default="all", show_default=True, help="all, fraction(0.03), only([7, 8]), without([3]).")
@option("--correct", type=Text(), multiple=True, help="Class whose bias to correct on the validation split; repeatable.")
@views_options
@soft_options
@params_option
@data_option
@work_option
@machine_options
@click.pass_context
def command(
    ctx: click.Context,
    name: str,
    temperature: float | None,
    hard: bool,
    live: bool,
    model: str,
    seeds: tuple[int, ...],
    rows: str,
    correct: tuple[str, ...],
    policy: str,
    views: int,
    view_seed: int,
    alpha: float,
    label_weight: float | None,
    params: str,
    data: Path,
    work: Path,
    device: str,
    threads: int,
    **settings,
) -> None:
    """Train student NAME from cached logits and write it to data/students/NAME-T<temperature>/, one set of weights per seed.

    With --hard, train its baseline from the labels of the training split, in the same views, to data/students/NAME-hard/.
    With --live, run the teachers on every batch, as a reference, and write to data/students/NAME-T<temperature>-live/.
    Stopped at any moment, it goes on from the last epoch that it kept, and ends with the same bits.
    """
    from pipeline.base import runtime
    from pipeline.training.distill import distill
    from pipeline.training.lesson import Views
    from pipeline.training.objective import HARD, Weighing
    from pipeline.training.recipe import Recipe

    if hard == (temperature is not None):
        raise click.UsageError("Give either --temperature or --hard, and not both.")
    if hard and live:
        raise click.UsageError("Give either --live or --hard, and not both: the baseline has no teacher.")
    given = [name for name in _SOFT if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE]
    if hard and given:
        names = ", ".join(f"--{name}" for name in given)
        raise click.UsageError(f"{names}: of no use with --hard, whose students learn from labels alone.")
    soft = soft_of(data, live, settings)
    out = data / "students" / ctx.command.run_name(ctx.params)
    students = distill(
        model=model,
        recipe=Recipe.parse(**{key: settings[key] for key in RECIPE}),
        views=Views(policy, views, view_seed),
        rows=rows,
        soft=None if hard else soft,
        weighing=HARD if hard else Weighing(temperature, alpha, label_weight),
        correct=correct,
        seeds=seeds,
        splits=data / "transfer",
        work=work,
        out=out,
        device=runtime.prepare(device, threads=threads),
    )
    kept = [student.kept["valid_accuracy"] for student in students.values() if student.kept]
    told = f", mean validation accuracy {sum(kept) / len(kept):.2%}" if kept else ""
    lost = len(students) - len(kept)
    echo(
        f"wrote {out}: {counted(len(kept), 'seed')}{told}"
        + (f"; {lost} of {counted(len(students), 'seed')} diverged" if lost else "")
    )


def soft_of(data: Path, live: bool, settings: dict) -> "Soft":
    """Where soft targets come from, by the options above."""
    from pipeline.training.lesson import Soft
    from pipeline.training.losses import SoftLoss

    folder = data / ("teachers" if live else "caches")
    loss = SoftLoss.parse(settings["loss"], squared=settings["t_squared"], standardised=settings["standardise"])
    teachers = {teacher: folder / teacher for teacher in settings["teachers"]}
    return Soft(teachers, settings["rule"], loss, settings["weights"] or None, live)
