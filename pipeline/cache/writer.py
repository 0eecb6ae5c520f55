"""Work in progress on a cache: spans are written durably one by one, recorded, and at the end sealed into a cache.

zarr's codecs make the bytes; they are written here, because zarr does not sync files, and lets a conflict pass. A record is
written only once the bytes of its span are durable, and the manifest is written last. Where all that lies, a room knows.
"""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base import commands, facts, files, runtime
from pipeline.base.differences import differences
from pipeline.base.errors import InputError, IntegrityError
from pipeline.base.places import ObjectPlace, Place
from pipeline.cache.knowledge.head import FILE_NAME as HEAD
from pipeline.cache.knowledge.head import Head
from pipeline.cache.knowledge.knowledge import Knowledge, Stored
from pipeline.cache.layout import Damaged, ends
from pipeline.cache.manifest import FILE_NAME, Extent, Manifest, Part, Record, fingerprint, metadata_path, parts
from pipeline.cache.room import IDENTITY, PLAN, Room, generation, record_name, records_of, shard
from pipeline.cache.storeroom import StoreRoom
from pipeline.cache.workroom import WorkRoom, plain

NEAR = 1e-3  # share of the largest number by which those of two processors may differ; wrong rows and nets do by far more
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Published:
    """The content of a record's file. cache: the fingerprint of the identity. head: the sha256 of the head's file, if any."""

    cache: str
    record: Record
    head: str | None = None


@dataclass(frozen=True)
class Ticket:
    """By which another process joins a work that is held here; it can be pickled."""

    room: Room
    name: str
    identity: Mapping[str, Any]
    knowledge: Knowledge
    extents: Mapping[str, Extent]


