"""Files: durable atomic writes, canonical JSON, sha256 and locks. A file is there as a whole or not at all.

In an object store nothing is renamed, synced or locked: objects are put whole. A folder is written as a generation of its own,
named after its content, and then one small object, current.json, is made to name it: a reader sees the former or the new one.
"""

import contextlib
import datetime
import errno
import fcntl
import functools
import hashlib
import json
import logging
import os
import platform
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipeline.base.errors import BusyError, InputError, IntegrityError, printable
from pipeline.base.places import GENERATION, ObjectPlace, Place

P = TypeVar("P", bound=Place)

CURRENT = "current.json"  # in a store, the object that names the folder of an artifact's present generation
WORK = ".work"  # how the folder is called, after its generation, of what belongs to one that is being made
REQUESTS = 32  # to a store, at a time
NO_LINKS = (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK)  # how file systems refuse hardlinks
LOCK = "lock"  # the lock file of a folder in use; it says who holds it

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Witness:
    """Something that a job has read, with its digest at that time. now: gives its present digest, None if it is gone."""

    what: str
    digest: str
    now: Callable[[], str | None]

    @classmethod
    def of_file(cls, path: Place, digest: str) -> "Witness":
        """The witness of a file. digest: the sha256 of its bytes."""
        return cls(str(path), digest, lambda: sha256_file(path) if path.is_file() else None)


def canonical_json(value: Any) -> bytes:
    """The JSON that digests are taken of: sorted keys, no spaces, UTF-8. Raises ValueError for NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def readable_json(value: Any) -> bytes:
    """JSON for people: indented, keys in the given order, a newline at the end. Raises ValueError for NaN and infinity."""
    return (_indented(value, "\n") + "\n").encode()


def _indented(value: Any, line: str) -> str:
    """What json.dumps gives with indent=2, in a third of its time: its fast encoder, which cannot indent, writes what is flat.

    line: a newline, and the indentation of the value.
    """
    inner = f"{line}  "
    encode = _encoder(inner)
    if not isinstance(value, dict | list | tuple) or not value:
        return encode(value)
    if not any(
        isinstance(each, dict | list | tuple) and each for each in (value.values() if isinstance(value, dict) else value)
    ):
        text = encode(value)[1:-1]
    elif isinstance(value, dict):
        text = f",{inner}".join(f"{encode({key: 0})[1:-2]}{_indented(each, inner)}" for key, each in value.items())
    else:
        text = f",{inner}".join(_indented(each, inner) for each in value)
    start, end = "{}" if isinstance(value, dict) else "[]"
    return f"{start}{inner}{text}{line}{end}"


@functools.cache
def _encoder(line: str) -> Callable[[Any], str]:
    """Gives flat JSON, in which `line` follows every comma."""
    return json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(f",{line}", ": ")).encode


def read(path: Place, fix: str) -> bytes:
    """The bytes of a file. Raises InputError if it is missing, IntegrityError if it is a folder."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(str(path), expected="a file", found="none", fix=fix) from error
    except IsADirectoryError as error:
        raise IntegrityError(str(path), expected="a file", found="a folder", fix=fix) from error


def read_bound(path: Place, digest: str, fix: str) -> bytes:
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


def sha256_file(path: Place) -> str:
    """The sha256 of a file, in hex, without reading it into memory as a whole."""
    if isinstance(path, ObjectPlace):
        digest = hashlib.sha256()
        for part in path.read_parts():
            digest.update(part)
        return digest.hexdigest()
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


def write(path: Place, data: bytes) -> None:
    """Write a file durably and atomically: a reader, or a restart after a power loss, sees all of it or none."""
    if isinstance(path, ObjectPlace):
        path.write(data)
        return
    with _aside(_local(path), data) as aside:
        aside.replace(_local(path))
    sync_folder(_local(path).parent)


def create(path: Place, data: bytes | memoryview) -> bool:
    """Write a file durably and atomically unless there is one; returns whether it holds these bytes now, whoever wrote them."""
    if isinstance(path, ObjectPlace):
        return path.create(data)
    local = _local(path)
    with _aside(local, data) as aside:
        try:
            os.link(aside, local)
        except FileExistsError:
            return local.stat().st_size == len(data) and local.read_bytes() == data
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            aside.rename(local)  # a file system without links: of two writers at a time the later one wins
    sync_folder(local.parent)
    return True


@contextlib.contextmanager
def _aside(path: Path, data: bytes | memoryview) -> Iterator[Path]:
    """A file beside `path` that holds these bytes durably, and is removed afterwards."""
    make_folder(path.parent)
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident():x}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _local(path: Place) -> Path:
    """A place that is on this machine."""
    if not isinstance(path, Path):
        raise TypeError(f"expected a path of this machine, found {path}")
    return path


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
def locked_folder(path: Place, what: str) -> Iterator[None]:
    """Hold the lock file in a folder, and remove the folder afterwards if it is empty.

    In a store there are no locks: what is written there is bound to what it is of, so that two writers do no harm.
    """
    if not isinstance(path, Path):
        yield
        return
    try:
        with locked(path / LOCK, what):
            yield
    finally:
        with contextlib.suppress(OSError):  # not empty, or another process has just started in it
            path.rmdir()


