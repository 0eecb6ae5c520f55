"""softcache distill: students of one architecture at one temperature."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from pipeline.base.places import Place
from pipeline.data.settings import Views
from pipeline.models.runname import run_name
from pipeline.models.training import Training
from pipeline.training.settings import Distillation
from stages.options import (
    MODEL_HELP,
    Name,
    Stage,
    Temperature,
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

if TYPE_CHECKING:
    from pipeline.training.lesson import Soft

_STUDENTS = (*keys(Training), "seeds", "rows", "correct")
_SOFT = keys(Distillation)
_SECTIONS = {"recipe": _STUDENTS, "views": keys(Views), "distill": _SOFT, "students.{name}": ("model", *_STUDENTS)}
KEYS = (*_STUDENTS, *keys(Views), *_SOFT)  # the settings that a sweep may have for all of its students


class Distill(Stage):
    """A command that writes several outputs for one NAME."""

    def run_name(self, given: Mapping[str, Any]) -> str:
        return run_name(given["name"], None if given["hard"] else given["temperature"], live=given["live"])


@click.command(
    cls=Distill,
    short_help="Train students at a temperature, one per seed.",
    epilog=example("softcache distill tiny -T 4"),
    sections=_SECTIONS,
    unless=("hard", ("distill",)),
)
@click.argument("name", type=Name())
@option("-T", "--temperature", type=Temperature(), help="Temperature of the soft targets.")
@option("--hard", is_flag=True, help="Train the baseline instead: labels only, no cache.")
@option("--live", is_flag=True, help="Run the teachers in the loop instead of reading their caches.")
@option("--model", type=Text(), required=True, help=MODEL_HELP)
@options_of(Training, "recipe")
@option("--seeds", type=Whole(), multiple=True, default=[0], show_default=True, help="One student each; repeatable.")
@option("--rows", type=Text(), default="all", show_default=True, help="all, fraction(0.03), only([7, 8]), without([3]).")
@option("--correct", type=Text(), multiple=True, help="Class whose bias is corrected on the validation split; repeatable.")
@options_of(Views, "views")
@options_of(Distillation, "distillation")
@params_option
@data_option
@work_option
@machine_options
def command(
    name: str,
    temperature: float | None,
    hard: bool,
    live: bool,
    model: str,
    recipe: Training,
    seeds: tuple[int, ...],
    rows: str,
    correct: tuple[str, ...],
    views: Views,
    distillation: Distillation,
    params: str | None,
    data: Place,
    work: Place,
    device: str,
    threads: int | None,
) -> None:
    """Train student NAME from cached logits and write it to data/students/NAME-T<temperature>/, one set of weights per seed.

    With --hard, train its baseline from the labels of the training split, in the same views, to data/students/NAME-hard/.
    With --live, run the teachers on every batch, as a reference, and write to data/students/NAME-T<temperature>-live/.
    A training that was stopped goes on from the last epoch that it saved, and ends with the same bits.

    On several GPUs: torchrun --no-python --nproc-per-node 2 softcache distill NAME …, one process for each.
    """
    from pipeline.base import ranks, runtime
    from pipeline.training.distill import distill
    from pipeline.training.objective import HARD, LossWeights
    from pipeline.training.recipe import Recipe

    ctx = click.get_current_context()
    if hard == (temperature is not None):
        raise click.UsageError("Give either --temperature or --hard, and not both.")
    if hard and live:
        raise click.UsageError("Give either --live or --hard, and not both: the baseline has no teacher.")
    given = [name for name in _SOFT if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if hard and given:
        names = ", ".join(f"--{name}" for name in given)
        raise click.UsageError(f"{names}: not used with --hard, whose students learn from labels alone.")
    weighting = HARD
    if temperature is not None:
        features = bool(distillation.features)
        weighting = LossWeights(float(temperature), distillation.alpha, distillation.label_weight, features=features)
    soft = soft_of(data, live, distillation)
    out = data / "students" / command.run_name(ctx.params)
    with ranks.joined(device) as own:
        students = distill(
            model=model,
            recipe=Recipe.parse(**vars(recipe)),
            views=views,
            rows=rows,
            soft=None if hard else soft,
            weighting=weighting,
            correct=correct,
            seeds=seeds,
            splits=data / "transfer",
            work=work,
            out=out,
            device=runtime.prepare(own, threads=threads),
        )
    kept = [student.kept.valid_accuracy for student in students if student.kept]
    detail = f", mean validation accuracy {sum(kept) / len(kept):.2%}" if kept else ""
    if lost := len(students) - len(kept):
        detail += f"; {lost} of {counted(len(students), 'seed')} diverged"
    echo(f"wrote {out}: {counted(len(kept), 'seed')}{detail}")


def soft_of(data: Place, live: bool, given: Distillation) -> "Soft":
    """The soft targets and their loss, from these settings."""
    from pipeline.training.course import Course
    from pipeline.training.curriculum import parse_curriculum
    from pipeline.training.features import FeatureLoss
    from pipeline.training.lesson import Soft
    from pipeline.training.losses import SoftLoss

    folder = data / ("teachers" if live else "caches")
    loss = SoftLoss.parse(given.loss, squared=given.t_squared, standardised=given.standardise)
    course = Course.parse(temperature=given.temperature_schedule, alpha=given.alpha_schedule, warmup=given.loss_warmup)
    teachers = {teacher: folder / teacher for teacher in given.teachers}
    features = tuple(map(FeatureLoss.parse, given.features))
    heat = None if given.learn_temperature is None else parse_curriculum(given.learn_temperature)
    return Soft(teachers, given.rule, loss, given.weights or None, live, course, features, heat)
