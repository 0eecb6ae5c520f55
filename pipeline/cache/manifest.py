"""The manifest: it says what a cache holds; it is written last, so a cache that has one is complete."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import groupby
from typing import Any, Literal

from pipeline.base import commands, facts, files
from pipeline.base.errors import InputError, IntegrityError
from pipeline.base.places import Place
from pipeline.cache.knowledge.head import FILE_NAME as HEAD
from pipeline.cache.knowledge.knowledge import TEMPERATURES, Knowledge
from pipeline.cache.knowledge.logits import NAME as LOGITS
from pipeline.cache.layout import ENDING, SPLITS
from pipeline.cache.settings import NONE
from pipeline.data.inputs.kinds import Inputs
from pipeline.models.modelfile import Outputs

FORMAT = 4
# Formats that can be read. 1 had hashes of source text where 2 has versions of behaviour; 3 has inputs of other kinds, 4 other
# kinds of knowledge.
READ = (1, 2, 3, 4)
_CUT = 3  # the first format whose last shards are cut where their rows end
_WITH_KNOWLEDGE = 4  # the first format whose records say of which array they are
FILE_NAME = "manifest.json"
_AXES = 8  # of a row, at most
_LETTERS = 200  # of a feature, at most: it names a folder
Part = tuple[str, int, int]  # (split, view, span)
FEATURE = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*( \| [a-z]+)?")  # the text of a feature, see watched.Feature


@dataclass(frozen=True)
class SpanViews:
    """Some views of one span: what is done at a time, so that its rows are read once."""

    split: str
    span: int
    views: tuple[int, ...]

    @property
    def parts(self) -> list[Part]:
        """Each of the views."""
        return [(self.split, view, self.span) for view in self.views]


def by_span(these: Iterable[Part]) -> list[SpanViews]:
    """Parts by their spans, in the order of the splits."""
    ordered = sorted(these, key=lambda part: (SPLITS.index(part[0]), part[2], part[1]))
    groups = groupby(ordered, lambda part: (part[0], part[2]))
    return [SpanViews(split, span, tuple(view for _, view, _ in group)) for (split, span), group in groups]


@dataclass(frozen=True)
class Record:
    """One stored span of one view of one array.

    rows: digest of its ids and stored inputs. low, high: its smallest and largest number; of the main array, those of the
    logits that it gives. kl: how far these are from the teacher's, see knowledge.Stored.
    """

    split: str
    view: int
    span: int
    rows: str
    size_bytes: int
    sha256: str
    low: float
    high: float
    array: str = LOGITS
    kl: tuple[float, ...] | None = None

    @property
    def part(self) -> Part:
        """(split, view, span)."""
        return self.split, self.view, self.span


@dataclass(frozen=True)
class Extent:
    """How many rows and views of one split a cache holds, and of which inputs. They may grow, so they are no identity."""

    rows: int
    views: int
    inputs_digest: str


@dataclass(frozen=True)
class Manifest:
    """The facts of a cache. identity: see identity.py.

    metadata_sha256: of the zarr.json of every array and split, and of the head, by their paths in the cache; until format 3 of
    the zarr.json of the logits, by split.
    """

    identity: Mapping[str, Any]
    extents: Mapping[str, Extent]
    records: tuple[Record, ...]
    metadata_sha256: Mapping[str, str]
    format: int = FORMAT

    @property
    def options(self) -> tuple[str, ...]:
        """All options of `softcache capture` that give this cache, whatever params.yaml says."""
        found, views = self.identity, str(self.extents["transfer"].views if "transfer" in self.extents else 1)
        views = views if found["views"].get("outcomes") is None else "all"
        given = {
            "--policy": found["views"]["policy"], "--views": views, "--view-seed": found["views"]["seed"],
            "--dtype": found["layout"]["dtype"], "--knowledge": self.knowledge.main.name,
        }  # fmt: skip
        given |= {"--tile": found["tile"]} if found["tile"] else {}  # logits made elsewhere have none
        words = [word for name, value in given.items() for word in (name, str(value))]
        return (*words, *(word for text in self.knowledge.features or (NONE,) for word in ("--features", text)))

    @cached_property
    def knowledge(self) -> Knowledge:
        """What the cache keeps."""
        return Knowledge.of(self.identity)

    @property
    def files_sha256(self) -> Mapping[str, str]:
        """The sha256 of every file but the spans and the manifest, by its path in the cache."""
        if self.format >= _WITH_KNOWLEDGE:
            return self.metadata_sha256
        return {metadata_path(LOGITS, split): digest for split, digest in self.metadata_sha256.items()}

    @cached_property
    def digest(self) -> str:
        """sha256 of all facts but the format: caches of equal digest hold equal bytes."""
        return files.sha256(files.canonical_json(self._facts()))

    def to_json(self) -> bytes:
        """The bytes of manifest.json; they hold no time and no host, so equal caches have equal manifests."""
        return files.readable_json({"format": self.format, "digest": self.digest, **self._facts()})

    @classmethod
    def read(cls, cache: Place) -> "Manifest":
        """Read the manifest in a cache's folder.

        Raises IntegrityError if there is none (the cache is unfinished), or if it is of another format or was edited.
        """
        return cls.of(cache, files.current(cache))

    @classmethod
    def of(cls, cache: Place, base: Place) -> "Manifest":
        """Read the manifest in `base`, where the files of a cache lie; see `read`."""
        path = base / FILE_NAME
        fix = f"Run {commands.capture(cache)}, or correct the name."
        try:
            data = files.read(path, fix)
        except InputError as error:
            raise IntegrityError(str(cache), expected="a sealed cache", found=f"no {FILE_NAME}", fix=fix) from error
        try:
            found = json.loads(data)
            version, digest = found["format"], found.pop("digest")
        except (*facts.NOT_JSON, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(str(path), expected="a manifest", found="something else", fix=fix) from error
        if version not in READ:
            raise IntegrityError(str(path), expected=f"format {FORMAT}", found=f"format {version}", fix=fix)
        manifest = facts.typed(cls, found, str(path), fix)
        facts.typed(_Identity, manifest.identity, f"{path}, identity", fix)
        own = {1: "code", 2: "inference", 3: "inference"}.get(version, "knowledge")
        if own not in manifest.identity:
            raise IntegrityError(f"{path}, identity", expected=f"{own}, as in format {version}", found="none", fix=fix)
        manifest._require_knowledge(str(path), fix)
        if manifest.to_json() != data:  # the digest misses some edits: 1.0 and 1.00 are equal numbers
            edited = f"one edited since (digest {manifest.digest[:12]}…, not {str(digest)[:12]}…)"
            raise IntegrityError(str(path), expected="the manifest as it was sealed", found=edited, fix=fix)
        manifest._require_whole(str(path), fix)
        return manifest

    def _require_knowledge(self, where: str, fix: str) -> None:
        """Raise IntegrityError unless it says what is kept in full; names of features become those of folders."""
        said, dtype = self.identity.get("knowledge") or {"kind": LOGITS, "features": {}}, self.identity["layout"]["dtype"]
        odd = next((text for text in said["features"] if not FEATURE.fullmatch(text) or len(text) > _LETTERS), None)
        hidden = said["kind"] != LOGITS
        wanted = {"layer": hidden, "width": hidden, "calibrated": hidden and dtype == "int8"}
        if any((said.get(key) is not None) != there for key, there in wanted.items()) or (dtype == "int8" and not hidden):
            odd = f"{said['kind']} as {dtype} without what belongs to it"
        if odd is not None:
            raise IntegrityError(f"{where}, identity.knowledge", expected="a kind of knowledge", found=repr(odd), fix=fix)

    def _require_whole(self, where: str, fix: str) -> None:
        """Raise IntegrityError unless the manifest holds exactly the splits of a cache, and one record of each span."""
        layout, extents = self.identity["layout"], self.extents
        sizes = [value for extent in extents.values() for value in (extent.rows, extent.views)]
        arrays = self.knowledge.arrays
        known = {metadata_path(array, split) for array in arrays for split in SPLITS}
        known |= {HEAD} if self.knowledge.main.headed else set()
        if set(extents) != set(SPLITS) or set(self.files_sha256) != known or min(sizes) < 1:
            found = ", ".join(f"{split} {extent.rows:,} × {extent.views:,}" for split, extent in extents.items())
            raise IntegrityError(where, expected=f"rows of {', '.join(SPLITS)}", found=found, fix=fix)
        if len(self.identity["classes"]) < 2:
            raise IntegrityError(where, expected="two classes or more", found=str(self.identity["classes"]), fix=fix)
        for each in arrays.values():
            if not 1 <= each.chunk <= each.span:
                found = f"a chunk of {each.chunk:,} and a span of {each.span:,}"
                raise IntegrityError(where, expected="chunks of spans", found=found, fix=fix)
            if not 1 <= len(each.shape) <= _AXES or min(each.shape) < 1:
                raise IntegrityError(where, expected="the shape of a row", found=str(each.shape), fix=fix)
        count = len(arrays) * sum(extent.views * -(-extent.rows // layout["span"]) for extent in extents.values())
        held = {(record.array, record.part) for record in self.records}
        if not count == len(self.records) == len(held) or held != {
            (array, part) for part in parts(extents, layout["span"]) for array in arrays
        }:
            found = f"{len(self.records):,} records"
            raise IntegrityError(where, expected=f"a record of each of {count:,} spans", found=found, fix=fix)
        for record in self.records:
            start, stop = self.rows_of(record)
            rows = stop - start if self.format >= _CUT else layout["span"]
            if record.size_bytes != (size := arrays[record.array].shard_bytes(rows)):
                what = f"{where}, records, {record.array} {record.split} view {record.view}, span {record.span}"
                found = f"{record.size_bytes:,}"
                raise IntegrityError(what, expected=f"{size:,} bytes, as its rows take", found=found, fix=fix)
            if record.kl is not None and len(record.kl) != len(TEMPERATURES):
                raise IntegrityError(where, expected=f"{len(TEMPERATURES)} distances a record", found=str(record.kl), fix=fix)

    def rows_of(self, record: Record) -> tuple[int, int]:
        """The (start, stop) row numbers of a record."""
        start = record.span * self.identity["layout"]["span"]
        return start, min(start + self.identity["layout"]["span"], self.extents[record.split].rows)

    def _facts(self) -> dict[str, Any]:
        return {
            "identity": dict(self.identity),
            "extents": {split: asdict(extent) for split, extent in self.extents.items()},
            "metadata_sha256": dict(self.metadata_sha256),
            "records": [self._fields(record) for record in self.records],
        }

    def _fields(self, record: Record) -> dict[str, Any]:
        found = dict(vars(record))  # asdict would copy every value, which takes longer than all else
        if self.format < _WITH_KNOWLEDGE:
            del found["array"], found["kl"]
        return found


@dataclass(frozen=True)
class _Teacher:
    model: str
    weights_sha256: str
    name: str | None = None  # early caches lack it
    behaviour: str | None = None  # of format 2
    source_sha256: str | None = None  # of format 1
    assets: Mapping[str, str] | None = None  # of nets that are made of files
    outputs: Outputs | None = None  # of adopted ones whose outputs are not the classes, one by one


@dataclass(frozen=True)
class _FormerInputs:
    """Of formats 1 and 2, which had images only."""

    decoder: str
    mode: str
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class _Views:
    policy: str
    seed: int
    behaviours: tuple[str, ...] = ()  # of format 2
    sources: tuple[str, ...] = ()  # of format 1
    outcomes: int | None = None  # of a cache of all views


@dataclass(frozen=True)
class _Layout:
    dtype: Literal["float32", "float16", "int8"]
    span: int
    chunk: int
    codecs: str


@dataclass(frozen=True)
class _Feature:
    shape: tuple[int, ...]
    dtype: Literal["float32", "float16"]
    chunk: int


@dataclass(frozen=True)
class _Knowledge:
    kind: Literal["logits", "hidden"]
    features: Mapping[str, _Feature]
    layer: str | None = None  # of hidden states, the head
    width: int | None = None
    calibrated: str | None = None  # of int8
    steps: int | None = None  # of features


@dataclass(frozen=True)
class _Identity:
    """The types of an identity's fields."""

    output: str
    teacher: _Teacher
    classes: tuple[str, ...]
    inputs: Inputs | _FormerInputs
    views: _Views
    precision: str
    tile: int
    layout: _Layout
    inference: int | None = None  # of format 2
    knowledge: _Knowledge | None = None  # of format 4
    code: Mapping[str, str] | None = None  # of format 1


def parts(extents: Mapping[str, Extent], span_rows: int) -> Iterator[Part]:
    """Every (split, view, span) of a cache, in the order of its records."""
    for split, extent in extents.items():
        for view in range(extent.views):
            for span in range(-(-extent.rows // span_rows)):
                yield split, view, span


def fingerprint(identity: Mapping[str, Any]) -> str:
    """sha256 of an identity's canonical JSON: caches of equal fingerprint can share spans."""
    return files.sha256(files.canonical_json(identity))


def metadata_path(array: str, split: str) -> str:
    """The path in a cache of the zarr.json of an array."""
    return f"{array}{ENDING}/{split}/zarr.json"
