"""What the commands share: settings from params.yaml, option types, and the options that several commands have."""

import difflib
import functools
import math
import re
import reprlib
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn, get_args, get_origin, get_type_hints

import click
from click.core import ParameterSource
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.base import settings as base
from pipeline.base.commands import short
from pipeline.base.crew import Workers
from pipeline.base.errors import InputError, first_line
from pipeline.base.places import ObjectPlace, Place, place
from pipeline.base.settings import Setting, gathered, settings_of
from pipeline.data import scratch
from pipeline.data.scratch import WORK
from pipeline.models.temperature import LEAST, MOST

_LEAST_SHARE = 0.0001  # that Ray can count
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_repr = reprlib.Repr()
_repr.maxlevel, _repr.maxlist, _repr.maxdict, _repr.maxstring, _repr.maxother = 4, 20, 20, 200, 200


def _shown(value: Any) -> str:
    """A value from YAML, cut to a length that a message can show."""
    try:
        return _repr.repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of very many digits"


class Wrong(click.BadParameter):
    """A value that is not what was expected."""

    def __init__(self, found: str, expected: str, param: click.Parameter | None, ctx: click.Context | None, message: str = ""):
        super().__init__(message or f"{found}: expected {expected}.", ctx, param)
        self.found, self.expected = found, expected


class Option(click.Option):
    """An option that may be given once; with `multiple`, any number of times with different values.

    repeats: its values may be equal, such as weights. setting: the range of its values.
    """

    def __init__(self, *args: Any, repeats: bool = False, setting: Setting | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.repeats, self.setting = repeats, setting

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Let the parser collect every value; click's own keeps the last and drops the others."""
        multiple, self.multiple = self.multiple, True
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.multiple = multiple

    def handle_parse_result(self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]) -> tuple[Any, list[str]]:
        given = opts.get(self.name)
        if isinstance(given, list) and not self.multiple:
            if len(given) > 1 and not ctx.resilient_parsing:
                raise click.BadParameter(f"given {len(given)} times; give it once.", ctx, self)
            opts = {**opts, self.name: given[0]}
        return super().handle_parse_result(ctx, opts, args)

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """Convert and check the value; an error about a value from params.yaml names its key there."""
        try:
            found = super().process_value(ctx, value)
            self._check(ctx, found)
        except Wrong as error:
            source = ctx.get_parameter_source(str(self.name))
            if source is ParameterSource.DEFAULT_MAP and self.name in (places := ctx.meta.get(_PLACES, {})):
                what, fix = places[self.name], "Correct the setting."
                raise InputError(what, expected=error.expected, found=error.found, fix=fix) from error
            if source is ParameterSource.COMMANDLINE and self.multiple and "," in error.found:
                message = f"{error.message} To give several, repeat the option: {self.opts[0]} … {self.opts[0]} …"
                raise Wrong(error.found, error.expected, self, ctx, message) from error
            raise
        return found

    def _check(self, ctx: click.Context, found: Any) -> None:
        several = found if self.multiple else (found,)
        for index, each in enumerate(several):
            if each in several[:index] and not self.repeats:
                twice = f"{short(each) if isinstance(each, float) else repr(each)} twice"
                raise Wrong(twice, "each value once", self, ctx, f"{twice}; give each value once.")
            if self.setting and each is not None and not self.setting.allows(each):
                raise Wrong(repr(each), self.setting.expected, self, ctx)


option = functools.partial(click.option, cls=Option)
_PLACES = "softcache.places"  # key in ctx.meta: where in params.yaml each setting was found


