"""Files that are whole or absent: durable atomic writes, canonical JSON, sha256."""

import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import BusyError, InputError

LOCK = "lock"  # the file in a locked folder that says who holds it; the lock itself is on the folder


def canonical_json(value: Any) -> bytes:
    """The one encoding that digests are taken of: sorted keys, no spaces, UTF-8; NaN and infinity are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def readable_json(value: Any) -> bytes:
    """The same value for people: indented, keys in the order given, a newline at the end."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> Any:
    """Read a JSON file; raises InputError where it is missing or not JSON."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(str(path), expected="a file", found="none", fix="Run the stage that writes it.") from error
    except ValueError as error:
        raise InputError(str(path), expected="JSON", found=str(error), fix="Run the stage that writes it again.") from error


def sha256(data: bytes | memoryview) -> str:
    """Hex digest of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a machine that lost power, sees all of it or none of it."""
    make_folder(path.parent)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, durably: a file is lost if the entry of any folder above it is."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable; fsync of a file does not cover the entry that points to it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """fsync every file and folder below `path`, deepest first."""
    for folder, _, names in os.walk(path, topdown=False):
        for name in names:
            with open(Path(folder, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(folder))


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold an exclusive lock on the folder `path`, which is made if need be. Raises BusyError if another holds it.

    flock, not a lock file's existence: the kernel drops it when the holder dies, however it dies.
    """
    path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not path.exists() or not os.path.samestat(os.fstat(descriptor), path.stat()):
                raise BlockingIOError("the holder finished and moved the folder while this process asked for it")
        except BlockingIOError as error:
            raise BusyError(
                what,
                expected="no other process at work on it",
                found=f"{_holder(path)}, at work in {path}",
                fix="Wait for it, then run again.",
            ) from error
        (path / LOCK).write_text(f"pid {os.getpid()} on {platform.node()} since {datetime.datetime.now():%Y-%m-%d %H:%M:%S}")
        try:
            yield
        finally:
            (path / LOCK).unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _holder(path: Path) -> str:
    try:
        return (path / LOCK).read_text() or "another"
    except OSError:
        return "another"


@contextlib.contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill; when the block ends well it takes the place of `path`, else nothing changes.

    A process that is killed at any moment leaves the former folder, the new one, or, between two renames, neither under
    its name; then the next call puts the former one back first.
    """
    partial = path.with_name(f".{path.name}.partial")
    former = path.with_name(f".{path.name}.former.partial")
    with locked(partial, str(path)):
        _restore(former, path)
        empty(partial)
        try:
            yield partial
            sync_tree(partial)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        (partial / LOCK).unlink()
        if path.exists():
            path.rename(former)
        partial.rename(path)
        sync_folder(path.parent)
        shutil.rmtree(former, ignore_errors=True)


def _restore(former: Path, path: Path) -> None:
    """Finish the swap that a killed process left half done."""
    if former.exists():
        if path.exists():
            shutil.rmtree(former)
        else:
            former.rename(path)


def empty(folder: Path) -> None:
    """Remove what an interrupted run left in `folder`, but for its lock."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != LOCK:
            entry.unlink()
