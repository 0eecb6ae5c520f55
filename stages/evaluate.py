"""softcache evaluate: metrics and plots of every run."""

from typing import Any

import click

from pipeline.base.places import Place
from stages.options import (
    Name,
    Number,
    Params,
    Stage,
    Temperature,
    Text,
    counted,
    data_option,
    example,
    machine_options,
    option,
    params_option,
    work_option,
)
from stages.terminal import echo


def _collect(params: Params) -> dict[str, Any]:
    """The runs to evaluate: those that params.yaml names, whatever else is on disk."""
    distill = params.section("distill")
    settings = {
        "teachers": list(params.section("teachers")),
        "students": list(params.section("students")),
        "temperatures": params.values.get("temperatures"),
        "ensemble": distill.get("teachers"),
        "weights": distill.get("weights"),
    }
    return {name: params.listed(name, value) for name, value in settings.items()} | {"rule": distill.get("rule")}


@click.command(
    cls=Stage,
    short_help="Measure teachers, the ensemble, baselines and students.",
    epilog=example("softcache evaluate && dvc metrics show"),
    collect=_collect,
)
@option("--teachers", type=Name(), multiple=True, required=True, help="Teachers; repeatable.")
@option("--students", type=Name(), multiple=True, help="Students; repeatable.")
@option("--temperatures", type=Temperature(), multiple=True, help="Temperatures; repeatable.")
@option("--ensemble", type=Name(), multiple=True, help="Teachers that the students learned from; repeatable.")
@option("--weights", type=Number(), multiple=True, repeats=True, help="Weight of each; repeatable.  [default: equal]")
@option(
    "--rule",
    type=Text(),
    default="probabilities",
    show_default=True,
    help="What the ensemble averages: probabilities or logits.",
)
@params_option
@data_option
@work_option
@machine_options
def command(
    teachers: tuple[str, ...],
    students: tuple[str, ...],
    temperatures: tuple[float, ...],
    ensemble: tuple[str, ...],
    weights: tuple[float, ...],
    rule: str,
    params: str,
    data: Place,
    work: Place,
    device: str,
    threads: int,
) -> None:
    """Measure every teacher, the ensemble, and every baseline and student; write data/plots/."""
    from pipeline.base import commands, runtime
    from pipeline.models.runname import run_name
    from pipeline.results.evaluate import Trained, evaluate

    folder = data / "students"
    trained = []
    settings: list[tuple[str, float | None]] = [(name, None) for name in students]
    for name, t in settings + [(name, t) for name in students for t in temperatures]:
        run = run_name(name, t)
        trained.append(Trained(run, name, t, folder / run, commands.distill(name, t, folder / run)))
    found = evaluate(
        splits=data / "transfer",
        teachers={name: (data / "teachers" / name, data / "caches" / name) for name in teachers},
        ensemble=ensemble or teachers,
        rule=rule,
        weights=weights or None,
        students=trained,
        work=work,
        plots_out=data / "plots",
        device=runtime.prepare(device, threads=threads),
    )
    left_out = f", {len(found.missing)} not trained yet" if found.missing else ""
    echo(f"wrote {data / 'plots'}: {counted(len(found.runs), 'run')}{left_out}")