class Stage(click.Command):
    """A command whose options take their defaults from sections of params.yaml.

    sections: section → the keys that it may have. A later section overrides an earlier one; {name} is the NAME argument; a
    key that is not an option of this command belongs to another command. unless: a flag, and the sections that are not read
    with it. alone: options that say enough for a NAME that params.yaml does not have. collect: instead of sections, a
    function from all of params.yaml to option values.
    """

    def __init__(
        self,
        *args: Any,
        sections: Mapping[str, tuple[str, ...]] | None = None,
        unless: tuple[str, tuple[str, ...]] = ("", ()),
        alone: tuple[str, ...] = (),
        collect: "Callable[[Params], Mapping[str, Any]] | None" = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.sections = dict(sections or {})
        self.unless = unless
        self.alone = alone
        self.collect = collect

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing and not set(args) & set(ctx.help_option_names):
            given = self._look(ctx, args)
            params = Params.read(Path(given["params"]) if given.get("params") else None)
            if params is not None and ("name" not in given or given["name"] is not None):  # else click reports it
                found = {} if self.collect else self._settings(params, given.get("name"), given)
                ctx.meta[_PLACES] = {key: f"{params.path}, {each.place}" for key, each in found.items()}
                values = self.collect(params) if self.collect else {key: each.value for key, each in found.items()}
                ctx.default_map = {key: value for key, value in values.items() if value is not None}  # null: the default
        return super().parse_args(ctx, args)

    def _look(self, ctx: click.Context, args: list[str]) -> dict[str, Any]:
        """The values on the command line, without errors; None for what is missing or wrong."""
        look = self.context_class(self, parent=ctx.parent, info_name=ctx.info_name, resilient_parsing=True)
        super().parse_args(look, list(args))
        return look.params

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; where it has --work, inside `ctx.obj`, which notes its time (see cli.py)."""
        given = ctx.params
        if "work" in given:
            scratch.use(given["work"])
        if "work" not in given or ctx.obj is None or not isinstance(given["data"], Path):  # a store has no times.csv
            return super().invoke(ctx)
        what = {"command": ctx.info_name, "name": given.get("name") or "", "run": self.run_name(given)}
        with ctx.obj(given["data"], **what, device=given["device"], threads=given["threads"]):
            return super().invoke(ctx)

    def run_name(self, given: Mapping[str, Any]) -> str:
        """The name of the output that the command writes with these options."""
        return given.get("name") or ""

    def _settings(self, params: "Params", name: str | None, given: Mapping[str, Any]) -> dict[str, "Found"]:
        flag, unread = self.unless
        settings: dict[str, Found] = {}
        for section, known in self.sections.items():
            if section in unread and given.get(flag) is True:
                continue
            whole, _, of_name = section.partition(".")
            if of_name and self.alone and name not in params.names(whole):
                if any(given.get(key) for key in self.alone):
                    continue
                wanted = " or ".join(f"--{key}" for key in self.alone)
                there = ", ".join(params.names(whole)) or "none"
                raise params.error(section.format(name=name), f"a section {name!r}", there, f"Add it, or give {wanted}.")
            dotted = section.format(name=name)
            for key, value in params.section(dotted).items():
                if key not in known:
                    expected = f"one of {', '.join(known)}"
                    torn = value is None and "=" in str(key)  # the rest of a spec in a {…} of YAML, cut at its comma
                    fix = "Put the spec before it in quotes." if torn else "Correct or remove the key."
                    raise params.error(f"{dotted}.{key}", expected, _shown(key), fix)
                taker = next((each for each in self.params if each.name == key), None)
                if isinstance(value, Mapping) and not (taker and isinstance(taker.type, ClassMap)):
                    if taker is None:
                        continue
                    raise params.error(f"{dotted}.{key}", "a value", "a section", "Write `key: value`.")
                if taker is None:
                    continue
                if taker.multiple and value is not None and not isinstance(value, list):
                    fix = f"Write it in brackets: [{_shown(value)}]."  # a text stands in quotes there, as its commas need
                    raise params.error(f"{dotted}.{key}", "a list", _shown(value), fix)
                if taker.multiple and value is not None and None in value:
                    raise params.error(f"{dotted}.{key}", "a list of values", _shown(value), "Leave null out of it.")
                settings[key] = Found(value, f"{dotted}.{key}")
        return settings


class Found(NamedTuple):
    """A value in params.yaml, and its dotted key there."""

    value: Any
    place: str


SECTIONS = (
    "ingest", "teach", "teachers", "views", "capture", "recipe", "students", "temperatures", "distill", "sweeps", "exports",
    "published",
)  # fmt: skip


@dataclass(frozen=True)
class Params:
    """The settings of a YAML file such as params.yaml."""

    path: Path
    values: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path | None) -> "Params | None":
        """Read `path`, or params.yaml if no path is given; None if params.yaml does not exist."""
        if path is None:
            path = Path("params.yaml")
            if not path.exists():
                return None
        return cls.of(path)

    @classmethod
    def of(cls, path: Path, fix: str = "Correct --params.") -> "Params":
        """Read a file; raises InputError where it is not a YAML file of sections."""
        try:
            values = _loaded(path.read_bytes())
        except FileNotFoundError as error:
            raise InputError(str(path), expected="a file of settings", found="none", fix=fix) from error
        except RecursionError as error:
            found = "one of so many levels that it cannot be read"
            raise InputError(str(path), expected="YAML", found=found, fix="Correct the file.") from error
        except (YAMLError, ValueError, TypeError, AttributeError, LookupError, OverflowError, AssertionError) as error:
            found = " ".join(str(error).split()) or first_line(error)  # all that ruamel.yaml raises for odd texts
            raise InputError(str(path), expected="YAML", found=found, fix="Correct the file.") from error
        values = {} if values is None else values
        if not isinstance(values, Mapping):
            raise InputError(str(path), expected="sections", found=type(values).__name__, fix="Write `section: {…}`.")
        for key in map(_text, values):  # other sections than SECTIONS belong to the user
            close = [] if key in SECTIONS else difflib.get_close_matches(key, SECTIONS, n=1, cutoff=0.8)
            if close and close[0] not in values:
                raise InputError(f"{path}, {key}", expected=f"the section {close[0]}", found=key, fix="Correct the name.")
        return cls(path, values)

    def section(self, dotted: str) -> Mapping[str, Any]:
        """The section at a dotted key, which may be empty; raises InputError, with the names that exist, if there is none."""
        found: Any = self.values
        for key in dotted.split("."):
            named = {_text(name): value for name, value in found.items()} if isinstance(found, Mapping) else {}
            if named and len(named) < len(found):
                raise self.error(dotted, "each name once", "1 and '1', or the like", "Rename one of them.")
            if key not in named:
                names = ", ".join(named) if isinstance(found, Mapping) else type(found).__name__
                raise self.error(dotted, f"a section {key!r}", names or "none", "Add it, or correct the name.")
            found = named[key]
        if found is not None and not isinstance(found, Mapping):
            raise self.error(dotted, "a section", _shown(found), "Write `key: value` lines.")
        return found or {}

    def names(self, section: str) -> list[str]:
        """The names of the entries of a section; none where there is no such section."""
        return list(map(_text, self.section(section))) if self.values.get(section) is not None else []

    def listed(self, key: str, value: Any) -> list[Any] | None:
        """The value of a key if it is a list or None; raises InputError for anything else."""
        if value is not None and not isinstance(value, list):
            raise self.error(key, "a list such as [1, 4]", _shown(value), "Write it in brackets.")
        return value

    def error(self, where: str, expected: str, found: str, fix: str) -> InputError:
        """An error about a key of this file."""
        return InputError(f"{self.path}, {where}", expected=expected, found=found, fix=fix)


@functools.lru_cache(maxsize=4)  # a command reads its settings many times, `versions` those of every other command
def _loaded(text: bytes) -> Any:
    """The values in a text of YAML; nobody changes them."""
    return YAML(typ="safe", pure=True).load(text)


def _text(key: Any) -> str:
    return key if isinstance(key, str) else _shown(key)


def example(line: str) -> str:
    """The end of the help of a command."""
    return f"\b\nExample:\n  {line}"


def shown_inputs(facts: Mapping[str, Any]) -> str:
    """What rows are, in words, from the facts that a split or a cache has of them."""
    if facts.get("kind") == "text":
        return "text"
    shape = "×".join(map(str, facts["shape"]))
    if facts.get("kind") == "array":
        return f"{shape} {facts['array_dtype']}"
    channels, height, width = facts["shape"]  # caches of formats 1 and 2 hold images only
    return f"{height}×{width}×{channels}" + (f" ({facts['fit']})" if facts.get("fit") else "")


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 seed, 5 seeds."""
    return f"{number:,} {noun if number == 1 else f'{noun}s'}"


def cache_folder(data: Place, cache: str) -> Place:
    """The folder of a cache: a teacher's name means data/caches/<name>; a text with a slash is a path, or a URL."""
    return place(cache) if "/" in cache else data / "caches" / cache


# ---------------------------------------------------------------- option types


class Type(click.ParamType):  # type: ignore[type-arg]  # which takes none before click 8.5
    """A type of one value, which is text from the command line, or any value from YAML."""

    def fails(self, value: Any, expected: str, param: click.Parameter | None, ctx: click.Context | None) -> NoReturn:
        """Raise Wrong for a value that is not what was expected."""
        raise Wrong(_shown(value), expected, param, ctx)


class Text(Type):
    """Text. From YAML it also accepts numbers, true and false, but not lists, sections or dates."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not isinstance(value, str | int | float):
            self.fails(value, "text", param, ctx)
        if isinstance(value, int) and abs(value) >= 1 << 63:
            self.fails(value, "text, or a number of at most 64 bits", param, ctx)
        return str(value)


class Name(Type):
    """A name that is safe in paths, in the commands of dvc.yaml and in dotted parameters."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = Text().convert(value, param, ctx)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", text):
            self.fails(value, "letters, digits, '_' and '-' only, 100 at most", param, ctx)
        return text


