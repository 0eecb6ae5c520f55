"""softcache export: a net as a folder that runs without this project."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from pipeline.results.exporting import Exporting
from stages.options import (
    Found,
    Params,
    Stage,
    Text,
    Type,
    counted,
    example,
    keys,
    local_data_option,
    options_of,
    params_option,
)
from stages.terminal import echo


class RunName(Type):
    """The name of a run: of a student or a teacher, or of a sweep and a student in it."""

    name = "run"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = Text().convert(value, param, ctx)
        part = "[A-Za-z0-9][A-Za-z0-9_.-]{0,199}"
        if not re.fullmatch(f"({part}/)?{part}", text):
            self.fails(value, "a name such as tiny-T4, or alphas/tiny-T4-alpha0.5", param, ctx)
        return text


class Export(Stage):
    """Reads exports.RUN of params.yaml where there is one; any other run can be exported as well."""

    def _settings(self, params: Params, name: str | None, given: Mapping[str, Any]) -> dict[str, Found]:
        entries = params.names("exports")
        if dotted := next((each for each in entries if "." in each or "/" in each), None):
            fix = f"Run `softcache export {dotted}`, with options."
            raise params.error("exports", "names without '.' and '/', which DVC cannot address", dotted, fix)
        return super()._settings(params, name, given) if name in entries else {}


@click.command(
    cls=Export,
    short_help="Write a net as a folder to deploy.",
    epilog=example("softcache export tiny-T4 --license mit"),
    sections={"exports.{name}": keys(Exporting)},
)
@click.argument("name", metavar="RUN", type=RunName())
@options_of(Exporting, "settings")
@params_option
@local_data_option
def command(name: str, settings: Exporting, params: str | None, data: Path) -> None:
    """Write the net of RUN to data/exports/RUN/, a folder that runs without this project.

    RUN is a student, such as tiny-T4, one of a sweep, such as alphas/tiny-T4-alpha0.5, or a teacher. The folder has its weights
    as safetensors, its forward pass as Python, ONNX models in float and in int8, a model card, and softcache_export.py, which
    runs them. On validation rows, probabilities must be those of the net in torch, or nothing is written; what int8 loses there
    is on the card.
    """
    from pipeline.base import runtime
    from pipeline.results.export import export

    runtime.prepare("cpu")
    out = data / "exports" / name
    found = export(run=name, data=data, out=out, settings=settings)
    for file, model in found.models.items():
        times = ", ".join(f"{1000 * seconds:.3f} ms for {counted(size, 'row')}" for size, seconds in model.seconds.items())
        echo(f"{file:16} {model.accuracy:.2%} of {model.rows:,} validation rows; on one thread {times}")
    echo(f"wrote {out}: seed {found.seed}; its card is {out / 'README.md'}")
