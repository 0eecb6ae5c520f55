"""A room: where a capture lies until it is sealed. It is a folder of this machine, or of an object store."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from pipeline.base import files
from pipeline.base.places import Place
from pipeline.cache.layout import ENDING
from pipeline.cache.manifest import Extent, Manifest, Part, Record

PLAN, IDENTITY = "plan.json", "identity.json"


class Room(Protocol):
    """Spans and their records, which any number of workers write; opened by one of them, which seals the cache in the end.

    A span is created as a whole, unless there is one, and never changed; a record is created after all spans that it is of.
    """

    @property
    def spans(self) -> Place:
        """The folder of the spans, by their paths in a cache; see `shard`."""

    @property
    def kept(self) -> Place:
        """The folder of all else that belongs to the work: records/, the head, plan.json and identity.json."""

    @property
    def readers(self) -> int:
        """How many spans are read back at a time."""

    @property
    def writers(self) -> int:
        """How many spans are written at a time."""

    def held(self) -> AbstractContextManager[None]:
        """Hold the room for one capture, where that can be done; raises BusyError if another holds it."""

    def clear(self) -> None:
        """Remove all spans and records."""

    def tidy(self) -> int:
        """Remove what can never be used, before any worker starts; returns how many spans had no record."""

    def former(self) -> tuple[Place, Manifest] | None:
        """The cache that is here now, where this room knows of one: the folder of its files, and its manifest."""

    def inherit(self, source: Place, path: str) -> bool:
        """Take a span of that cache into the room, by its path in both; returns whether that could be done."""

    def former_identity(self) -> Mapping[str, Any]:
        """The identity of the last cache of this name, where it was another; otherwise empty."""

    @property
    def sealed(self) -> Place:
        """The folder of the files of the cache, once it is sealed."""

    def seal(
        self, records: Sequence[Record], others: Mapping[str, bytes], manifest: bytes, read: Iterable[files.Witness]
    ) -> None:
        """Make these spans, other files by their paths, and the manifest the cache; nothing is done if `read` has changed."""


def generation(identity: Mapping[str, Any], extents: Mapping[str, Extent], there: Callable[[str], bool], *, anew: bool) -> str:
    """The name of the folder of a cache's files in a store: of equal name is what is of the same teacher, rows and views.

    there: whether there is one of this name. anew: whether all is to be computed once more: then the name is one that is not
    there yet, which later captures go on with.
    """
    said = {"identity": dict(identity), "extents": {split: asdict(extent) for split, extent in extents.items()}}
    names = (files.sha256(files.canonical_json(said | ({"anew": turn} if turn else {})))[:16] for turn in count())
    last = next(names)
    if not there(last):
        return last
    while there(following := next(names)):
        last = following
    return following if anew else last


def shard(knowledge_shard: Path, array: str, split: str) -> str:
    """The path of a span in a cache. knowledge_shard: see Layout.shard."""
    return str(Path(f"{array}{ENDING}", split, knowledge_shard))


def record_name(array: str, part: Part) -> str:
    """What the record of a span is called in records/, without its ending."""
    split, view, span = part
    return f"{array}-{split}-{view}-{span}"


def records_of(kept: Place) -> Iterator[str]:
    """The names of all records in a room."""
    return (path.stem for path in (kept / "records").glob("*.json"))
