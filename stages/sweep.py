"""softcache sweep: students × temperatures × alphas × seeds from the same caches."""

import copy
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.base.crew import Workers
from pipeline.base.places import Place
from pipeline.base.settings import gathered
from pipeline.data.settings import Views
from pipeline.models.training import Training
from pipeline.training.settings import Distillation
from stages import distill
from stages.options import (
    Found,
    Name,
    Number,
    Params,
    Stage,
    Switch,
    Temperature,
    Whole,
    anew_option,
    counted,
    crew_options,
    data_option,
    example,
    machine_options,
    option,
    params_option,
    work_option,
)
from stages.terminal import echo

if TYPE_CHECKING:
    from pipeline.studies.groups import Plan

_VARIED = ("students", "temperatures", "alphas", "baseline", "together", "mutual", "live")
SECTIONS = ("recipe", "views", "distill", "students", "temperatures", "sweeps.{name}")  # that the command reads


class Sweep(Stage):
    """Reads what varies; other settings are read as in `softcache distill`, and sweeps.NAME overrides them."""

    def _settings(self, params: Params, name: str | None, given: Mapping[str, Any]) -> dict[str, Found]:
        own = super()._settings(params, name, given)
        if {"alpha", "alphas"} <= params.section(f"sweeps.{name}").keys():
            raise params.error(f"sweeps.{name}", "alpha or alphas", "both", "Remove one of them.")
        temperatures = params.listed("temperatures", params.values.get("temperatures"))
        usual = {
            "students": Found(list(params.section("students")), "students"),
            "temperatures": Found(temperatures, "temperatures"),
        }
        return usual | {key: found for key, found in own.items() if found.value is not None}


@click.command(
    cls=Sweep,
    short_help="Train students × temperatures × alphas × seeds, and measure.",
    epilog=example("softcache sweep alphas --alphas 0.5 --alphas 0.9"),
    sections={"sweeps.{name}": (*_VARIED, *distill.KEYS)},
)
@click.argument("name", type=Name())
@option("--students", type=Name(), multiple=True, required=True, help="Students; repeatable.")
@option("--temperatures", type=Temperature(), multiple=True, help="Temperatures; repeatable.")
@option("--alphas", type=Number(), multiple=True, help="Weights of the soft loss; repeatable.  [default: distill's]")
@option(
    "--baseline/--no-baseline", type=Switch(), default=True, show_default=True, help="Also train each student on labels alone."
)
@option("--together", type=Whole(), default=64, show_default=True, help="Students of one seed that share each step.")
@option(
    "--mutual",
    type=Number(),
    default=0.0,
    show_default=True,
    help="Weight of what students of different seeds learn from each other.",
)
@option(
    "--live/--no-live",
    type=Switch(),
    default=False,
    show_default=True,
    help="Run the teachers in the loop instead of reading their caches.",
)
@anew_option
@params_option
@data_option
@work_option
@machine_options
@crew_options
def command(
    name: str,
    students: tuple[str, ...],
    temperatures: tuple[float, ...],
    alphas: tuple[float, ...],
    baseline: bool,
    together: int,
    mutual: float,
    live: bool,
    anew: bool,
    params: str | None,
    data: Place,
    work: Place,
    device: str,
    threads: int | None,
    workers: Workers,
) -> None:
    """Train every student at every temperature and alpha, and its baseline; measure them; write all to data/sweeps/NAME/.

    The section sweeps.NAME of params.yaml says what varies. It may have any setting of `softcache distill` for all of its
    students: teachers, views, rows, epochs. Students of one seed are trained together, on the same batches.
    A sweep that was stopped goes on from the last epoch that it saved, and ends with the same bits.

    With --mutual or --live students learn online, for comparison with those that learn from caches: the former from each
    other while they train, one stack of all seeds; the latter from teachers that run on every batch. Baselines do neither.
    """
    from pipeline.base import runtime
    from pipeline.results.wording import finding
    from pipeline.studies.sweep import sweep
    from pipeline.training.objective import LossWeights

    if alphas and baseline and not temperatures:
        raise click.UsageError("alphas without temperatures: only a baseline would be trained; give both, or neither.")
    if (mutual or live) and not temperatures:
        raise click.UsageError("mutual or live without temperatures: only baselines would be trained, which do neither.")
    given = {student: settings_of(student, name, params) for student in students}
    plans = {student: _plan(settings, data, live) for student, settings in given.items()}
    first = given[students[0]]
    shares = alphas or [first["alpha"]]
    out = data / "sweeps" / name
    found = sweep(
        plans=plans,
        weightings=[
            LossWeights(t, alpha, first["label_weight"], mutual, bool(first["features"]))
            for t in temperatures
            for alpha in shares
        ],
        baseline=baseline,
        together=together,
        anew=anew,
        teachers={teacher: data / "teachers" / teacher for teacher in first["teachers"]},
        splits=data / "transfer",
        work=work,
        out=out,
        device=runtime.prepare(device, threads=threads),
        workers=workers,
    )
    for row in found.best:
        echo(finding(row))
    elsewhere = () if data == Path("data") else ("--data", str(data))
    echo(f"To see every run: {shlex.join(('softcache', 'report', str(out), '--out', str(out / 'report'), *elsewhere))}")
    count, lost = (sum(len(getattr(run, side)) for run in found.runs if run.student) for side in ("seeds", "diverged"))
    detail = f"; {lost} more diverged" if lost else ""
    echo(f"wrote {out}: {counted(count, 'student')} over all seeds, metrics and plots{detail}")


def settings_of(student: str, sweep: str, params: str | None) -> dict[str, Any]:
    """The settings of one student, read as `softcache distill` reads them."""
    command = copy.copy(distill.command)
    command.sections = command.sections | {f"sweeps.{sweep}": (*_VARIED, *distill.KEYS)}
    words = [student, *(("--params", params) if params else ())]
    try:
        return command.make_context("distill", words).params
    except click.UsageError as error:
        raise click.UsageError(
            f"student {student}: {error.format_message()}", click.get_current_context(silent=True)
        ) from error


def _plan(settings: Mapping[str, Any], data: Place, live: bool) -> "Plan":
    from pipeline.studies.groups import Plan
    from pipeline.training.recipe import Recipe

    return Plan(
        model=settings["model"],
        recipe=Recipe.parse(**vars(gathered(Training, settings))),
        views=gathered(Views, settings),
        rows=settings["rows"],
        soft=distill.soft_of(data, live, gathered(Distillation, settings)),
        correct=settings["correct"],
        seeds=settings["seeds"],
    )
