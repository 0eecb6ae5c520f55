"""What the commands share: settings out of params.yaml, option types, and the options that several commands take."""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import InputError


class Stage(click.Command):
    """A command whose options default to sections of params.yaml.

    sections: names such as `capture` or `teachers.{name}`, where {name} is the command's NAME argument; a later
    section comes before an earlier one. collect: instead, a function from all of params.yaml to option values.
    """

    def __init__(self, *args: Any, sections: tuple[str, ...] = (), collect: Callable | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.sections = sections
        self.collect = collect

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing and not set(args) & set(ctx.help_option_names):
            given, _, _ = self.make_parser(ctx).parse_args(list(args))
            name, path = (value if isinstance(value := given.get(key), str) else None for key in ("name", "params"))
            params = _read(Path(path) if path else None)
            if name is not None:
                Name().convert(name, None, ctx)
            if params is not None and ("name" not in given or name is not None):  # else click says that NAME is missing
                settings = self.collect(params) if self.collect else self._settings(params, name)
                ctx.default_map = {key: value for key, value in settings.items() if value is not None}  # null: the default
        return super().parse_args(ctx, args)

    def _settings(self, params: Mapping[str, Any], name: str | None) -> dict[str, Any]:
        known = [parameter.name for parameter in self.params if isinstance(parameter, click.Option)]
        settings: dict[str, Any] = {}
        for section in self.sections:
            for key, value in section_of(params, section.format(name=name)).items():
                if key not in known:
                    raise InputError(
                        f"params.yaml, {section.format(name=name)}.{key}",
                        expected=f"one of {', '.join(sorted(known))}",
                        found=repr(key),
                        fix="Correct or remove the key.",
                    )
                settings[key] = value
        return settings


def section_of(params: Mapping[str, Any], dotted: str) -> Mapping[str, Any]:
    """A section of params.yaml; raises InputError that lists what is there. A section that is empty is fine."""
    found: Any = params
    for key in dotted.split("."):
        if not isinstance(found, Mapping) or key not in found:
            names = ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
            raise InputError(
                f"params.yaml, {dotted}",
                expected=f"a section {key!r}",
                found=names or "none",
                fix="Add it, or correct the name.",
            )
        found = found[key]
    if found is not None and not isinstance(found, Mapping):
        raise InputError(f"params.yaml, {dotted}", expected="a section", found=repr(found), fix="Write `key: value` lines.")
    return found or {}


def _read(path: Path | None) -> Mapping[str, Any] | None:
    """Read params.yaml; None where none was named and none is there."""
    if path is None and not (path := Path("params.yaml")).exists():
        return None
    try:
        return YAML(typ="safe", pure=True).load(path) or {}
    except FileNotFoundError as error:
        raise InputError(str(path), expected="a file of settings", found="none", fix="Correct --params.") from error
    except YAMLError as error:
        found = " ".join(str(error).split())
        raise InputError(str(path), expected="YAML", found=found, fix="Correct the file.") from error


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 seed, 5 seeds."""
    return f"{number:,} {noun if number == 1 else f'{noun}s'}"


# ---------------------------------------------------------------- option types


class Name(click.ParamType):
    """A name that is safe in paths, in the commands of dvc.yaml and in dotted parameters."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", str(value)):
            self.fail(f"{value!r}: expected letters, digits, '_' and '-' only.", param, ctx)
        return str(value)


class Temperature(click.ParamType):
    """A number above 0, kept as it was written because it names a folder."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not 0 < number < math.inf:
            self.fail(f"{value!r}: expected a number above 0.", param, ctx)
        return str(value)


class SourceOrAmount(click.ParamType):
    """`digits` or a path, or a number: the share or count of rows to carve out of the training rows."""

    name = "source|amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | float:
        try:
            return float(value)
        except ValueError:
            return str(value)


# ---------------------------------------------------------------- options


def options(*decorators: Callable) -> Callable:
    """Several option decorators as one, in the order given."""

    def apply(function: Callable) -> Callable:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


params_option = click.option("--params", type=click.Path(dir_okay=False), help="File of settings.  [default: params.yaml]")
data_option = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default="data",
    show_default=True,
    help="Where data lies.",
)
machine_options = options(
    click.option(
        "--device",
        envvar="SOFTCACHE_DEVICE",
        default="auto",
        show_default=True,
        show_envvar=True,
        help="cpu, cuda, cuda:N.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(1),
        envvar="SOFTCACHE_WORKERS",
        default=1,
        show_default=True,
        show_envvar=True,
        help="Processes that share the cores; each gets its share of threads.",
    ),
)
recipe_options = options(
    click.option("--optimizer", required=True, help="Such as `sgd(lr=0.1, momentum=0.9)` or `adamw(lr=0.001)`."),
    click.option("--schedule", default="constant", show_default=True, help="constant, cosine(warmup=…), one_cycle(…)."),
    click.option("--epochs", type=int, required=True, help="Passes over the rows."),
    click.option("--batch_size", "--batch-size", type=int, required=True, help="Rows of one step."),
    click.option("--max_norm", "--max-norm", type=float, help="Largest norm of the weights into a unit."),
)
views_options = options(
    click.option("--policy", default="none", show_default=True, help="Views of a row, such as `shift(2) | flip()`."),
    click.option("--views", type=int, default=1, show_default=True, help="Views of each row; the first is the row as it is."),
    click.option("--view_seed", "--view-seed", type=int, default=0, show_default=True, help="Seed of the views."),
)