class Number(Type):
    """A finite number."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        written = isinstance(value, str) and re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", value)
        if isinstance(value, bool) or not (written or isinstance(value, int | float)):
            self.fails(value, "a number", param, ctx)
        try:
            number = float(value)
        except OverflowError:
            self.fails(value, "a number that float64 holds", param, ctx)
        if not math.isfinite(number):
            self.fails(value, "a finite number", param, ctx)
        return number


class Share(Number):
    """What a worker takes of something that Ray counts: parts of one, or several whole ones."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        share = super().convert(value, param, ctx)
        if share and not (share.is_integer() if share > 1 else share >= _LEAST_SHARE):
            self.fails(value, f"0, {_LEAST_SHARE} to 1, or a whole number", param, ctx)
        return share


class Temperature(Type):
    """A temperature, written as in the names of folders: 4, not 4.0 or 04."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = Number().convert(value, param, ctx)
        except click.BadParameter:
            number = 0.0
        if not LEAST <= number <= MOST:
            self.fails(value, f"a number from {LEAST:g} to {MOST:g}", param, ctx)
        if str(value) != short(number):
            self.fails(value, f"{short(number)}, written that way, because it names a folder", param, ctx)
        return number


class Whole(Type):
    """An integer of 64 bits; click's own type would cut 1.9 to 1."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, bool) or not isinstance(value, str | int):
            self.fails(value, "a whole number", param, ctx)
        if isinstance(value, str):
            if not re.fullmatch(r"[+-]?[0-9]{1,30}", value):
                self.fails(value, "a whole number", param, ctx)
            value = int(value)
        number: int = value
        if not -(1 << 63) <= number < 1 << 63:
            self.fails(value, "a whole number of 64 bits", param, ctx)
        return number


