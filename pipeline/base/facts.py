"""Facts: what an artifact records about itself, as JSON that holds its own digest and is typed when it is read."""

import functools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.base import files
from pipeline.base.errors import IntegrityError, first_line
from pipeline.base.places import Place

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")

NOT_JSON = (ValueError, RecursionError)  # what json.loads raises for bytes that are not JSON


def sealed(facts: Mapping[str, Any]) -> bytes:
    """Facts as readable JSON that begins with their digest: deterministic bytes that `unsealed` reads."""
    return files.readable_json({"digest": files.sha256(files.canonical_json(facts)), **facts})


def unsealed(kind: type[T], data: bytes, what: str, fix: str, version: int | None = None) -> T:
    """The facts in `data`, which `sealed` wrote, as a dataclass. version: what their field `version` has to be, if any.

    Raises IntegrityError, naming `what`, if any byte was edited, or the version or the types are wrong.
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
        raise IntegrityError(what, expected=f"version {version}", found=f"version {found.get('version')}", fix=fix)
    return typed(kind, found, what, fix)


def read(kind: type[T], path: Place, fix: str, version: int | None = None) -> tuple[T, files.Witness]:
    """The facts in a file that holds what `sealed` returned, and the file's witness.

    Raises InputError if there is no file, IntegrityError if it is damaged, of another kind or of another version.
    """
    data = files.read(path, fix)
    return unsealed(kind, data, str(path), fix, version), files.Witness.of_file(path, files.sha256(data))


def typed(kind: type[T], facts: Mapping[str, Any], what: str, fix: str) -> T:
    """Plain values as a dataclass with strictly checked fields; raises an IntegrityError that names the first wrong one."""
    from pydantic import ValidationError

    try:
        adapter = _adapter(kind)  # type: ignore[arg-type]  # a class is hashable
        found: T = adapter.validate_json(json.dumps(facts), strict=True)  # keeps the order of keys
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        told = f"{'.'.join(map(str, first['loc'])) or 'a value'}: {first['msg']}"
        raise IntegrityError(what, expected="facts of the right types", found=told, fix=fix) from error
    return found


@functools.cache
def _adapter(kind: type) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
