"""Decoded spans on disk, so that images are decoded once for all teachers, students and epochs that read them.

Off unless `use` gave it room. A file holds the pixels of one span; its name is a digest of the span's rows and of how they are
decoded, so that splits that share a span share the file, and nothing that changed is found. A damaged file is removed when it
is read, and what a kill left half written an hour later; all others stay: delete the folder whenever you like.
"""

import contextlib
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base import files
from pipeline.data.settings import DECODED

_DIGEST = 32  # bytes of the sha256 at the end of a file
_PARTIAL = ".partial"  # the end of the name of a file that is being written
_WRITTEN_S = 3600  # seconds after which nobody writes it any more
_log = logging.getLogger(__name__)


@dataclass
class _Store:
    """folder, room: where, and how many bytes at most. held: bytes there, as far as this process knows."""

    folder: Path
    room: int
    held: int
    full: bool = False


_store: _Store | None = None


def use(folder: Path, room: str) -> None:
    """Keep decoded spans in a folder from now on.

    Args:
        folder: The folder, made when something is kept.
        room: How much it may hold, in GB; empty or 0 for nothing.

    Raises:
        InputError: The room is no number of at least 0.
    """
    global _store
    size = files.room_bytes(room, DECODED, "decoded images, such as 20")
    if not size:
        _store = None
        return
    _remove_partial(folder)
    _store = _Store(folder, size, _bytes_in(folder))


def pixels(facts: Any, shape: Sequence[int], decode: Callable[[], np.ndarray]) -> np.ndarray:
    """Pixels as `decode` gives them, from disk where they are there, and put there where there is room.

    facts: plain values that the pixels are a function of. shape: (rows, channels, height, width), uint8.
    """
    if _store is None:
        return decode()
    path = _store.folder / files.sha256(files.canonical_json(facts))
    if (found := _found(_store, path, shape)) is not None:
        return found
    decoded = decode()
    _keep(_store, path, decoded)
    return decoded


def has(facts: Any) -> bool:
    """Whether there may be pixels of these facts on disk."""
    return _store is not None and (_store.folder / files.sha256(files.canonical_json(facts))).exists()


def _bytes_in(folder: Path) -> int:
    """Bytes of the finished files in a folder, which others may add to and remove from."""
    size = 0
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                size += 0 if entry.name.endswith(_PARTIAL) else entry.stat().st_size
    return size


def _remove_partial(folder: Path) -> None:
    """Remove what a kill left half written. It is young where another process may be writing it."""
    youngest = time.time() - _WRITTEN_S
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # another process was faster, or nobody may write there
                if entry.name.endswith(_PARTIAL) and entry.stat(follow_symlinks=False).st_mtime < youngest:
                    os.unlink(entry.path)


def _found(store: _Store, path: Path, shape: Sequence[int]) -> np.ndarray | None:
    """The pixels in a file; None if there is none, or a damaged one. In memory they are channels last, as they are decoded."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError:
        return None
    rows, channels, height, width = shape
    held = data[:-_DIGEST]
    if len(held) != rows * channels * height * width or _sha256(path, held) != data[-_DIGEST:].tobytes():
        with contextlib.suppress(OSError):  # another process was faster, or nobody may write there
            path.unlink()
            store.held -= data.nbytes
        return None
    return held.reshape(rows, height, width, channels).transpose(0, 3, 1, 2)


def _keep(store: _Store, path: Path, decoded: np.ndarray) -> None:
    held = np.ascontiguousarray(decoded.transpose(0, 2, 3, 1))
    if store.held + held.nbytes + _DIGEST > store.room:
        if not store.full:
            _log.info("%s: full with %.3g GB; other images are decoded every time", store.folder, store.held / 1e9)
        store.full = True
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}{_PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            held.tofile(file)
            file.write(_sha256(path, held))
        aside.replace(path)
        store.held += held.nbytes + _DIGEST
    except OSError as error:  # it is a convenience: a full disk stops nothing
        store.full, store.room = True, 0
        _log.info("%s: %s; images are decoded every time", store.folder, error)
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def _sha256(path: Path, held: np.ndarray) -> bytes:
    """Of the name and the pixels, so that a file under another's name is found."""
    digest = hashlib.sha256(path.name.encode())
    digest.update(held.data)
    return digest.digest()
