"""Files that are whole or absent: durable atomic writes, canonical JSON, sha256, locks."""

import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.errors import BusyError, InputError, IntegrityError, printable

LOCK = "lock"  # the file in a folder that is worked in: locked, it says by whom


@dataclass(frozen=True)
class Witness:
    """Something that a job has read, and how to see whether it is still the same. now: its digest, None where it is gone."""

    what: str
    digest: str
    now: Callable[[], str | None]

    @classmethod
    def of_file(cls, path: Path, digest: str) -> "Witness":
        """Of a file, by the sha256 of its bytes."""
        return cls(str(path), digest, lambda: sha256_file(path) if path.is_file() else None)


def canonical_json(value: Any) -> bytes:
    """The one encoding that digests are taken of: sorted keys, no spaces, UTF-8; NaN and infinity are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def readable_json(value: Any) -> bytes:
    """The same value for people: indented, keys in the order given, a newline at the end."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read(path: Path, fix: str) -> bytes:
    """The bytes of a file; raises InputError where there is none, IntegrityError where something else is in its place."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(str(path), expected="a file", found="none", fix=fix) from error
    except IsADirectoryError as error:
        raise IntegrityError(str(path), expected="a file", found="a folder", fix=fix) from error


def read_bound(path: Path, digest: str, fix: str) -> bytes:
    """The bytes of a file, compared with the sha256 that another file binds it by.

    Raises IntegrityError where there is none, or where it has other bytes.
    """
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        found = "a folder" if path.is_dir() else "no file"
        raise IntegrityError(str(path), expected=f"sha256 {digest}", found=found, fix=fix) from error
    if (found := sha256(data)) != digest:
        raise IntegrityError(str(path), expected=f"sha256 {digest}", found=f"sha256 {found}", fix=fix)
    return data


def sha256(data: bytes | memoryview) -> str:
    """Hex digest of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_unchanged(read: Iterable[Witness]) -> None:
    """Raise BusyError where something is no longer what a job has read: its result would belong to neither."""
    for witness in read:
        if (found := witness.now()) != witness.digest:
            raise BusyError(
                witness.what,
                expected=f"what it was when this started (sha256 {witness.digest[:12]}…)",
                found="nothing" if found is None else f"another (sha256 {found[:12]}…)",
                fix="Something else has replaced it meanwhile, so nothing was written: run this again.",
            )


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
    """Hold the file `path`, which is made if need be, and removed afterwards. Raises BusyError if another process holds it.

    flock, not the file's existence: the kernel drops it when the holder dies, however it dies. The file says who holds it.
    """
    descriptor = _held(path, what)
    try:
        os.ftruncate(descriptor, 0)
        now = f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S}"
        os.write(descriptor, f"pid {os.getpid()} on {platform.node()} since {now}".encode())
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                path.unlink()  # while it is held still
        os.close(descriptor)


@contextlib.contextmanager
def locked_folder(path: Path, what: str) -> Iterator[None]:
    """Hold a folder that is worked in, by the lock in it, and remove it afterwards where nothing else is left in it."""
    try:
        with locked(path / LOCK, what):
            yield
    finally:
        with contextlib.suppress(OSError):  # something is in it, or another process has just begun
            path.rmdir()


def clear(path: Path, *, but: str = LOCK) -> None:
    """Remove all that is in a folder but its lock, and one other file."""
    for entry in sorted(path.iterdir()):
        if entry.name not in (LOCK, but):
            remove(entry)


def _held(path: Path, what: str) -> int:
    """The file at `path`, opened and locked."""
    while True:
        try:
            make_folder(path.parent)
        except FileExistsError:  # a file is in the way, or was a folder that has gone just now
            if os.path.lexists(path.parent) and not path.parent.is_dir():
                raise
            continue
        with contextlib.suppress(FileNotFoundError):  # whoever held it has just removed it, or its folder
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            held = False
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = os.path.samestat(os.fstat(descriptor), path.stat())
                if held:
                    return descriptor
            except BlockingIOError as error:
                found, fix = f"{_holder(path)}, which holds {path}", "Wait for it, then run again."
                raise BusyError(what, expected="no other process at work on it", found=found, fix=fix) from error
            finally:
                if not held:
                    os.close(descriptor)


def _holder(path: Path) -> str:
    try:
        return printable(path.read_text()[:200]) or "another"
    except (OSError, ValueError):
        return "another"


@contextlib.contextmanager
def replaced_folder(path: Path, *, read: Iterable[Witness] = (), keep_others: bool = False) -> Iterator[Path]:
    """Give an empty folder to fill; when the block ends well it takes the place of `path`, else nothing changes.

    A symbolic link stays, and what it leads to is replaced. read: what the new content was made of; where any of it is
    another by now, BusyError is raised and nothing changes. keep_others: entries of the former folder that the new one
    lacks move into it. A process that is killed at any moment leaves the former folder, the new one, or, between two
    renames, neither under its name; then the next call puts the former one back first.
    """
    path = resolved(path)
    partial, former, lock = (path.with_name(f".{path.name}{end}.partial") for end in ("", ".former", ".lock"))
    with locked(lock, str(path)):
        if former.exists() and path.exists():
            _discard(former, path, keep_others)
        elif former.exists():
            former.rename(path)
        remove(partial)
        partial.mkdir()
        try:
            yield partial
            sync_tree(partial)
            require_unchanged(read)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        if path.exists():
            path.rename(former)
        partial.rename(path)
        sync_folder(path.parent)
        _discard(former, path, keep_others)


def _discard(former: Path, path: Path, keep_others: bool) -> None:
    """Remove the former folder, after what is to be kept of it has moved."""
    if keep_others and former.is_dir():
        for entry in former.iterdir():
            if not os.path.lexists(path / entry.name):
                entry.rename(path / entry.name)
    remove(former)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def resolved(path: Path) -> Path:
    """A path without links; raises InputError for links that lead back to themselves."""
    try:
        return path.resolve()
    except (RuntimeError, OSError) as error:
        raise InputError(str(path), expected="a place", found="links that lead in a circle", fix="Remove them.") from error
