"""Nearby: what was read from a store, kept in a folder of this machine, so that the next epoch, or student, reads it there.

Off unless `use` gave it room. A file holds one piece under its name, which says what its content is: so nothing that changed is
found under it. All processes of a machine may share a folder. Under its lock a piece is added, once those that were read
longest ago have made room, so that the folder never holds more than it may. A damaged file is fetched again.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipeline.base import files

D = TypeVar("D", bound=bytes | memoryview)

NEARBY = "SOFTCACHE_NEARBY"  # the variable that says how many GB of disk it may take
SPARE = 20  # one byte in so many is freed besides where there is no room
_DIGEST = 32  # bytes of the sha256 at the end of a file
_LOCK = "lock"
_PARTIAL = ".partial"
_log = logging.getLogger(__name__)

Data = bytes | memoryview


@dataclass
class _Room:
    """folder, size: where, and how many bytes at most. broken: whether the disk has refused something."""

    folder: Path
    size: int
    broken: bool = False


_room: _Room | None = None


def use(folder: Path, room: str) -> None:
    """Keep what stores give in a folder from now on.

    Args:
        folder: The folder, made when something is kept.
        room: How much it may hold, in GB; empty or 0 for nothing.

    Raises:
        InputError: The room is no number of at least 0.
    """
    global _room
    size = files.room_bytes(room, NEARBY, "what stores give, such as 50")
    _room = _Room(folder, size) if size else None


@contextlib.contextmanager
def sound(name: str, fetch: Callable[[], Data]) -> Iterator[Data]:
    """The bytes of this name, from the folder where they are there, else as `fetch` gives them.

    These are kept when the block is done, which must raise an error where they are not what they should be.
    name: of a file; equal names must mean equal bytes.
    """
    room = _room  # another thread may switch it off
    if room is None or (found := _found(room.folder / name)) is None:
        fetched = fetch()
        yield fetched
        if room is not None:
            _keep(room, room.folder / name, fetched)
    else:
        yield found


def data(name: str, fetch: Callable[[], Data]) -> Data:
    """The bytes of this name, see `sound`, where `fetch` raises an error for what is not what it should be."""
    with sound(name, fetch) as found:
        return found


def _found(path: Path) -> Data | None:
    """What a file holds; None if there is none, or a damaged one, which is removed."""
    try:
        with path.open("rb") as file:
            content = file.read(max(0, os.fstat(file.fileno()).st_size - _DIGEST))
            digest = file.read()
    except OSError:
        return None
    with contextlib.suppress(OSError):  # another process was faster, or nobody may write there
        if _sha256(path.name, content) != digest:
            _log.warning("%s: damaged, so it is fetched again", path)
            path.unlink()
            return None
        os.utime(path)  # it was read now
    return content


def _keep(room: _Room, path: Path, content: Data) -> None:
    """Add a file, once others have made room for it; one that is larger than the room is not kept."""
    size = len(content) + _DIGEST
    if room.broken or size > room.size:
        return
    partial = path.with_name(f"{path.name}{_PARTIAL}")
    try:
        room.folder.mkdir(parents=True, exist_ok=True)
        with _locked(room.folder) as lock:
            held = _noted(lock)
            if held is None or held + size > room.size:
                held = _make_room(room.folder, room.size - size)
            _note(lock, held + size)  # before it is: after a kill the number is too large, at most
            try:
                with partial.open("wb") as file:
                    file.write(content)
                    file.write(_sha256(path.name, content))
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
    except OSError as error:  # it is a convenience: a full disk stops nothing
        room.broken = True
        _log.warning("%s: %s; nothing more is kept there", room.folder, error)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Hold the lock of a folder, for threads and processes; the kernel releases it however its holder ends. Yields its file."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _noted(lock: int) -> int | None:
    """How many bytes the files take at most, as the lock file says, so that they are not counted for each piece."""
    text = os.pread(lock, 32, 0)
    return int(text) if text.isdigit() else None


def _note(lock: int, held: int) -> None:
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(held).encode(), 0)


def _make_room(folder: Path, most: int) -> int:
    """Remove what a kill left half written, then what was read longest ago, until the files take no more than `most` bytes.

    If they took more, a twentieth is freed besides, for the next pieces. Returns how many they take.
    """
    found, held = [], 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(_PARTIAL):  # who writes holds the lock
                os.unlink(entry.path)
            elif entry.name != _LOCK:
                with contextlib.suppress(FileNotFoundError):  # it was damaged, and another process removed it
                    facts = entry.stat()
                    found.append((facts.st_mtime_ns, facts.st_size, entry.path))
                    held += facts.st_size
    if held <= most:
        return held
    for _, size, path in sorted(found):
        if held <= most - most // SPARE:
            break
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        held -= size
    return held


def _sha256(name: str, content: Data) -> bytes:
    """Of the name and the content, so that a file under another's name is found."""
    digest = hashlib.sha256(name.encode())
    digest.update(content)
    return digest.digest()