class WholeOrAll(Type):
    """A whole number, or the word `all`."""

    name = "integer|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        if value == "all":
            return "all"
        try:
            return Whole().convert(value, param, ctx)
        except Wrong as error:
            raise Wrong(error.found, f"{error.expected}, or all", param, ctx) from error


class Switch(click.types.BoolParamType):
    """true or false; click's own type fails for numbers from YAML."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool:
        try:
            return super().convert(value if isinstance(value, bool) else Text().convert(value, param, ctx), param, ctx)
        except click.BadParameter as error:
            raise Wrong(_shown(value), "true or false", param, ctx) from error


class SourceOrAmount(Type):
    """`digits` or a path, or a number: the share or count of rows to take from the training rows."""

    name = "source|amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | float:
        if isinstance(value, bool):
            self.fails(value, "a source, a share or a count", param, ctx)
        text = Text().convert(value, param, ctx)
        try:
            number = float(text)
        except ValueError:
            return text
        if not math.isfinite(number):
            self.fails(value, "a share or a count", param, ctx)
        return number


class Size(Type):
    """Pixels: one number for height and width, or both: `224`, `224x256`, in params.yaml also [224, 256]."""

    name = "pixels"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        parts = value if isinstance(value, list | tuple) else str(value).lower().split("x")
        expected = "a number of pixels such as 224, or height and width, [224, 256]"
        if isinstance(value, bool) or not 1 <= len(parts) <= 2:
            self.fails(value, expected, param, ctx)
        numbers = tuple(Whole().convert(part, param, ctx) for part in parts)
        if min(numbers) < 1:
            self.fails(value, expected, param, ctx)
        return numbers


class Folder(Type):
    """A folder: a path of this machine, or a URL of an object store."""

    name = "folder"

    def __init__(self, *, local: bool = False):
        self.local = local

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        if isinstance(value, Path | ObjectPlace):
            return value
        if value == "":
            self.fails(value, "a folder", param, ctx)
        try:
            found = place(Text().convert(value, param, ctx))
        except InputError as error:
            self.fails(value, error.expected, param, ctx)
        if self.local and not isinstance(found, Path):
            self.fails(value, "a folder of this machine, such as a copy of it", param, ctx)
        if isinstance(found, Path) and found.exists() and not found.is_dir():
            self.fails(value, "a folder, found a file", param, ctx)
        return found


class ClassMap(Type):
    """For each class, an output of a teacher or several: `cat=281,dog=207+208`; in params.yaml a section."""

    name = "class=output,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        if isinstance(value, Mapping):
            return {_text(name): said for name, said in value.items()}
        pairs = [pair.partition("=") for pair in Text().convert(value, param, ctx).split(",")]
        if not all(name and said for name, _, said in pairs) or len({name for name, _, _ in pairs}) < len(pairs):
            self.fails(value, "class=output for each class, with commas between them", param, ctx)
        return {name.strip(): said.strip().split("+") for name, _, said in pairs}


# ---------------------------------------------------------------- options


def options(*decorators: Decorator) -> Decorator:
    """Several option decorators as one, in the order given."""

    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


_TYPES: Mapping[Any, Type | Switch] = {
    int: Whole(), float: Number(), bool: Switch(), str: Text(), base.Name: Name(), int | Literal["all"]: WholeOrAll()
}  # fmt: skip


def options_of(kind: type, name: str) -> Decorator:
    """An option for each setting of a dataclass (see base/settings.py); the command gets them as one argument, `name`."""
    hints, found = get_type_hints(kind, include_extras=True), settings_of(kind)
    decorators = [_option_of(key, hints[field.name], field.default, said) for key, (field, said) in found.items()]

    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def command(**given: Any) -> Any:
            others = {key: value for key, value in given.items() if key not in found}
            return function(**others, **{name: gathered(kind, given)})

        return options(*decorators)(command)

    return apply


def _option_of(key: str, hint: Any, default: Any, said: Setting) -> Decorator:
    multiple = get_origin(hint) is tuple
    if multiple or (hint not in _TYPES and isinstance(hint, types.UnionType)):  # tuple[T, ...] or T | None
        hint = get_args(hint)[0]
    names = dict.fromkeys((key, key.replace("_", "-")))
    required, shown = default is MISSING, default not in (MISSING, None, ())
    usual: dict[str, Any] = (
        {} if required else {"default": default if shown else None}
    )  # to click a default of None is a value like another
    return option(
        *(f"--{name}/--no-{name}" if hint is bool else f"--{name}" for name in names), type=_TYPES[hint], multiple=multiple,
        required=required, show_default=shown, **usual, help=said.help, repeats=said.repeats,
        setting=said,
    )  # fmt: skip


def keys(kind: type) -> tuple[str, ...]:
    """The keys of the settings of a dataclass in params.yaml."""
    return tuple(settings_of(kind))


anew_option = option("--anew", is_flag=True, help="Start again from the beginning; use nothing from earlier runs.")
params_option = option("--params", type=click.Path(dir_okay=False), help="Settings file.  [default: params.yaml]")
data_option = option(
    "--data",
    type=Folder(),
    default="data",
    show_default=True,
    help="Folder of all data: a path, or s3://bucket/folder, gs://… or az://….",
)
local_data_option = option(
    "--data",
    type=Folder(local=True),
    default="data",
    show_default=True,
    help="Folder of all data, on this machine.",
)
work_option = option(
    "--work",
    type=Folder(),
    envvar="SOFTCACHE_WORK",
    default=WORK,
    show_default=True,
    show_envvar=True,
    help="Folder of unfinished captures and trainings.",
)
machine_options = options(
    option(
        "--device",
        type=Text(),
        envvar="SOFTCACHE_DEVICE",
        default="auto",
        show_default=True,
        show_envvar=True,
        help="auto, cpu, cuda or cuda:N.",
    ),
    option(
        "--threads",
        type=Whole(),
        envvar="SOFTCACHE_THREADS",
        show_envvar=True,
        help="CPU threads.  [default: OMP_NUM_THREADS, or chosen by the size of the work]",
    ),
)


def _crew_option(name: str, help: str, **said: Any) -> Decorator:
    variable = f"SOFTCACHE_{name[2:].upper().replace('-', '_')}"
    return option(name, envvar=variable, show_envvar=True, help=help, **said)


_CREW = options(
    _crew_option(
        "--on",
        "Who works: this process, several of this machine, or actors of a Ray cluster.",
        type=click.Choice(["here", "processes", "ray"]),
        default="here",
        show_default=True,
    ),
    _crew_option(
        "--workers",
        "How many; none of what is written depends on it.  [default: one a GPU or, without, a core]",
        type=Whole(),
        setting=Setting("", least=1, most=10_000),
    ),
    _crew_option("--address", "Of the Ray cluster.  [default: RAY_ADDRESS, or a new one of this machine alone]", type=Text()),
    _crew_option(
        "--gpus-per-worker",
        "Of the Ray cluster, for each actor; 0 for the CPU.  [default: 1 where it has any]",
        type=Share(),
    ),
    _crew_option("--cpus-per-worker", "Likewise, cores.  [default: 1]", type=Share()),
)


_ONLY = {"workers": ("processes", "ray"), "address": ("ray",), "gpus_per_worker": ("ray",), "cpus_per_worker": ("ray",)}


def _require_use(on: str) -> None:
    """Raise UsageError for an option on the command line that says nothing of such workers; variables may."""
    context = click.get_current_context()
    for name, kinds in _ONLY.items():
        if on not in kinds and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{option} is for {' or '.join(f'--on {kind}' for kind in kinds)}, not for --on {on}.")


def crew_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Who works, see crew.Workers; the command gets it as one argument, `workers`. It needs machine_options too.

    On Ray no GPU for each worker means the CPU, unless a device is named: else all would share one.
    """

    @functools.wraps(function)
    def command(
        on: Any, workers: int | None, address: str | None, gpus_per_worker: float | None, cpus_per_worker: float | None,
        **given: Any,
    ) -> Any:  # fmt: skip
        _require_use(on)
        if on == "ray" and gpus_per_worker == 0 and given["device"] == "auto":
            given["device"] = "cpu"
        return function(**given, workers=Workers(on, workers, address, gpus_per_worker, cpus_per_worker, given["device"]))

    return _CREW(command)


MODEL_HELP = (
    "mlp(hidden=[…], dropout, input_dropout), cnn(channels=[…], dropout), resnet(depth, width), "
    "wide_resnet(depth, width, dropout), bag(…) for text, or package.module:attribute(…)."
)
