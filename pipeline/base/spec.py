"""A spec: one line of text, such as `mlp(hidden=[30])`, that names a callable and its settings.

Short names come from a table. `package.module:attribute(...)` names a plug-in, see plugins.py. Arguments are Python literals.
"""

import ast
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.base import files, plugins
from pipeline.base.errors import InputError
from pipeline.base.source import Source

_SHAPE = re.compile(r"\s*(?P<name>[A-Za-z]\w*(?:\.[A-Za-z]\w*)*(?::[A-Za-z]\w*)?)\s*(?P<arguments>\(.*\))?\s*", re.DOTALL)


@dataclass(frozen=True)
class Spec:
    """A parsed spec. Specs of equal text and behaviour do the same.

    text: canonical form, with every argument by name; defaults too, if they are literals. A setting that can be given by
    keyword only is left out where it has its default: one that is added later leaves the texts of before as they are.
    behaviour: for a name from a table its version, such as `version 2`; for a plug-in the sha256 of its source.
    source: the source of a plug-in; None for a name from a table.
    """

    text: str
    behaviour: str
    target: Callable[..., Any]
    arguments: dict[str, Any]
    source: Source | None = None

    @property
    def identity(self) -> str:
        """Text and behaviour in one string."""
        return f"{self.text} of {self.behaviour}"

    def __call__(self, *given: Any) -> Any:
        """Call the target with `given` and the spec's arguments; whatever a plug-in raises becomes an InputError."""
        if self.source is None:
            return self.target(*given, **self.arguments)
        return plugins.call(self.source, self.text, self.target, *given, **self.arguments)

    def __reduce__(self) -> tuple[Callable[..., "Spec"], tuple[Any, ...]]:
        """Let another process have it: there a plug-in is imported anew, as by `parse`."""
        if self.source is None:
            return Spec, (self.text, self.behaviour, self.target, self.arguments)
        told = {key: value for key, value in self.arguments.items() if _is_literal(value)}
        return _of_plugin, (self.text, self.behaviour, told, list(self.arguments))


def parse(
    text: str, table: Mapping[str, Callable[..., Any]], versions: Mapping[str, int], *, given: int = 0, words: bool = False
) -> Spec:
    """Parse `text` against `table`. The caller fills the first `given` parameters of the target when it calls the spec.

    versions: for each name in the table a number that goes up whenever the same settings give another result.
    words: Strings may go without quotes where they are names, dotted or joined by `|`: `a.b | c` is 'a.b | c'.
    Raises InputError for bad syntax, an unknown name, or an argument that does not fit or is no literal.
    """
    shape = _shape(text)
    name = shape["name"]
    target, source = _resolve(name, table)
    behaviour = versioned(versions[name]) if source is None else source.sha256
    arguments, silent = _bind(name, text, target, given, *_literals(text, shape["arguments"] or "()", words))
    said = {key: _listed(value) for key, value in arguments.items() if _is_literal(value) and key not in silent}
    written = ", ".join(f"{key}={value!r}" for key, value in said.items())
    return Spec(f"{name}({written})", behaviour, target, arguments, source)


def _of_plugin(text: str, behaviour: str, told: Mapping[str, Any], names: Sequence[str]) -> Spec:
    """The spec of a plug-in that another process has parsed. told: its literal arguments; others of `names` are defaults.

    Raises InputError where the plug-in is not allowed or missing here, or has another source.
    """
    name = name_in(text)
    target, source = plugins.load(name)
    if source.sha256 != behaviour:
        expected, found = f"the source with sha256 {behaviour[:12]}…, which this began with", f"sha256 {source.sha256[:12]}…"
        raise InputError(f"plug-in {name}", expected=expected, found=found, fix="Give all workers the same files.")
    defaults = {} if len(told) == len(names) else inspect.signature(target).parameters
    return Spec(
        text, behaviour, target, {each: told[each] if each in told else defaults[each].default for each in names}, source
    )


def versioned(version: int) -> str:
    """A version number as it is stored in identities."""
    return f"version {version}"


def name_in(text: str) -> str:
    """The name in a spec. Nothing is imported. Raises InputError for bad syntax."""
    return _shape(text)["name"]


def built_in(text: str, table: Mapping[str, Callable[..., Any]], what: str) -> str:
    """The name in a spec that may be no plug-in. Raises InputError, about the setting `what`, unless the table has it."""
    if (name := name_in(text)) not in table:
        expected = f"one of {', '.join(sorted(table))}" if len(table) > 1 else next(iter(table))
        raise InputError(what, expected=expected, found=repr(name), fix="Correct the name.")
    return name