def clear(path: Place, *, but: str = LOCK) -> None:
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
def replaced_folder(path: Place, *, read: Iterable[Witness] = (), keep_others: bool = False) -> Iterator[Path]:
    """Yield an empty folder to fill, which replaces `path` when the block succeeds. If the block fails, nothing changes.

    If `path` is a symbolic link, its target is replaced. read: the inputs of the new content; if one of them has changed,
    BusyError is raised and nothing is replaced. keep_others: keep entries of the former folder that the new one lacks.
    A process that is killed leaves the former folder or the new one. If it is killed between the two renames, `path` is
    missing, and the next call restores the former folder first. In a store the new content is a generation, see above.
    """
    if isinstance(path, ObjectPlace):
        with _replaced_generation(path, read, keep_others) as folder:
            yield folder
        return
    path = resolved(_local(path))
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


@contextlib.contextmanager
def _replaced_generation(path: ObjectPlace, read: Iterable[Witness], keep_others: bool) -> Iterator[Path]:
    """Yield a folder of this machine to fill, whose files become the present generation of a folder in a store."""
    path.require_writable()
    room = Path(tempfile.mkdtemp(prefix="softcache-"))
    folder = room / path.name
    folder.mkdir()
    try:
        yield folder
        require_unchanged(read)
    except BaseException:
        shutil.rmtree(room, ignore_errors=True)
        raise
    try:
        _publish(folder, path, keep_others)
    except BaseException:
        _log.warning("%s: what was to be put there is kept in %s", path, folder)
        raise
    shutil.rmtree(room, ignore_errors=True)


def _publish(folder: Path, path: ObjectPlace, keep_others: bool) -> None:
    """Put the files of a folder as a new generation, and make it the present one."""
    found = {str(file.relative_to(folder)): file for file in sorted(folder.rglob("*")) if file.is_file()}
    former, tops = current(path), {name.partition("/")[0] for name in found}
    names = [name for name in sizes(former) if name.partition("/")[0] not in tops] if keep_others and former != path else []
    facts = {"files": {name: sha256_file(file) for name, file in found.items()}, "kept": [former.name, names]}
    target = path / sha256(canonical_json(facts if names else facts["files"]))[:16]
    with ThreadPoolExecutor(REQUESTS) as pool:
        list(pool.map(lambda name: (target / name).write(found[name]), found))
    for name in names:
        (path / former.name / name).copy(target / name)
    set_current(path, target.name)


def current(folder: Place) -> Place:
    """Where the files of an artifact lie: its folder itself, in a store, or in a copy of one, that of its present generation.

    Where there is none it is the folder itself, which then lacks what is looked for. Raises IntegrityError if current.json
    is damaged.
    """
    fix = "Write this artifact again."
    try:
        data = (folder / CURRENT).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return folder
    try:
        found = json.loads(data)
        name, digest = found["folder"], found["digest"]
    except (ValueError, KeyError, TypeError, RecursionError):
        name = digest = ""
    if not isinstance(name, str) or not GENERATION.fullmatch(name) or digest != sha256(name.encode()):
        raise IntegrityError(str(folder / CURRENT), expected="the name of a folder", found="something else", fix=fix)
    return folder / name


def holds(folder: Place, name: str) -> bool:
    """Whether an artifact has a file of this name."""
    return (current(folder) / name).is_file()


def artifacts(folder: Place, name: str) -> list[Place]:
    """The folders in this one that have a file of this name, sorted."""
    return [each for each in sorted(folder.iterdir()) if holds(each, name)] if folder.is_dir() else []


def set_current(folder: ObjectPlace, name: str) -> None:
    """Make a generation the present one. Others stay, because somebody may be reading them; see cache/prune.py."""
    (folder / CURRENT).write(readable_json({"folder": name, "digest": sha256(name.encode())}))


def _discard(former: Path, path: Path, keep_others: bool) -> None:
    """Remove the former folder. keep_others: first move entries that are missing in `path` there."""
    if keep_others and former.is_dir():
        for entry in former.iterdir():
            if not os.path.lexists(path / entry.name):
                entry.rename(path / entry.name)
    remove(former)


def remove(path: Place) -> None:
    """Remove a file, a link, or a folder with its contents, if it exists."""
    if isinstance(path, ObjectPlace):
        path.remove()
    elif path.is_dir() and not _local(path).is_symlink():
        shutil.rmtree(_local(path))
    else:
        _local(path).unlink(missing_ok=True)


def room_bytes(room: str, variable: str, what: str) -> int:
    """How many bytes a variable allows on a disk. room: its text, in GB; empty for none. what: is kept there, for the message.

    Raises InputError for what is no number of at least 0.
    """
    try:
        size = float(room or 0) * 1e9
    except ValueError:
        size = -1
    if not 0 <= size < 1e18:
        raise InputError(variable, expected=f"GB of disk for {what}", found=repr(room), fix=f"Correct {variable}.")
    return int(size)


def sizes(folder: Place) -> dict[str, int]:
    """The bytes of every file below a folder, by its path there; links are followed."""
    if isinstance(folder, ObjectPlace):
        return {each.url[len(folder.url) + 1 :]: size for each, size in folder.objects()}
    paths = ((path, path.relative_to(_local(folder))) for path in _local(folder).rglob("*") if path.is_file())
    return {str(name): path.stat().st_size for path, name in paths}


def visible(folder: Path, pattern: str) -> list[Path]:
    """Files and folders below `folder` that match, sorted, except in hidden folders, which are unfinished."""
    return [
        path
        for path in sorted(folder.glob(pattern))
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def resolved(path: P) -> P:
    """A path with its symbolic links followed; raises InputError for links in a circle."""
    if not isinstance(path, Path):
        return path
    try:
        return path.resolve()
    except (RuntimeError, OSError) as error:
        raise InputError(str(path), expected="a path", found="symbolic links in a circle", fix="Remove them.") from error
