"""The work room: a capture in a folder of this machine, outside of every DVC out, named after the identity of the cache."""

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base import facts, files, runtime
from pipeline.base.errors import BusyError, IntegrityError
from pipeline.base.places import Place
from pipeline.cache import room
from pipeline.cache.knowledge.knowledge import Knowledge
from pipeline.cache.manifest import FILE_NAME, Manifest, Record

_SEALED = "sealed.json"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkRoom:
    """A room.Room. folder: of the work. out: the folder that the cache will be sealed into.

    lasting: whether that is a folder of one generation in a store, where others stay beside it.
    """

    folder: Path
    out: Path
    knowledge: Knowledge
    lasting: bool = False

    @property
    def sealed(self) -> Path:
        return self.out

    @property
    def spans(self) -> Path:
        return self.folder / "spans"

    @property
    def kept(self) -> Path:
        return self.folder

    @property
    def readers(self) -> int:
        return runtime.cores()

    @property
    def writers(self) -> int:
        return 1

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        with files.locked_folder(self.folder, f"capture of {self.out.name}"):
            yield

    def clear(self) -> None:
        for name in ("records", "spans"):
            files.remove(self.folder / name)

    def tidy(self) -> int:
        """Remove whole and partial spans that have no record: no worker is left that could still write one."""
        for path in self.folder.glob("**/.*.partial"):
            path.unlink(missing_ok=True)
        removed, recorded = 0, set(room.records_of(self.kept))
        for path in sorted(self.spans.glob("*/*/c/*/*")):
            array, split, _, view, span = path.relative_to(self.spans).parts
            if f"{Path(array).stem}-{split}-{view}-{span}" not in recorded:
                removed += 1
                files.remove(path)
        return removed

    def former(self) -> tuple[Path, Manifest] | None:
        """That of the store, which others may have captured; otherwise none: its spans are still in this room, if they fit."""
        with contextlib.suppress(IntegrityError):
            return (self.out, Manifest.read(self.out)) if self.lasting else None
        return None

    def inherit(self, source: Place, path: str) -> bool:
        """Linked, or copied; compared with its record later."""
        with contextlib.suppress(FileNotFoundError):
            try:
                _link(Path(str(source), path), self.spans / path)
            except FileExistsError:
                return False
            return True
        return False

    def former_identity(self) -> Mapping[str, Any]:
        if (self.folder / room.PLAN).exists():
            return {}
        return next((plain(former / room.IDENTITY) for former in self._former()), {})

    def seal(
        self, records: Sequence[Record], others: Mapping[str, bytes], manifest: bytes, read: Iterable[files.Witness]
    ) -> None:
        """Spans are hardlinked, so that sealing takes seconds.

        Afterwards work that was sealed into `out` before is removed; unfinished work is kept.
        """
        copied = 0
        with files.replaced_folder(self.out, read=read) as folder:
            for record in records:
                path = self._path(record)
                copied += not _link(self.spans / path, folder / path)
            for name, data in others.items():
                files.write(folder / name, data)
            files.write(folder / FILE_NAME, manifest)
        if copied:
            told = "%s: %d spans were copied, because links from %s failed; put SOFTCACHE_WORK on the same file system"
            _log.warning(told, self.out.name, copied, self.folder)
        self._clear_former()
        files.write(self.folder / _SEALED, files.readable_json(self._marker))

    @property
    def _marker(self) -> dict[str, Any]:
        """What sealed.json holds: into which cache this work was sealed, of whatever generation."""
        return {"out": str(files.resolved(self.out.parent if self.lasting else self.out))}

    def _path(self, record: Record) -> str:
        return room.shard(self.knowledge.arrays[record.array].shard(record.view, record.span), record.array, record.split)

    def _former(self) -> Iterator[Path]:
        """Other work folders that were sealed into this cache."""
        for marker in self.folder.parent.glob(f"*/{_SEALED}"):
            if marker.parent != self.folder and plain(marker) == self._marker:
                yield marker.parent

    def _clear_former(self) -> None:
        for folder in self._former():
            with contextlib.suppress(FileNotFoundError, BusyError), files.locked_folder(folder, "former work"):
                files.clear(folder, but=_SEALED)  # the marker goes last, in case of a kill
                files.remove(folder / _SEALED)


def plain(path: Place) -> dict[str, Any]:
    """Facts that only messages and the removal of old work depend on; empty if the file is unreadable or has vanished."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, *facts.NOT_JSON):
        return {}
    return found if isinstance(found, dict) else {}


def _link(source: Path, target: Path) -> bool:
    """Hardlink a file, or copy it if the file systems do not allow links; returns whether it is a link."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in files.NO_LINKS:
            raise
        shutil.copyfile(source, target)
        return False
    return True
