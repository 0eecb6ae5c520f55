"""The files that a path of a setting stands for, and their bytes."""

import contextlib
import glob
import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from pipeline.base import files
from pipeline.base.errors import InputError, first_line
from pipeline.data.splits import DAMAGE

_PARTS = re.compile(r"(?P<split>.*)-(?P<number>\d+)-of-(?P<total>\d+)(?P<end>.*)")
_SPLIT = re.compile(r"(train|test|validation|valid|val|dev)(?![a-z])", re.IGNORECASE)


def one(path: object, what: str) -> Path:
    """The file at a path. Raises InputError, which says that `what` was expected, if there is none."""
    if not isinstance(path, str) or not path or "\0" in path:
        raise InputError(f"path {path!r}", expected=f"the path of {what}", found=repr(path), fix="Write it in quotes.")
    held = files.resolved(Path(path))
    if not held.is_file():
        found = "a folder" if held.is_dir() else "no such file" if not held.exists() else "neither file nor folder"
        raise InputError(f"source {path}", expected=what, found=found, fix="Correct the path.")
    return Path(path)


def several(path: object, ending: str, what: str) -> tuple[Path, ...]:
    """The files that a path stands for: a file; those with this ending in a folder; those that match a glob; or a list of such.

    Those of a folder and a glob are sorted by name. They must belong to one split, as far as their names tell, and be all
    parts of it: train-00000-of-00002.parquet wants train-00001-of-00002.parquet.

    Raises InputError, which says that `what` was expected, for a path that stands for none, a file given twice, and a part
    that is missing.
    """
    found = [file for each in (path if isinstance(path, list) else [path]) for file in _matching(each, ending, what)]
    if not found:
        raise InputError("path []", expected=f"paths of {what}", found="none", fix="Name a file.")
    seen: set[Path] = set()
    for file in found:
        if (real := files.resolved(file)) in seen:
            raise InputError(f"source {file}", expected="each file once", found="it twice", fix="Correct the list.")
        seen.add(real)
    return tuple(found)


def _matching(path: object, ending: str, what: str) -> Sequence[Path]:
    if isinstance(path, str) and path and "\0" not in path:
        if Path(path).is_dir():
            found = sorted(each for each in Path(path).iterdir() if _counts(each, ending))
        elif glob.has_magic(path) and not Path(path).exists():
            found = sorted(each for each in map(Path, glob.glob(path, recursive=True)) if each.is_file())
        else:
            return [one(path, what)]
        if not found:
            fix = "Correct the path."
            raise InputError(f"source {path}", expected=f"files that end in {ending}", found="none", fix=fix)
        _require_one_split(path, found)
        _require_all_parts(path, found)
        return found
    return [one(path, what)]


def _counts(path: Path, ending: str) -> bool:
    return path.name.lower().endswith(ending) and not path.name.startswith(".") and path.is_file()


def _require_one_split(path: str, found: Sequence[Path]) -> None:
    """Raise InputError if the names tell of several splits: rows of one must not turn up in another."""
    words = {(_SPLIT.match(each.name) or [""])[0].lower(): each.name for each in found}
    if len(words) > 1:
        fix = 'Name those of one split, by a glob such as "train-*.parquet" or a list.'
        names = " and ".join(list(words.values())[:2])
        raise InputError(f"source {path}", expected="files of one split", found=names, fix=fix)


def _require_all_parts(path: str, found: Sequence[Path]) -> None:
    held: dict[tuple[Path, str, str], dict[int, str]] = {}
    for each in found:
        if part := _PARTS.fullmatch(each.name):
            held.setdefault((each.parent, part["split"], part["total"]), {})[int(part["number"])] = part["number"]
    for (folder, split, total), numbers in held.items():
        missing = next((number for number in range(int(total)) if number not in numbers), None)
        if missing is not None:
            name = f"{split}-{missing:0{len(next(iter(numbers.values())))}}-of-{total}"
            expected, fix = f"all {int(total):,} parts", "Add the file, or list those that you want."
            raise InputError(f"source {path}", expected=expected, found=f"no {folder / name}", fix=fix)


@contextlib.contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Let a file that cannot be read raise an InputError, which says that `what` was expected."""
    try:
        yield
    except (*DAMAGE, EOFError, zlib.error) as error:
        found = f"another kind of file, or a damaged one ({first_line(error)})"
        raise InputError(f"source {path}", expected=what, found=found, fix="Repair the file, or name another.") from error


def is_packed(path: Path) -> bool:
    """Whether a file's name says that it was packed by gzip."""
    return path.suffix.lower() == ".gz"


def opened(path: Path) -> BinaryIO:
    """The bytes of a file; unpacked if its name ends in .gz."""
    return cast(BinaryIO, gzip.open(path, "rb")) if is_packed(path) else path.open("rb")
