"""Files: durable atomic writes, canonical JSON, sha256 and locks. A file is there as a whole or not at all."""

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

LOCK = "lock"  # the lock file of a folder in use; it says who holds it


@dataclass(frozen=True)
class Witness:
    """Something that a job has read, with its digest at that time. now: gives its present digest, None if it is gone."""

    what: str
    digest: str
    now: Callable[[], str | None]

    @classmethod
    def of_file(cls, path: Path, digest: str) -> "Witness":
        """The witness of a file. digest: the sha256 of its bytes."""
        return cls(str(path), digest, lambda: sha256_file(path) if path.is_file() else None)


def canonical_json(value: Any) -> bytes:
    """The JSON that digests are taken of: sorted keys, no spaces, UTF-8. Raises ValueError for NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def readable_json(value: Any) -> bytes:
    """JSON for people: indented, keys in the given order, a newline at the end."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read(path: Path, fix: str) -> bytes:
    """The bytes of a file. Raises InputError if it is missing, IntegrityError if it is a folder."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(str(path), expected="a file", found="none", fix=fix) from error
    except IsADirectoryError as error:
        raise IntegrityError(str(path), expected="a file", found="a folder", fix=fix) from error


def read_bound(path: Path, digest: str, fix: str) -> bytes:
    """The bytes of a file. Raises IntegrityError if it is missing or its sha256 is not `digest`."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        found = "a folder" if path.is_dir() else "no file"
        raise IntegrityError(str(path), expected=f"sha256 {digest}", found=found, fix=fix) from error
    if (found := sha256(data)) != digest:
        raise IntegrityError(str(path), expected=f"sha256 {digest}", found=f"sha256 {found}", fix=fix)
    return data


def sha256(data: bytes | memoryview) -> str:
    """The sha256 of bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """The sha256 of a file, in hex, without reading it into memory as a whole."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_unchanged(read: Iterable[Witness]) -> None:
    """Raise BusyError if something that a job has read was changed or removed since."""
    for witness in read:
        if (found := witness.now()) != witness.digest:
            raise BusyError(
                witness.what,
                expected=f"what it was when this started (sha256 {witness.digest[:12]}…)",
                found="nothing" if found is None else f"sha256 {found[:12]}…",
                fix="It was replaced during the run, so nothing was written: run this again.",
            )


def write(path: Path, data: bytes) -> None:
    """Write a file durably and atomically: a reader, or a restart after a power loss, sees all of it or none."""
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
    """Make a folder and its missing parents, durably: a file is lost if the entry of any parent folder is."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(path: Path) -> None:
    """fsync a folder, to make its entries durable: fsync of a file does not cover its entry in the folder."""
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
    """Hold a lock on the file `path`, which is created if missing and removed afterwards.

    Raises BusyError if another process holds it. The lock is a flock: the kernel releases it however its holder ends.
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
                path.unlink()  # before the lock is released
        os.close(descriptor)


@contextlib.contextmanager
def locked_folder(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file in a folder, and remove the folder afterwards if it is empty."""
    try:
        with locked(path / LOCK, what):
            yield
    finally:
        with contextlib.suppress(OSError):  # not empty, or another process has just started in it
            path.rmdir()


def clear(path: Path, *, but: str = LOCK) -> None:
    """Remove everything in a folder, except its lock file and the entry named `but`."""
    for entry in sorted(path.iterdir()):
        if entry.name not in (LOCK, but):
            remove(entry)


def _held(path: Path, what: str) -> int:
    """The descriptor of the file at `path`, opened and locked."""
    while True:
        try:
            make_folder(path.parent)
        except FileExistsError:  # a file is in the way, or another process changes the folder
            if os.path.lexists(path.parent) and not path.parent.is_dir():
                raise
            continue
        with contextlib.suppress(FileNotFoundError):  # another process has just removed it, or its folder
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            held = False
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = os.path.samestat(os.fstat(descriptor), path.stat())
                if held:
                    return descriptor
            except BlockingIOError as error:
                found, fix = f"{_holder(path)}, which holds {path}", "Wait for it, then run again."
                raise BusyError(what, expected="no other process working on it", found=found, fix=fix) from error
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
    """Yield an empty folder to fill, which replaces `path` when the block succeeds. If the block fails, nothing changes.

    If `path` is a symbolic link, its target is replaced. read: the inputs of the new content; if one of them has changed,
    BusyError is raised and nothing is replaced. keep_others: keep entries of the former folder that the new one lacks.
    A process that is killed leaves the former folder or the new one. If it is killed between the two renames, `path` is
    missing, and the next call restores the former folder first.
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
    """Remove the former folder. keep_others: first move entries that are missing in `path` there."""
    if keep_others and former.is_dir():
        for entry in former.iterdir():
            if not os.path.lexists(path / entry.name):
                entry.rename(path / entry.name)
    remove(former)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with its contents, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def visible(folder: Path, pattern: str) -> list[Path]:
    """Files and folders below `folder` that match, sorted, except in hidden folders, which are unfinished."""
    return [
        path
        for path in sorted(folder.glob(pattern))
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def resolved(path: Path) -> Path:
    """A path with its symbolic links followed; raises InputError for links in a circle."""
    try:
        return path.resolve()
    except (RuntimeError, OSError) as error:
        raise InputError(str(path), expected="a path", found="symbolic links in a circle", fix="Remove them.") from error
