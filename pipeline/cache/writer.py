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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base import commands, facts, files, runtime
from pipeline.base.differences import differences
from pipeline.base.errors import BusyError, InputError, IntegrityError
from pipeline.cache.knowledge.head import FILE_NAME as HEAD
from pipeline.cache.knowledge.head import Head
from pipeline.cache.knowledge.knowledge import Knowledge
from pipeline.cache.layout import ENDING
from pipeline.cache.manifest import FILE_NAME, Extent, Manifest, Part, Record, fingerprint, metadata_path, parts

_PLAN, _SEALED, _IDENTITY = "plan.json", "sealed.json", "identity.json"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Published:
    """The content of a record's file. cache: the fingerprint of the identity. head: the sha256 of the head's file, if any."""

    cache: str
    record: Record
    head: str | None = None


@dataclass(frozen=True)
class _KeptHead:
    """What is known of the head that lies in a work folder."""

    sha256: str


class Work:
    """A capture in progress, in its own folder outside of every DVC out; open it with `Work.hold`."""

    def __init__(
        self, folder: Path, out: Path, identity: Mapping[str, Any], knowledge: Knowledge, extents: Mapping[str, Extent]
    ):
        self.folder = folder
        self.out = out
        self.identity = identity
        self.knowledge = knowledge
        self.extents = extents
        self.records: dict[Part, list[Record]] = {}  # of each array
        self.head: Head | None = None
        self._head_sha256: str | None = None

    @classmethod
    @contextlib.contextmanager
    def hold(
        cls, root: Path, out: Path, identity: Mapping[str, Any], knowledge: Knowledge, extents: Mapping[str, Extent]
    ) -> Iterator["Work"]:
        """Lock the work folder of this identity below `root`; raises BusyError if another process holds it.

        out: the folder that the cache will be sealed into.
        """
        folder = root / fingerprint(identity)
        with files.locked_folder(folder, f"capture of {out.name}"):
            work = cls(folder, out, identity, knowledge, extents)
            work._announce_changes()
            files.write(folder / _IDENTITY, files.readable_json(dict(identity)))
            files.write(folder / _PLAN, files.readable_json(work._plan()))
            yield work

    def _plan(self) -> dict[str, Any]:
        return {"out": str(files.resolved(self.out)), "spans": self.total, "array": self.knowledge.main.name}

    @property
    def total(self) -> int:
        """How many spans the finished cache has."""
        return sum(1 for _ in parts(self.extents, self.span))

    @property
    def span(self) -> int:
        """Rows of a span."""
        return self.knowledge.layout.span

    def keep_head(self, make: Callable[[], Head], *, anew: bool = False) -> None:
        """Write the head, before the first span. make: makes it, where an earlier run has not kept one, or it is damaged."""
        path = self.folder / HEAD
        with contextlib.suppress(IntegrityError, InputError, OSError, ValueError):
            if not anew:
                kept, _ = facts.read(_KeptHead, path.with_suffix(".json"), "It is made again.")
                data = path.read_bytes()
                if files.sha256(data) == kept.sha256:
                    self.head, self._head_sha256 = Head.of_bytes(data), kept.sha256
                    return
        self.head = make()
        data = self.head.to_bytes()
        self._head_sha256 = files.sha256(data)
        files.write(path, data)
        files.write(path.with_suffix(".json"), facts.sealed(asdict(_KeptHead(self._head_sha256))))

    def resume(self, digests: Mapping[str, Sequence[str]], *, anew: bool = False) -> list[Part]:
        """Adopt the spans that an earlier run recorded; returns the parts that are missing.

        Every recorded span is compared with its sha256, and removed if it is damaged, of other rows, or made with another head.
        digests: the digest of each span's rows, by split. anew: whether to remove all spans.
        """
        if anew:
            for name in ("records", "spans", "tmp"):
                files.remove(self.folder / name)
        unrecorded = self._clear_unrecorded()
        planned, arrays = list(parts(self.extents, self.span)), list(self.knowledge.arrays)
        recorded = [part for part in planned if all(self._record_path(array, *part).exists() for array in arrays)]
        with ThreadPoolExecutor(runtime.cores()) as pool:
            checked = pool.map(lambda part: [self._whole(array, part, digests[part[0]][part[2]]) for array in arrays], recorded)
            bar = runtime.progress(checked, f"checking earlier work on {self.out.name}", total=len(recorded), unit="spans")
            kept = [[record for record in records if record] for records in bar]
            found = {records[0].part: records for records in kept if len(records) == len(arrays)}
        self.records |= found
        if len(found) == len(planned):
            _log.info("%s: already captured: all %d spans verified, to be linked again", self.out.name, len(found))
        elif recorded or unrecorded:
            _log.info(
                "%s: resuming: %d/%d spans verified, %d unrecorded and %d damaged or outdated discarded",
                self.out.name, len(found), len(planned), unrecorded, len(recorded) - len(found),
            )  # fmt: skip
        return [part for part in planned if part not in found]

    def publish(
        self,
        split: str,
        view: int,
        span: int,
        rows: str,
        logits: np.ndarray,
        hidden: np.ndarray | None = None,
        features: Sequence[np.ndarray] = (),
    ) -> Record:
        """Make what is kept of one span durable, then record it; returns the record of its main array.

        logits: (rows, classes) float32, raw. hidden, features: see Knowledge.stored. rows: the digest of its rows.
        Raises layout.Unholdable if a dtype cannot hold a number; then nothing is recorded.
        """
        stored, records = self.knowledge.stored(self.head, logits, hidden, features), []
        for array, held in stored.items():
            data = self.knowledge.arrays[array].encode(held.block)
            path = self._span_path(array, split, view, span)
            aside = self.folder / "tmp" / _name(array, split, view, span)
            files.write(aside, data)
            files.make_folder(path.parent)
            aside.rename(path)
            files.sync_folder(path.parent)
            sha256 = files.sha256(data)
            records.append(Record(split, view, span, rows, len(data), sha256, held.low, held.high, array, held.kl))
        for record in records:
            published = _Published(fingerprint(self.identity), record, self._head_sha256)
            files.write(self._record_path(record.array, split, view, span), facts.sealed(asdict(published)))
        self.records[split, view, span] = records
        return records[0]

    def seal(self, read: Iterable[files.Witness] = ()) -> Manifest:
        """Put the finished cache in place of `out`; spans are hardlinked, so that sealing takes seconds.

        Afterwards work that was sealed into `out` before is removed; unfinished work is kept. read: see files.replaced_folder.
        """
        records: list[Record] = []
        metadata: dict[str, bytes] = {}
        copied = 0
        with files.replaced_folder(self.out, read=read) as folder:
            for part in parts(self.extents, self.span):
                split, view, span = part
                for record in self.records[part]:
                    place = self.knowledge.arrays[record.array].shard(view, span)
                    copied += not _link(
                        self._span_path(record.array, *part), folder / f"{record.array}{ENDING}" / split / place
                    )
                    records.append(record)
            for array, layout in self.knowledge.arrays.items():
                for split, extent in self.extents.items():
                    metadata[metadata_path(array, split)] = layout.metadata(extent.views, extent.rows)
            if self.head is not None:
                metadata[HEAD] = self.head.to_bytes()
            for name, data in metadata.items():
                files.write(folder / name, data)
            digests = {name: files.sha256(data) for name, data in metadata.items()}
            manifest = Manifest(self.identity, self.extents, tuple(records), digests)
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
            changes = differences(_brief(_plain(former / _IDENTITY)), _brief(self.identity))
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
        for path in sorted(spans.glob("*/*/c/*/*")):
            array, split, _, view, span = path.relative_to(spans).parts
            if not self._record_path(array, split, view, span).exists():
                removed += 1
                files.remove(path)
        return removed

    def _whole(self, array: str, part: Part, rows: str) -> Record | None:
        """The record of a span that is whole and of these rows; any other is removed, with its bytes."""
        record_path, path = self._record_path(array, *part), self._span_path(array, *part)
        with contextlib.suppress(IntegrityError):
            published, _ = facts.read(_Published, record_path, "It is computed again.")
            record = published.record
            made = (published.cache, published.head, record.array, record.part, record.rows)
            wanted = made == (fingerprint(self.identity), self._head_sha256, array, part, rows)
            whole = path.is_file() and path.stat().st_size == record.size_bytes
            if wanted and whole and files.sha256_file(path) == record.sha256:
                return record
        files.remove(record_path)
        files.remove(path)
        return None

    def _span_path(self, array: str, split: str, view: int, span: int) -> Path:
        return self.folder / "spans" / array / split / self.knowledge.arrays[array].shard(view, span)

    def _record_path(self, array: str, split: str, view: int | str, span: int | str) -> Path:
        return self.folder / "records" / f"{_name(array, split, view, span)}.json"


def require_sealed(cache: Path, root: Path) -> None:
    """Raise IntegrityError, with its progress, if `cache` has no manifest but an unfinished capture below `root`."""
    if (cache / FILE_NAME).exists():
        return
    for plan in root.glob(f"*/{_PLAN}"):
        found = _plain(plan)
        if found.get("out") == str(files.resolved(cache)):
            main = found.get("array", "logits")
            done = sum(1 for _ in plan.parent.glob(f"records/{main}-*.json"))
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


def _brief(identity: Mapping[str, Any]) -> Mapping[str, Any]:
    """An identity for messages: of each feature one fact, its shape. What is not as a capture writes it is left as it is."""
    try:
        knowledge = identity["knowledge"]
        shapes = {text: "×".join(map(str, said["shape"])) for text, said in knowledge["features"].items()}
    except (LookupError, TypeError, AttributeError):
        return identity
    return {**identity, "knowledge": {**knowledge, "features": shapes}}


def _name(array: str, split: str, view: int | str, span: int | str) -> str:
    return f"{array}-{split}-{view}-{span}"


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
