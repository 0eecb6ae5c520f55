"""The store room: a capture in an object store, where nothing can be renamed, synced or locked, and whatever is put is whole.

It is written where the cache will be: in a folder that is named after all that it is of, so that whoever captures the same
writes the same, and helps. Sealing puts the manifest there, and then makes current.json name the folder.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.base import files
from pipeline.base.errors import IntegrityError
from pipeline.base.places import ObjectPlace, Place
from pipeline.cache import room
from pipeline.cache.knowledge.knowledge import Knowledge
from pipeline.cache.manifest import FILE_NAME, Extent, Manifest, Record
from pipeline.cache.workroom import plain


@dataclass(frozen=True)
class StoreRoom:
    """A room.Room. out: the folder of the cache. generation: the name of the folder in it, see room.generation."""

    out: ObjectPlace
    generation: str
    identity: Mapping[str, Any]
    extents: Mapping[str, Extent]
    knowledge: Knowledge

    @property
    def spans(self) -> ObjectPlace:
        return self.out / self.generation

    @property
    def sealed(self) -> ObjectPlace:
        return self.spans

    @property
    def kept(self) -> ObjectPlace:
        return self.out / f"{self.generation}{files.WORK}"

    @property
    def readers(self) -> int:
        return files.REQUESTS // 4  # each holds a span in memory

    @property
    def writers(self) -> int:
        return 4  # one request waits for its answer while others are sent

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Nothing is held: two captures of the same do no harm. The store must obey If-None-Match, which is tried here."""
        self.out.require_conditional()
        yield

    def clear(self) -> None:
        """Nothing: whoever computes all once more does so in a folder of its own, see room.generation."""

    def tidy(self) -> int:
        """Nothing: a span without a record may be that of a worker who is about to write it."""
        return 0

    def former(self) -> tuple[ObjectPlace, Manifest] | None:
        """The present cache, unless it is damaged, or is this one, or this one before it is computed anew."""
        with contextlib.suppress(IntegrityError):
            now = files.current(self.out)
            if isinstance(now, ObjectPlace) and now != self.spans:
                manifest = Manifest.of(self.out, now)
                same = (manifest.identity, manifest.extents) == (self.identity, self.extents)
                return None if same else (now, manifest)
        return None

    def inherit(self, source: Place, path: str) -> bool:
        """Copied within the store. What was copied is compared with its record later, as all earlier work is."""
        with contextlib.suppress(FileNotFoundError):
            ObjectPlace(f"{source}/{path}").copy(self.spans / path)
            return True
        return False

    def former_identity(self) -> Mapping[str, Any]:
        """As its work has it: its manifest, which may be large, is read when spans are wanted of it."""
        with contextlib.suppress(IntegrityError):
            found = plain(self.out / f"{files.current(self.out).name}{files.WORK}" / room.IDENTITY)
            return {} if found == self.identity else found
        return {}

    def seal(
        self, records: Sequence[Record], others: Mapping[str, bytes], manifest: bytes, read: Iterable[files.Witness]
    ) -> None:
        """Nothing is copied. The former cache stays where it is, for those who read it."""
        self._require_stored(records)
        for name, data in others.items():
            self._put(name, data)
        files.require_unchanged(read)
        self._put(FILE_NAME, manifest)
        files.set_current(self.out, self.generation)

    def _put(self, name: str, data: bytes) -> None:
        """Create a file, or put it in place of one from before spans of the same cache were repaired."""
        path = self.spans / name
        if not files.create(path, data):
            files.write(path, data)

    def _require_stored(self, records: Sequence[Record]) -> None:
        """Raise IntegrityError for a span that has vanished since it was recorded."""
        sizes = dict(self.spans.objects())
        for record in records:
            place = self.spans / self._path(record)
            if (found := sizes.get(place)) != record.size_bytes:
                said = "none" if found is None else f"{found:,} bytes"
                fix = "Something else writes into this store: run this again."
                raise IntegrityError(str(place), expected=f"{record.size_bytes:,} bytes, as recorded", found=said, fix=fix)

    def _path(self, record: Record) -> str:
        return room.shard(self.knowledge.arrays[record.array].shard(record.view, record.span), record.array, record.split)
