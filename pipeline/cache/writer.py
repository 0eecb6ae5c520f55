"""Work in progress on a cache: spans are written durably one by one, recorded, and at the end sealed into a cache.

zarr's codecs make the bytes; they are written here, because zarr does not sync files. A record is written only once the bytes
of its span are durable, and the manifest is written last.
"""

import contextlib
import errno
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base import commands, facts, files, runtime
from pipeline.base.differences import differences
from pipeline.base.errors import BusyError, IntegrityError
from pipeline.cache.layout import ARRAYS, Layout, shard
from pipeline.cache.manifest import FILE_NAME, Extent, Manifest, Part, Record, fingerprint, parts

_PLAN, _SEALED, _IDENTITY = "plan.json", "sealed.json", "identity.json"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Published:
    """The content of a record's file. cache: the fingerprint of the identity."""

    cache: str
    record: Record


class Work:
    """A capture in progress, in its own folder outside of every DVC out; open it with `Work.hold`."""

    def __init__(self, folder: Path, out: Path, identity: Mapping[str, Any], layout: Layout, extents: Mapping[str, Extent]):
        self.folder = folder
        self.out = out
        self.identity = identity
        self.layout = layout
        self.extents = extents
        self.records: dict[Part, Record] = {}

    @classmethod
    @contextlib.contextmanager
    def hold(
        cls, root: Path, out: Path, identity: Mapping[str, Any], layout: Layout, extents: Mapping[str, Extent]
    ) -> Iterator["Work"]:
        """Lock the work folder of this identity below `root`; raises BusyError if another process holds it.

        out: the folder that the cache will be sealed into.
        """
        folder = root / fingerprint(identity)
        with files.locked_folder(folder, f"capture of {out.name}"):
            work = cls(folder, out, identity, layout, extents)
            work._announce_changes()
            files.write(folder / _IDENTITY, files.readable_json(dict(identity)))
            files.write(folder / _PLAN, files.readable_json({"out": str(files.resolved(out)), "spans": work.total}))
            yield work

    @property
    def total(self) -> int:
        """How many spans the finished cache has."""
        return sum(1 for _ in parts(self.extents, self.layout.span))

    def resume(self, digests: Mapping[str, Sequence[str]], *, anew: bool = False) -> list[Part]:
        """Adopt the spans that an earlier run recorded; returns the parts that are missing.

        Every recorded span is compared with its sha256, and removed if it is damaged or of other rows. digests: the digest
        of each span's rows, by split. anew: whether to remove all spans.
        """
        if anew:
            for name in ("records", "spans", "tmp"):
                files.remove(self.folder / name)
        unrecorded = self._clear_unrecorded()
        planned = list(parts(self.extents, self.layout.span))
        recorded = [part for part in planned if self._record_path(*part).exists()]
        with ThreadPoolExecutor(runtime.cores()) as pool:
            checked = pool.map(lambda part: self._whole(part, digests[part[0]][part[2]]), recorded)
            bar = runtime.progress(checked, f"checking earlier work on {self.out.name}", total=len(recorded), unit="spans")
            found = {record.part: record for record in bar if record}
        self.records |= found
        if len(found) == len(planned):
            _log.info("%s: already captured: all %d spans verified, to be linked again", self.out.name, len(found))
        elif recorded or unrecorded:
            _log.info(
                "%s: resuming: %d/%d spans verified, %d unrecorded and %d damaged or outdated discarded",
                self.out.name, len(found), len(planned), unrecorded, len(recorded) - len(found),
            )  # fmt: skip
        return [part for part in planned if part not in found]

    def publish(self, split: str, view: int, span: int, rows: str, logits: np.ndarray) -> Record:
        """Make one span durable, then record it. logits: (rows, classes) float32, raw. rows: the digest of its rows.

        Raises layout.Unholdable if the dtype cannot hold a logit; then nothing is recorded.
        """
        data = self.layout.encode(self.layout.rounded(logits))
        path = self._span_path(split, view, span)
        aside = self.folder / "tmp" / _name(split, view, span)
        files.write(aside, data)
        files.make_folder(path.parent)
        aside.rename(path)
        files.sync_folder(path.parent)
        record = Record(split, view, span, rows, len(data), files.sha256(data), float(logits.min()), float(logits.max()))
        published = _Published(fingerprint(self.identity), record)
        files.write(self._record_path(split, view, span), facts.sealed(asdict(published)))
        self.records[record.part] = record
        return record

    def seal(self, read: Iterable[files.Witness] = ()) -> Manifest:
        """Put the finished cache in place of `out`; spans are hardlinked, so that sealing takes seconds.

        Afterwards work that was sealed into `out` before is removed; unfinished work is kept. read: see files.replaced_folder.
        """
        records, metadata, copied = [], {}, 0
        with files.replaced_folder(self.out, read=read) as folder:
            for part in parts(self.extents, self.layout.span):
                split, view, span = part
                copied += not _link(self._span_path(*part), shard(folder / ARRAYS / split, view, span))
                records.append(self.records[part])
            for split, extent in self.extents.items():
                data = self.layout.metadata(extent.views, extent.rows)
                files.write(folder / ARRAYS / split / "zarr.json", data)
                metadata[split] = files.sha256(data)
            manifest = Manifest(self.identity, self.extents, tuple(records), metadata)
            files.write(folder / FILE_NAME, manifest.to_json())
        if copied:
            told = "%s: %d spans were copied, because links from %s failed; put SOFTCACHE_WORK on the same file system"
            _log.warning(told, self.out.name, copied, self.folder)
        self._clear_former()
        files.write(self.folder / _SEALED, files.readable_json({"out": str(files.resolved(self.out))}))
        return manifest

    def _former(self) -> Iterator[Path]:
        """Other work folders that were sealed into `out`."""
        sealed = {"out": str(files.resolved(self.out))}
        for marker in self.folder.parent.glob(f"*/{_SEALED}"):
            if marker.parent != self.folder and _plain(marker) == sealed:
                yield marker.parent

    def _announce_changes(self) -> None:
        """Log why no span is reused, if the last cache was of another identity."""
        if (self.folder / _PLAN).exists():
            return
        for former in self._former():
            changes = differences(_plain(former / _IDENTITY), self.identity)
            text = "; ".join(f"{field} was {_short(old)}, is {_short(new)}" for field, old, new in changes)
            _log.info("%s: another cache than the last one, which is kept until this one is sealed: %s", self.out.name, text)

    def _clear_former(self) -> None:
        for folder in self._former():
            with contextlib.suppress(FileNotFoundError, BusyError), files.locked_folder(folder, "former work"):
                files.clear(folder, but=_SEALED)  # the marker goes last, in case of a kill
                files.remove(folder / _SEALED)

    def _clear_unrecorded(self) -> int:
        """Remove whole and partial spans that have no record; returns how many there were."""
        aside = list(self.folder.glob("tmp/*"))
        shutil.rmtree(self.folder / "tmp", ignore_errors=True)
        for path in self.folder.glob("**/.*.partial"):
            path.unlink()
        spans, removed = self.folder / "spans", len(aside)
        for path in sorted(spans.glob("*/c/*/*/0")):
            split, _, view, span, _ = path.relative_to(spans).parts
            if not self._record_path(split, view, span).exists():
                removed += 1
                files.remove(path)
        return removed

    def _whole(self, part: Part, rows: str) -> Record | None:
        """The record of a span that is whole and of these rows; any other is removed, with its bytes."""
        record_path, path = self._record_path(*part), self._span_path(*part)
        with contextlib.suppress(IntegrityError):
            published, _ = facts.read(_Published, record_path, "It is computed again.")
            record = published.record
            wanted = (published.cache, record.part, record.rows) == (fingerprint(self.identity), part, rows)
            whole = path.is_file() and path.stat().st_size == record.size_bytes
            if wanted and whole and files.sha256_file(path) == record.sha256:
                return record
        files.remove(record_path)
        files.remove(path)
        return None

    def _span_path(self, split: str, view: int, span: int) -> Path:
        return shard(self.folder / "spans" / split, view, span)

    def _record_path(self, split: str, view: int | str, span: int | str) -> Path:
        return self.folder / "records" / f"{_name(split, view, span)}.json"


def require_sealed(cache: Path, root: Path) -> None:
    """Raise IntegrityError, with its progress, if `cache` has no manifest but an unfinished capture below `root`."""
    if (cache / FILE_NAME).exists():
        return
    for plan in root.glob(f"*/{_PLAN}"):
        found = _plain(plan)
        if found.get("out") == str(files.resolved(cache)):
            done = sum(1 for _ in plan.parent.glob("records/*.json"))
            far = f"an unsealed one: {done} of {found.get('spans')} spans captured"
            fix = f"Run {commands.capture(cache)} to finish it."
            raise IntegrityError(str(cache), expected="a sealed cache", found=far, fix=fix)


def _plain(path: Path) -> dict[str, Any]:
    """Facts that only messages and the removal of old work depend on; empty if the file is unreadable or has vanished."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, *facts.NOT_JSON):
        return {}
    return found if isinstance(found, dict) else {}


def _name(split: str, view: int | str, span: int | str) -> str:
    return f"{split}-{view}-{span}"


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) > 40 else text


def _link(source: Path, target: Path) -> bool:
    """Hardlink a file, or copy it if the file systems do not allow links; returns whether it is a link."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        shutil.copyfile(source, target)
        return False
    return True
