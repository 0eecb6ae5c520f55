"""What the commands share: settings out of params.yaml, option types, and the options that several commands take."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import InputError


class Stage(click.Command):
    """A command whose options default to sections of params.yaml.

    sections: section → the keys that it may have, where a later section comes before an earlier one and {name} is the
    command's NAME argument; a key that is no option here is another command's. `unless` names a flag and the sections that
    it leaves unread. collect: instead of sections, a function from all of params.yaml to option values.
    """

    def __init__(
        self,
        *args: Any,
        sections: Mapping[str, tuple[str, ...]] | None = None,
        unless: tuple[str, tuple[str, ...]] = ("", ()),
        collect: Callable | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.sections = sections or {}
        self.unless = unless
        self.collect = collect

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing and not set(args) & set(ctx.help_option_names):
            given, _, _ = self.make_parser(ctx).parse_args(list(args))
            name, path = (value if isinstance(value := given.get(key), str) else None for key in ("name", "params"))
            params = Params.read(Path(path) if path else None)
            if name is not None:
                Name().convert(name, None, ctx)
            if params is not None and ("name" not in given or name is not None):  # else click says that NAME is missing
                settings = self.collect(params) if self.collect else self._settings(params, name, given)
                ctx.default_map = {key: value for key, value in settings.items() if value is not None}  # null: the default
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; one that takes --work within `ctx.obj`, which notes its time (see cli.py)."""
        given = ctx.params
        if "work" not in given or ctx.obj is None:
            return super().invoke(ctx)
        what = {"command": ctx.info_name, "name": given.get("name") or "", "run": self.run_name(given)}
        with ctx.obj(given["data"], **what, device=given["device"], threads=given["threads"]):
            return super().invoke(ctx)

    def run_name(self, given: Mapping[str, Any]) -> str:
        """What the output of these options is called among those of the command."""
        return given.get("name") or ""

    def _settings(self, params: "Params", name: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
        flag, unread = self.unless
        settings: dict[str, Any] = {}
        for section, known in self.sections.items():
            if section in unread and given.get(flag) is True:
                continue
            dotted = section.format(name=name)
            for key, value in params.section(dotted).items():
                if key not in known:
                    expected = f"one of {', '.join(known)}"
                    raise params.error(f"{dotted}.{key}", expected, repr(key), "Correct or remove the key.")
                if isinstance(value, Mapping):
                    raise params.error(f"{dotted}.{key}", "a value", "a section", "Write `key: value`.")
                option = next((option for option in self.params if option.name == key), None)
                if option is None:
                    continue
                if option.multiple and value is not None and not isinstance(value, list):
                    raise params.error(f"{dotted}.{key}", "a list such as [0, 1]", repr(value), "Write it in brackets.")
                settings[key] = value
        return settings


@dataclass(frozen=True)
class Params:
    """The file of settings, read."""

    path: Path
    values: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path | None) -> "Params | None":
        """Read `path`, or params.yaml where none is named; None where that is not there either."""
        if path is None and not (path := Path("params.yaml")).exists():
            return None
        try:
            values = YAML(typ="safe", pure=True).load(path)
        except FileNotFoundError as error:
            raise InputError(str(path), expected="a file of settings", found="none", fix="Correct --params.") from error
        except (YAMLError, UnicodeDecodeError) as error:
            found = " ".join(str(error).split())
            raise InputError(str(path), expected="YAML", found=found, fix="Correct the file.") from error
        if values is not None and not isinstance(values, Mapping):
            raise InputError(str(path), expected="sections", found=type(values).__name__, fix="Write `section: {…}`.")
        return cls(path, values or {})

    def section(self, dotted: str) -> Mapping[str, Any]:
        """A section; raises InputError that lists what is there. A section that is empty is fine."""
        found: Any = self.values
        for key in dotted.split("."):
            if not isinstance(found, Mapping) or key not in found:
                names = ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
                raise self.error(dotted, f"a section {key!r}", names or "none", "Add it, or correct the name.")
            found = found[key]
        if found is not None and not isinstance(found, Mapping):
            raise self.error(dotted, "a section", repr(found), "Write `key: value` lines.")
        return found or {}

    def error(self, where: str, expected: str, found: str, fix: str) -> InputError:
        """An error at a place in this file."""
        return InputError(f"{self.path}, {where}", expected=expected, found=found, fix=fix)


