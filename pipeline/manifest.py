"""The manifest: what a cache is, and, by existing, that it is complete."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.errors import IntegrityError

FORMAT = 1
FILE_NAME = "manifest.json"


@dataclass(frozen=True)
class Record:
    """One span of one view on disk: which rows it holds, and the bytes that hold them.

    rows: digest of the rows' ids and encoded images. low, high: the smallest and the largest logit.
    """

    split: str
    view: int
    span: int
    rows: str
    size_bytes: int
    sha256: str
    low: float
    high: float

    @property
    def name(self) -> str:
        """How record files call it."""
        return f"{self.split}-{self.view}-{self.span}"


@dataclass(frozen=True)
class Extent:
    """How far the cache reaches in one split, and which inputs it holds. Extents may grow; they are not identity."""

    rows: int
    views: int
    inputs_digest: str


@dataclass(frozen=True)
class Manifest:
    """identity: what any two caches of the same thing share, nested names to scalars or lists (see capture.py).

    metadata_sha256: of each array's zarr.json, by its path below logits.zarr. digest: of everything else in here.
    """

    identity: Mapping[str, Any]
    extents: Mapping[str, Extent]
    records: tuple[Record, ...]
    metadata_sha256: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """sha256 of the identity: caches with the same fingerprint can share spans."""
        return fingerprint(self.identity)

    @property
    def digest(self) -> str:
        """sha256 of the whole manifest: two caches with the same digest hold the same bytes."""
        return files.sha256(files.canonical_json(self._facts()))

    def to_json(self) -> bytes:
        """Deterministic bytes: no clock, no host."""
        return files.readable_json({"format": FORMAT, "digest": self.digest, **self._facts()})

    @classmethod
    def read(cls, cache: Path) -> "Manifest":
        """Read the manifest of the cache in folder `cache`.

        Raises IntegrityError where there is none (the cache is unfinished or not a cache), where it is of another
        format, or where it was edited.
        """
        path = cache / FILE_NAME
        fix = f"Run `softcache capture {cache.name}`, or correct the name."
        try:
            data = path.read_bytes()
            facts = json.loads(data)
            version, digest = facts.pop("format"), facts.pop("digest")
            if version != FORMAT:
                raise IntegrityError(str(path), expected=f"format {FORMAT}", found=f"format {version}", fix=fix)
            extents = {split: Extent(**extent) for split, extent in facts["extents"].items()}
            records = tuple(Record(**record) for record in facts["records"])
            manifest = cls(facts["identity"], extents, records, facts["metadata_sha256"])
        except (FileNotFoundError, NotADirectoryError) as error:
            raise IntegrityError(str(cache), expected="a sealed cache", found=f"no {FILE_NAME}", fix=fix) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(str(path), expected="a manifest", found="something else", fix=fix) from error
        if manifest.to_json() != data:  # not the digest alone: a flipped bit may spell the same number in another way
            found = f"one edited since (digest {manifest.digest[:12]}…, not {str(digest)[:12]}…)"
            raise IntegrityError(str(path), expected="the manifest as it was sealed", found=found, fix=fix)
        expected = set(parts(manifest.extents, manifest.identity["layout"]["span"]))
        if len(records) != len(expected) or {(record.split, record.view, record.span) for record in records} != expected:
            found = f"{len(records):,} records"
            raise IntegrityError(str(path), expected=f"a record of each of {len(expected):,} spans", found=found, fix=fix)
        return manifest

    def rows_of(self, record: Record) -> tuple[int, int]:
        """(start, stop) rows that a span holds."""
        start = record.span * self.identity["layout"]["span"]
        return start, min(start + self.identity["layout"]["span"], self.extents[record.split].rows)

    def _facts(self) -> dict[str, Any]:
        return {
            "identity": dict(self.identity),
            "extents": {split: asdict(extent) for split, extent in self.extents.items()},
            "metadata_sha256": dict(self.metadata_sha256),
            "records": [asdict(record) for record in self.records],
        }


def parts(extents: Mapping[str, Extent], span_rows: int) -> Iterator[tuple[str, int, int]]:
    """Every (split, view, span) of a cache, in the order of its records."""
    for split, extent in extents.items():
        for view in range(extent.views):
            for span in range(-(-extent.rows // span_rows)):
                yield split, view, span


def fingerprint(identity: Mapping[str, Any]) -> str:
    """sha256 over the canonical JSON of an identity."""
    return files.sha256(files.canonical_json(identity))


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Every leaf on which two nested mappings differ: (dotted field, expected, found); None where a side lacks it."""
    left, right = dict(_leaves(expected)), dict(_leaves(found))
    names = [*left, *(name for name in right if name not in left)]
    return [(name, left.get(name), right.get(name)) for name in names if left.get(name) != right.get(name)]


def _leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _leaves(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item
