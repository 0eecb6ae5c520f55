"""Facts: what an artifact says of itself, as JSON that is sealed with its digest, and typed where it is read."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.base import files
from pipeline.base.errors import IntegrityError, first_line

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")

NOT_JSON = (ValueError, RecursionError)  # what json raises for bytes that it cannot read


def sealed(facts: Mapping[str, Any]) -> bytes:
    """Facts as readable JSON, under a digest of them: deterministic bytes that `unsealed` takes back."""
    return files.readable_json({"digest": files.sha256(files.canonical_json(facts)), **facts})


def unsealed(kind: type[T], data: bytes, what: str, fix: str, version: int | None = None) -> T:
    """The facts in `data`, which `sealed` wrote, as a dataclass.

    They are compared byte by byte with how such facts are written, so that any edit is found. version: what their field of
    that name has to be, where they have one. Raises IntegrityError, about `what`, where they were edited, are of another
    version, or are not those of this kind.
    """
    expected = "facts with their digest, as they were written"
    try:
        found = json.loads(data)
        digest = found.pop("digest")
        again = sealed(found)
    except (*NOT_JSON, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(what, expected=expected, found=f"something else ({first_line(error)})", fix=fix) from error
    if again != data:
        raise IntegrityError(what, expected=expected, found=f"others (digest {str(digest)[:12]}…)", fix=fix)
    if version is not None and found.get("version") != version:
        told = f"version {found.get('version')}"
        raise IntegrityError(what, expected=f"version {version}", found=told, fix=fix)
    return typed(kind, found, what, fix)


def read(kind: type[T], path: Path, fix: str, version: int | None = None) -> tuple[T, files.Witness]:
    """The facts in a file that `sealed` filled, and what tells later whether it is still the same file.

    Raises InputError where there is none, IntegrityError where it is damaged, of another kind or of another version.
    """
    data = files.read(path, fix)
    return unsealed(kind, data, str(path), fix, version), files.Witness.of_file(path, files.sha256(data))


def typed(kind: type[T], facts: Mapping[str, Any], what: str, fix: str) -> T:
    """Plain values as a dataclass, its fields checked strictly; raises IntegrityError that names the first wrong one."""
    from pydantic import ValidationError

    try:
        adapter = _adapter(kind)  # type: ignore[arg-type]  # a class is hashable
        found: T = adapter.validate_json(json.dumps(facts), strict=True)  # in the order that they have
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        told = f"{'.'.join(map(str, first['loc'])) or 'a value'}: {first['msg']}"
        raise IntegrityError(what, expected="facts of the right types", found=told, fix=fix) from error
    return found


@functools.cache
def _adapter(kind: type) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