def example(line: str) -> str:
    """What a command's help ends in."""
    return f"\b\nExample:\n  {line}"


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 seed, 5 seeds."""
    return f"{number:,} {noun if number == 1 else f'{noun}s'}"


def cache_folder(data: Path, cache: str) -> Path:
    """A cache as people name it: by its teacher's name below data/caches/, or by a path, which has a slash in it."""
    return Path(cache) if "/" in cache else data / "caches" / cache


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
        text = str(value)
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?", text) or not 0 < float(text) < math.inf:
            self.fail(f"{value!r}: expected a number above 0.", param, ctx)
        return text


class Whole(click.ParamType):
    """A whole number; click's own type would cut 1.9 down to 1."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if not re.fullmatch(r"[+-]?[0-9]+", str(value)):
            self.fail(f"{value!r}: expected a whole number.", param, ctx)
        return int(value)


class Number(click.types.FloatParamType):
    """A number; click's own type breaks at a list."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, bool | list):
            self.fail(f"{value!r}: expected a number.", param, ctx)
        return super().convert(value, param, ctx)


class Switch(click.types.BoolParamType):
    """true or false; click's own type takes what YAML calls a number for text, and breaks."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool | None:
        return super().convert(value if isinstance(value, bool) else str(value), param, ctx)


class SourceOrAmount(click.ParamType):
    """`digits` or a path, or a number: the share or count of rows to carve out of the training rows."""

    name = "source|amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | float:
        if isinstance(value, bool | list):
            self.fail(f"{value!r}: expected a source, a share or a count.", param, ctx)
        try:
            number = float(value)
        except ValueError:
            return str(value)
        if not math.isfinite(number):
            self.fail(f"{value!r}: expected a share or a count.", param, ctx)
        return number


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
work_option = click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="SOFTCACHE_WORK",
    default=".softcache",
    show_default=True,
    show_envvar=True,
    help="Where unfinished captures and trainings are kept.",
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
        "--threads", type=Whole(), envvar="SOFTCACHE_THREADS", show_envvar=True, help="CPU threads.  [default: every core]"
    ),
)
MODEL_HELP = "mlp(hidden=[…], dropout, input_dropout), cnn(channels=[…], dropout), or package.module:attribute(…)."
RECIPE = ("optimizer", "schedule", "epochs", "batch_size", "max_norm", "memory", "keep", "patience", "precision")
VIEWS = ("policy", "views", "view_seed")
recipe_options = options(
    click.option("--optimizer", required=True, help="Such as `sgd(lr=0.1, momentum=0.9)` or `adamw(lr=0.001)`."),
    click.option("--schedule", default="constant", show_default=True, help="constant, cosine(warmup=…), one_cycle(…)."),
    click.option("--epochs", type=Whole(), required=True, help="Passes over the rows."),
    click.option("--batch_size", "--batch-size", type=Whole(), required=True, help="Rows of one step."),
    click.option("--max_norm", "--max-norm", type=Number(), help="Largest norm of the weights into a unit."),
    click.option(
        "--memory",
        type=Number(),
        default=4.0,
        show_default=True,
        help="GB for pixels and cached logits; what takes more is streamed in windows.",
    ),
    click.option(
        "--keep", default="last", show_default=True, help="Which weights: of the last epoch, or of the best on valid."
    ),
    click.option("--patience", type=Whole(), help="Stop after so many epochs without a better one; with keep best."),
    click.option("--precision", default="float32", show_default=True, help="Of products in training: float32 or bfloat16."),
)
views_options = options(
    click.option("--policy", default="none", show_default=True, help="Views of a row, such as `shift(2) | flip()`."),
    click.option("--views", type=Whole(), default=1, show_default=True, help="Views of a row; the first is the row itself."),
    click.option("--view_seed", "--view-seed", type=Whole(), default=0, show_default=True, help="Seed of the views."),
)
