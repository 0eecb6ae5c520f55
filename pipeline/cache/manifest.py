"""The manifest: it says what a cache holds; it is written last, so a cache that has one is complete."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.base import commands, facts, files
from pipeline.base.errors import InputError, IntegrityError
from pipeline.cache.layout import SPLITS
from pipeline.data.inputs.kinds import Inputs
from pipeline.models.modelfile import Outputs

FORMAT = 3
# Formats that can be read. 1 had hashes of source text where 2 has versions of behaviour; 3 has inputs of other kinds.
READ = (1, 2, 3)
FILE_NAME = "manifest.json"
Part = tuple[str, int, int]  # (split, view, span)


@dataclass(frozen=True)
class Record:
    """One stored span of one view. rows: digest of its ids and stored inputs. low, high: its smallest and largest logit."""

    split: str
    view: int
    span: int
    rows: str
    size_bytes: int
    sha256: str
    low: float
    high: float

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
    """The facts of a cache. identity: see identity.py. metadata_sha256: of each array's zarr.json, by split."""

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
            "--dtype": found["layout"]["dtype"],
        }  # fmt: skip
        given |= {"--tile": found["tile"]} if found["tile"] else {}  # logits made elsewhere have none
        return tuple(word for name, value in given.items() for word in (name, str(value)))

    @property
    def digest(self) -> str:
        """sha256 of all facts but the format: caches of equal digest hold equal bytes."""
        return files.sha256(files.canonical_json(self._facts()))

    def to_json(self) -> bytes:
        """The bytes of manifest.json; they hold no time and no host, so equal caches have equal manifests."""
        return files.readable_json({"format": self.format, "digest": self.digest, **self._facts()})

    @classmethod
    def read(cls, cache: Path) -> "Manifest":
        """Read the manifest in a cache's folder.

        Raises IntegrityError if there is none (the cache is unfinished), or if it is of another format or was edited.
        """
        path = cache / FILE_NAME
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
        if (own := "code" if version == 1 else "inference") not in manifest.identity:
            raise IntegrityError(f"{path}, identity", expected=f"{own}, as in format {version}", found="none", fix=fix)
        if manifest.to_json() != data:  # the digest misses some edits: 1.0 and 1.00 are equal numbers
            edited = f"one edited since (digest {manifest.digest[:12]}…, not {str(digest)[:12]}…)"
            raise IntegrityError(str(path), expected="the manifest as it was sealed", found=edited, fix=fix)
        manifest._require_whole(str(path), fix)
        return manifest

    def _require_whole(self, where: str, fix: str) -> None:
        """Raise IntegrityError unless the manifest holds exactly the splits of a cache, and one record of each span."""
        layout, extents = self.identity["layout"], self.extents
        sizes = [value for extent in extents.values() for value in (extent.rows, extent.views)]
        if set(extents) != set(SPLITS) or set(self.metadata_sha256) != set(SPLITS) or min(sizes) < 1:
            found = ", ".join(f"{split} {extent.rows:,} × {extent.views:,}" for split, extent in extents.items())
            raise IntegrityError(where, expected=f"rows of {', '.join(SPLITS)}", found=found, fix=fix)
        if len(self.identity["classes"]) < 2:
            raise IntegrityError(where, expected="two classes or more", found=str(self.identity["classes"]), fix=fix)
        if not 1 <= layout["chunk"] <= layout["span"]:
            found = f"a chunk of {layout['chunk']:,} and a span of {layout['span']:,}"
            raise IntegrityError(where, expected="chunks of spans", found=found, fix=fix)
        count = sum(extent.views * -(-extent.rows // layout["span"]) for extent in extents.values())
        held = {record.part for record in self.records}
        if not count == len(self.records) == len(held) or held != set(parts(extents, layout["span"])):
            found = f"{len(self.records):,} records"
            raise IntegrityError(where, expected=f"a record of each of {count:,} spans", found=found, fix=fix)

    def rows_of(self, record: Record) -> tuple[int, int]:
        """The (start, stop) row numbers of a record."""
        start = record.span * self.identity["layout"]["span"]
        return start, min(start + self.identity["layout"]["span"], self.extents[record.split].rows)

    def _facts(self) -> dict[str, Any]:
        return {
            "identity": dict(self.identity),
            "extents": {split: asdict(extent) for split, extent in self.extents.items()},
            "metadata_sha256": dict(self.metadata_sha256),
            "records": [asdict(record) for record in self.records],
        }


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
    dtype: Literal["float32", "float16"]
    span: int
    chunk: int
    codecs: str


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