def _shape(text: str) -> re.Match[str]:
    shape = _SHAPE.fullmatch(text) if isinstance(text, str) else None
    if shape is None:
        torn = isinstance(text, str) and text.count("(") > text.count(")")  # often by YAML, at a comma in a list
        fix = "Close the bracket; within a list of YAML put the whole spec in quotes." if torn else "Write it that way."
        raise InputError(f"spec {text!r}", expected='"name(setting=value, …)"', found=repr(text), fix=fix)
    return shape


def witnesses(*specs: Spec) -> list[files.Witness]:
    """Witnesses of those specs that are plug-ins."""
    return [plugins.witness(each.source) for each in specs if each.source is not None]


def _literals(text: str, arguments: str, words: bool) -> tuple[list[Any], dict[str, Any]]:
    """Read the argument list, as literals only; with `words` as names too."""
    read = _worded if words else ast.literal_eval
    try:
        call = ast.parse(f"f{arguments}", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError("not one argument list")
        if any(keyword.arg is None for keyword in call.keywords):
            raise ValueError("** is no literal")
        positional = [_plain(read(node)) for node in call.args]
        named = {str(keyword.arg): _plain(read(keyword.value)) for keyword in call.keywords}
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        expected = "arguments that are Python literals (finite numbers, strings, lists, True, False, None)"
        fix = 'Write for example "mlp(hidden=[30], dropout=0.5)".'
        if words:
            fix = "Put a name that is not made of words and dots into quotes, as 'encoder.layer.3'."
        raise InputError(f"spec {text!r}", expected=expected, found=arguments, fix=fix) from error
    return positional, named


def _worded(node: ast.expr) -> Any:
    """The value of a literal, or the text of a name. Raises ValueError for anything else."""
    if isinstance(node, ast.List | ast.Tuple):
        return [_worded(each) for each in node.elts]
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_word(node.value)}.{node.attr}"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return f"{_word(node.left)} | {_word(node.right)}"
    value = ast.literal_eval(node)
    return " | ".join(part.strip() for part in value.split("|")) if isinstance(value, str) else value


def _word(node: ast.expr) -> str:
    """The text of a part of a name. Raises ValueError for what is no text."""
    found = _worded(node)
    if not isinstance(found, str):
        raise ValueError(f"{found!r} is no name")
    return found


def _plain(value: Any) -> Any:
    """Tuples become lists, so that `(1, 2)` and `[1, 2]` have one canonical text. Raises ValueError for infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is not finite")
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _listed(value: Any) -> Any:
    """A default as it would be written in a spec, which has lists for tuples."""
    return [_listed(item) for item in value] if isinstance(value, tuple | list) else value


def _is_literal(value: Any) -> bool:
    """Whether a value is a literal. The source hash covers other defaults, whose repr may hold a memory address."""
    if isinstance(value, dict):
        return all(map(_is_literal, (*value.keys(), *value.values())))
    if isinstance(value, list | tuple):
        return all(map(_is_literal, value))
    return value is None or type(value) in (bool, int, float, complex, str, bytes)


def _bind(
    name: str, text: str, target: Callable[..., Any], given: int, positional: list[Any], named: dict[str, Any]
) -> tuple[dict[str, Any], set[str]]:
    """Check the arguments against the target's signature and fill in its defaults; returns which of them go without saying."""
    try:
        parameters = list(inspect.signature(target).parameters.values())[given:]
    except (TypeError, ValueError) as error:  # some callables written in C have no signature
        fix = "Write a function that calls it."
        raise InputError(f"spec {name}(…)", expected="a signature that can be read", found="none", fix=fix) from error
    if any(parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) for parameter in parameters):
        fix = "Write a function that names its settings."
        raise InputError(f"spec {name}(…)", expected="settings by name", found="*args or **kwargs", fix=fix)
    signature = inspect.Signature(parameters)
    try:
        bound = signature.bind(*positional, **named)
    except TypeError as error:
        known = ", ".join(parameter.name for parameter in parameters) or "no arguments"
        raise InputError(f"spec {name}(…)", expected=known, found=f"{text} ({error})", fix="Correct the arguments.") from error
    bound.apply_defaults()
    found = dict(bound.arguments)
    optional = [each for each in parameters if each.kind is each.KEYWORD_ONLY and each.default is not each.empty]
    return found, {each.name for each in optional if found[each.name] == each.default}


def _resolve(name: str, table: Mapping[str, Callable[..., Any]]) -> tuple[Callable[..., Any], Source | None]:
    if ":" in name:
        return plugins.load(name)
    if name not in table:
        expected = f"one of {', '.join(sorted(table))}, or package.module:attribute"
        raise InputError(f"spec {name}(…)", expected=expected, found=repr(name), fix="Correct the name.")
    return table[name], None
