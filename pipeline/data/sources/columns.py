"""Columns: which of those that a file has are read."""

from collections.abc import Sequence

from pipeline.base.errors import InputError

INPUTS = ("image", "img", "text", "sentence", "array", "input", "features", "x")
LABELS = ("label", "labels", "y")


def require_names(source: str, **settings: object) -> None:
    """Raise InputError for a setting that is neither a name nor None."""
    for name, value in settings.items():
        if value is not None and (not isinstance(value, str) or not value):
            fix = "Correct the setting."
            raise InputError(f"source {source}, {name}", expected="a name in quotes, or None", found=repr(value), fix=fix)


def input_of(there: Sequence[str], given: str | None, what: str) -> str:
    """The column of inputs: the given one, or the only one of INPUTS. there: all columns. what: the file.

    Raises InputError if it is missing, or there twice, or if there are several.
    """
    return _one(there, (given,) if given else INPUTS, what, "input") or _missing(there, (given,) if given else INPUTS, what)


def label_of(there: Sequence[str], given: str | None, what: str) -> str | None:
    """The column of labels: the given one, or the only one of LABELS; None if there is none. Raises InputError likewise."""
    return _one(there, (given,) if given else LABELS, what, "label") or (_missing(there, (given,), what) if given else None)


def id_of(there: Sequence[str], given: str | None, what: str) -> str | None:
    """The column of ids: the given one, or `id`; None if there is none. Raises InputError likewise."""
    return _one(there, (given or "id",), what, "id") or (_missing(there, (given,), what) if given else None)


def lacking(label: str | None) -> str:
    """What would hold the labels, if no column does."""
    return "" if label else f"a column `{LABELS[0]}`"


def _one(there: Sequence[str], names: Sequence[str], what: str, setting: str) -> str | None:
    found = [name for name in names if name in there]
    if len(found) > 1:
        fix = f"Name the one to read, such as {setting}={found[0]!r}."
        raise InputError(what, expected=f"one column of {_listed(names)}", found=" and ".join(found), fix=fix)
    if found and (count := list(there).count(found[0])) > 1:
        raise InputError(what, expected=f"one column `{found[0]}`", found=f"{count} of it", fix="Rename one of them.")
    return found[0] if found else None


def _missing(there: Sequence[str], names: Sequence[str], what: str) -> str:
    found, fix = ", ".join(there) or "no columns", "Name the column to read, such as input='words' or label='intent'."
    raise InputError(what, expected=f"a column {_listed(names)}", found=found, fix=fix)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