class Work:
    """A capture in progress; open it with `Work.hold`, and in other processes with `Work.join`."""

    def __init__(self, room: Room, name: str, identity: Mapping[str, Any], knowledge: Knowledge, extents: Mapping[str, Extent]):
        self.room = room
        self.name = name  # of the cache, for messages
        self.identity = identity
        self.knowledge = knowledge
        self.extents = extents
        self.records: dict[Part, list[Record]] = {}  # of each array
        self.head: Head | None = None
        self._head_sha256: str | None = None

    @classmethod
    @contextlib.contextmanager
    def hold(
        cls,
        root: Place,
        out: Place,
        identity: Mapping[str, Any],
        knowledge: Knowledge,
        extents: Mapping[str, Extent],
        store: Place | None = None,
        anew: bool = False,
    ) -> Iterator["Work"]:
        """Open the room of this identity; raises BusyError if another process holds it.

        root: where it is made, unless the cache lies in a store. out: the folder that the cache will be sealed into.
        store: where that is instead, under its name and generation, beside those of before.
        anew: whether nothing of before will be used, see `resume`.
        Raises InputError for a root in a store and an `out` that is not, and for a store that cannot be written safely.
        """
        room = _room(root, out, identity, knowledge, extents, store, anew)
        with room.held():
            work = cls(room, out.name, identity, knowledge, extents)
            work._announce_changes()
            plan = {"out": str(files.resolved(out)), "spans": work.total, "array": knowledge.main.name}
            with contextlib.suppress(LookupError):  # an identity that no capture writes has no options
                plan["options"] = Manifest(identity, extents, (), {}).options
            files.write(room.kept / IDENTITY, files.readable_json(dict(identity)))
            files.write(room.kept / PLAN, files.readable_json(plan))
            yield work

    @property
    def ticket(self) -> Ticket:
        """By which workers join this work."""
        return Ticket(self.room, self.name, self.identity, self.knowledge, self.extents)

    @classmethod
    def join(cls, ticket: Ticket) -> "Work":
        """Open a work that another process holds, to publish spans of it. Raises IntegrityError where its head is damaged."""
        work = cls(ticket.room, ticket.name, ticket.identity, ticket.knowledge, ticket.extents)
        if ticket.knowledge.main.headed and not work._load_head():
            fix = "Run the capture again."
            raise IntegrityError(str(work._head_path), expected="the head of the teacher", found="none", fix=fix)
        return work

    @property
    def folder(self) -> Place:
        """Where the work lies."""
        return self.room.kept

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
        if anew and isinstance(self.room, WorkRoom):
            files.remove(self._head_path)
        if self._load_head():
            return
        data = make().to_bytes()
        files.create(self._head_path, files.sha256(data).encode() + b"\n" + data)  # of two at a time, the first one's stays
        if not self._load_head():
            fix = "Run the capture again."
            raise IntegrityError(str(self._head_path), expected="the head that was just kept", found="none", fix=fix)

    def _load_head(self) -> bool:
        """Take the head that is kept; returns whether there is one. A damaged one is removed."""
        try:
            digest, _, data = self._head_path.read_bytes().partition(b"\n")
        except OSError:
            return False
        with contextlib.suppress(ValueError):
            if files.sha256(data).encode() == digest:
                self.head, self._head_sha256 = Head.of_bytes(data), digest.decode()
                return True
        files.remove(self._head_path)
        return False

    @property
    def _head_path(self) -> Place:
        """The head after its sha256 and a newline, in one file."""
        return self.room.kept / "head"

    def resume(self, digests: Mapping[str, Sequence[str]], *, anew: bool = False) -> list[Part]:
        """Adopt the spans that an earlier run recorded; returns the parts that are missing.

        Every recorded span is compared with its sha256, and removed if it is damaged, of other rows, or made with another head.
        digests: the digest of each span's rows, by split. anew: whether to remove all spans.
        """
        if anew:
            self.room.clear()
        else:
            self._inherit(digests)
        unrecorded = self.room.tidy()
        planned, names = list(parts(self.extents, self.span)), set(records_of(self.room.kept))
        recorded = [part for part in planned if any(record_name(array, part) in names for array in self.knowledge.arrays)]
        with ThreadPoolExecutor(self.room.readers) as pool:
            checked = pool.map(lambda part: self._whole(part, digests[part[0]][part[2]]), recorded)
            bar = runtime.progress(checked, f"checking earlier work on {self.name}", total=len(recorded), unit="spans")
            found = {records[0].part: records for records in bar if records}
        self.records |= found
        if len(found) == len(planned):
            _log.info("%s: already captured: all %d spans verified, to be linked again", self.name, len(found))
        elif recorded or unrecorded:
            _log.info(
                "%s: resuming: %d/%d spans verified, %d unrecorded and %d damaged or outdated discarded",
                self.name, len(found), len(planned), unrecorded, len(recorded) - len(found),
            )  # fmt: skip
        return [part for part in planned if part not in found]

    def gather(self, wanted: Iterable[Part]) -> list[Part]:
        """Adopt the records that workers have written of these parts; returns those that are still missing."""
        missing, fix = [], "It is computed again."
        for part in wanted:
            with contextlib.suppress(IntegrityError, InputError):
                found = [facts.read(_Published, self._record_path(array, part), fix)[0] for array in self.knowledge.arrays]
                if all(each.cache == fingerprint(self.identity) and each.head == self._head_sha256 for each in found):
                    self.records[part] = [each.record for each in found]
                    continue
            missing.append(part)
        return missing

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
        Where another worker was quicker, its bytes are taken, if they are these numbers but for their last bits.
        Raises layout.Unholdable if a dtype cannot hold a number; then nothing is recorded. Raises IntegrityError where other
        numbers are there.
        """
        part, records = (split, view, span), []
        for array, held in self.knowledge.stored(self.head, logits, hidden, features).items():
            data: bytes | memoryview = self.knowledge.arrays[array].encode(held.block)
            if not files.create(self._span_path(array, part), data):
                data, held = self._taken(array, part, held)
            sha256 = files.sha256(data)
            records.append(Record(split, view, span, rows, len(data), sha256, held.low, held.high, array, held.kl))
        self.records[part] = [self._record(record) for record in records]
        return self.records[part][0]

    def _record(self, record: Record) -> Record:
        """Write a record; returns it, or that which another worker has written of the same bytes."""
        path = self._record_path(record.array, record.part)
        own = _Published(fingerprint(self.identity), record, self._head_sha256)
        if files.create(path, facts.sealed(asdict(own))):
            return record
        there, _ = facts.read(_Published, path, fix := f"Remove it, then run this again: {path}.")
        for what, mine, found in (
            ("sha256", record.sha256, there.record.sha256), ("rows", record.rows, there.record.rows),
            ("cache", own.cache, there.cache), ("head", own.head, there.head),
        ):  # fmt: skip
            if mine != found:
                raise IntegrityError(f"{path}, {what}", expected=f"{str(mine)[:12]}…", found=f"{str(found)[:12]}…", fix=fix)
        return there.record

    def _taken(self, array: str, part: Part, own: Stored) -> tuple[bytes, Stored]:
        """The bytes of a span that another worker has written, and what they hold. own: what this one would have written."""
        path, layout = self._span_path(array, part), self.knowledge.arrays[array]
        data, found = path.read_bytes(), "damaged bytes"
        with contextlib.suppress(Damaged, ValueError, IndexError):
            block = layout.decode(data, len(own.block))
            mine, theirs = (each.astype(np.float32) for each in (own.block, block))
            allowed = np.float32(NEAR) * np.abs(mine).max() + 2 * layout.rounding(mine) + (layout.dtype == "int8")
            if len(data) == layout.shard_bytes(len(own.block)) and (np.abs(mine - theirs) <= allowed).all():
                if array == self.knowledge.main.name and self.knowledge.main.headed:
                    return data, Stored(block, own.low, own.high, own.kl)
                return data, Stored(block, *ends(block), own.kl)
            found = f"others, by {np.abs(mine - theirs).max():.2g}"
        fix = f"One of two workers is wrong: find out which, remove {path}, then run this again."
        raise IntegrityError(str(path), expected="what the teacher gives, as another worker wrote it", found=found, fix=fix)

    def seal(self, read: Iterable[files.Witness] = ()) -> Manifest:
        """Put the finished cache in place of the former one. read: what it was made of; see files.replaced_folder."""
        records = [record for part in parts(self.extents, self.span) for record in self.records[part]]
        others = {
            metadata_path(array, split): layout.metadata(extent.views, extent.rows)
            for array, layout in self.knowledge.arrays.items()
            for split, extent in self.extents.items()
        }
        if self.head is not None:
            others[HEAD] = self.head.to_bytes()
        digests = {name: files.sha256(data) for name, data in others.items()}
        manifest = Manifest(self.identity, self.extents, tuple(records), digests)
        self.room.seal(records, others, manifest.to_json(), read)
        return manifest

    def _announce_changes(self) -> None:
        """Log why no span is reused, if the last cache was of another identity."""
        if former := self.room.former_identity():
            changes = differences(_brief(former), _brief(self.identity))
            text = "; ".join(f"{field} was {_short(old)}, is {_short(new)}" for field, old, new in changes)
            _log.info("%s: another cache than the last one, which is kept until this one is sealed: %s", self.name, text)

    def _inherit(self, digests: Mapping[str, Sequence[str]]) -> None:
        """Take the spans of the present cache into the room, if it is of the same identity, and has these rows."""
        if (found := self.room.former()) is None:
            return
        source, former = found
        if former.identity != self.identity or former.files_sha256.get(HEAD) != self._head_sha256:
            return
        planned, recorded, there = (
            set(parts(self.extents, self.span)),
            set(records_of(self.room.kept)),
            files.sizes(self.room.spans),
        )

        def take(record: Record) -> None:
            path = self._shard(record.array, record.part)
            fits = record.part in planned and record.rows == digests[record.split][record.span]
            missing = path not in there and record_name(record.array, record.part) not in recorded
            if fits and missing and self.room.inherit(source, path):
                self._record(record)

        with ThreadPoolExecutor(self.room.readers) as pool:
            list(pool.map(take, former.records))

    def _whole(self, part: Part, rows: str) -> list[Record]:
        """The records of a span if it is whole and of these rows; what is not is removed, with its bytes."""
        found = [self._whole_array(array, part, rows) for array in self.knowledge.arrays]
        return [record for record in found if record] if all(found) else []

    def _whole_array(self, array: str, part: Part, rows: str) -> Record | None:
        record_path, path = self._record_path(array, part), self._span_path(array, part)
        with contextlib.suppress(IntegrityError, InputError, FileNotFoundError):
            published, _ = facts.read(_Published, record_path, "It is computed again.")
            record = published.record
            made = (published.cache, published.head, record.array, record.part, record.rows)
            wanted = made == (fingerprint(self.identity), self._head_sha256, array, part, rows)
            if wanted and _is_whole(path, record):
                return record
        files.remove(record_path)
        files.remove(path)
        return None

    def _span_path(self, array: str, part: Part) -> Place:
        return self.room.spans / self._shard(array, part)

    def _shard(self, array: str, part: Part) -> str:
        split, view, span = part
        return shard(self.knowledge.arrays[array].shard(view, span), array, split)

    def _record_path(self, array: str, part: Part) -> Place:
        return self.room.kept / "records" / f"{record_name(array, part)}.json"


def _is_whole(path: Place, record: Record) -> bool:
    """Whether the file of a span has its size and its sha256."""
    if isinstance(path, ObjectPlace):
        data, _ = path.read_version()
        return len(data) == record.size_bytes and files.sha256(data) == record.sha256
    return path.is_file() and path.stat().st_size == record.size_bytes and files.sha256_file(path) == record.sha256


def _room(
    root: Place,
    out: Place,
    identity: Mapping[str, Any],
    knowledge: Knowledge,
    extents: Mapping[str, Extent],
    store: Place | None,
    anew: bool,
) -> Room:
    """The room of a cache: in a store if that is where it will be."""
    place = out if store is None else store / out.name
    if isinstance(place, ObjectPlace):
        name = generation(identity, extents, lambda name: (place / f"{name}{files.WORK}" / PLAN).is_file(), anew=anew)
        return StoreRoom(place, name, identity, extents, knowledge)
    if isinstance(root, Path) and isinstance(place, Path):
        work = root / fingerprint(identity)
        if store is None:
            return WorkRoom(work, place, knowledge)
        name = generation(identity, extents, lambda name: (place / name).exists(), anew=anew)
        return WorkRoom(work, place / name, knowledge, lasting=True)
    fix = "Name a folder of this machine, such as .softcache."
    raise InputError("work", expected=f"a place on the same machine as {out}", found=str(root), fix=fix)


def require_sealed(cache: Place, root: Place) -> None:
    """Raise IntegrityError, which says how far it is, if `cache` is unfinished. root: where captures outside of stores are."""
    if files.holds(cache, FILE_NAME):
        return
    rooms = cache if isinstance(cache, ObjectPlace) else root
    for plan in (each / PLAN for each in (sorted(rooms.iterdir()) if rooms.is_dir() else ())):
        found = plain(plan)
        if found.get("out") == str(files.resolved(cache)):
            main = found.get("array", "logits")
            done = sum(1 for name in records_of(plan.parent) if name.startswith(f"{main}-"))
            far = f"an unsealed one: {done} of {found.get('spans')} spans captured"
            options = [text for text in found.get("options") or () if isinstance(text, str)]
            fix = f"Run {commands.capture(cache, *options)} to finish it."
            raise IntegrityError(str(cache), expected="a sealed cache", found=far, fix=fix)


def _brief(identity: Mapping[str, Any]) -> Mapping[str, Any]:
    """An identity for messages: of each feature one fact, its shape. What is not as a capture writes it is left as it is."""
    try:
        knowledge = identity["knowledge"]
        shapes = {text: "×".join(map(str, said["shape"])) for text, said in knowledge["features"].items()}
    except (LookupError, TypeError, AttributeError):
        return identity
    return {**identity, "knowledge": {**knowledge, "features": shapes}}


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) > 40 else text
