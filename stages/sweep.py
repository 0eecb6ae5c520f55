"""softcache sweep: students × temperatures × alphas × seeds from the same caches."""

from pathlib import Path
from typing import Any

import click

from stages import distill
from stages.options import (
    RECIPE,
    Name,
    Params,
    Stage,
    Temperature,
    Whole,
    counted,
    data_option,
    example,
    machine_options,
    params_option,
    work_option,
)

SECTIONS = ("recipe", "views", "distill", "students", "temperatures", "sweep")  # what the command reads


def _collect(params: Params) -> dict[str, Any]:
    """What varies; all else is read as `softcache distill` reads it."""
    section = params.section("sweep") if "sweep" in params.values else {}
    known = ("students", "temperatures", "alphas", "together")
    if unknown := [key for key in section if key not in known]:
        raise params.error(f"sweep.{unknown[0]}", f"one of {', '.join(known)}", repr(unknown[0]), "Correct or remove the key.")
    settings = {
        "students": list(params.section("students")),
        "temperatures": params.values.get("temperatures"),
        **{key: value for key, value in section.items() if value is not None},
    }
    for name in ("students", "temperatures", "alphas"):
        if settings.get(name) is not None and not isinstance(settings[name], list):
            raise params.error(f"sweep.{name}", "a list such as [1, 4]", repr(settings[name]), "Write it in brackets.")
    return settings


@click.command(cls=Stage, epilog=example("softcache sweep --alphas 0.5 --alphas 0.9"), collect=_collect)
@click.option("--students", type=Name(), multiple=True, required=True, help="Students; repeatable.")
@click.option("--temperatures", type=Temperature(), multiple=True, required=True, help="Temperatures; repeatable.")
@click.option("--alphas", type=Temperature(), multiple=True, help="Weights of the soft loss; repeatable.  [default: distill's]")
@click.option("--together", type=Whole(), default=64, show_default=True, help="Students of one seed that share each step.")
@params_option
@data_option
@work_option
@machine_options
@click.pass_context
def command(
    ctx: click.Context,
    students: tuple[str, ...],
    temperatures: tuple[str, ...],
    alphas: tuple[str, ...],
    together: int,
    params: str | None,
    data: Path,
    work: Path,
    device: str,
    threads: int,
) -> None:
    """Train every student at every temperature and alpha, and its baseline, and write data/sweep/: students, metrics, plots.

    Settings are those of `softcache distill`. Students of one seed are trained together, on batches that they share.
    Stopped at any moment, it goes on from the last epoch that it kept, and ends with the same bits.
    """
    from pipeline import runtime
    from pipeline.evaluate import best
    from pipeline.objective import Weighing
    from pipeline.report import finding
    from pipeline.sweep import sweep

    given = {name: _settings(name, temperatures[0], params) for name in students}
    plans = {name: _plan(settings, data) for name, settings in given.items()}
    first = given[students[0]]
    shares = [float(alpha) for alpha in alphas] or [first["alpha"]]
    out = data / "sweep"
    runs = sweep(
        plans=plans,
        weighings=[Weighing(float(t), alpha, first["label_weight"]) for t in temperatures for alpha in shares],
        together=together,
        teachers={name: data / "teachers" / name for name in first["teachers"]},
        splits=data / "transfer",
        work=work,
        out=out,
        device=runtime.prepare(device, threads=threads),
    )
    for row in best(runs):
        click.echo(finding(row))
    count = sum(len(run.seeds) for run in runs if run.student)
    click.echo(f"wrote {out}: {counted(count, 'student')}, seeds counted, in students, metrics and plots")


def _settings(name: str, temperature: str, params: str | None) -> dict[str, Any]:
    """The settings of one student, by the road that `softcache distill` takes."""
    words = [name, "-T", temperature, *(("--params", params) if params else ())]
    try:
        return distill.command.make_context("distill", words).params
    except click.UsageError as error:
        raise click.UsageError(f"student {name}: {error.format_message()}", click.get_current_context()) from error


def _plan(settings: dict[str, Any], data: Path):
    from pipeline.fit import Recipe
    from pipeline.lesson import Views
    from pipeline.sweep import Plan

    return Plan(
        model=settings["model"],
        recipe=Recipe.parse(**{key: settings[key] for key in RECIPE}),
        views=Views(settings["policy"], settings["views"], settings["view_seed"]),
        rows=settings["rows"],
        soft=distill.soft_of(data, False, settings),
        correct=settings["correct"],
        seeds=settings["seeds"],
    )
