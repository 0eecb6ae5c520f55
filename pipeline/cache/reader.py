"""The logit cache: one zarr v3 array (views, rows, classes) per split, and the manifest that vouches for it."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base import commands, files
from pipeline.base.differences import differences
from pipeline.base.errors import InputError, IntegrityError
from pipeline.cache.layout import ARRAYS, Damaged, Layout, shard
from pipeline.cache.manifest import FILE_NAME, Manifest, Record
from pipeline.data.splits import Split


@dataclass(frozen=True)
class Finding:
    """Something wrong with a cache. where: the file, and for a span its split, view and rows."""

    where: str
    expected: str
    found: str


@dataclass(frozen=True)
class Cache:
    """A sealed cache, opened for reading."""

    path: Path
    manifest: Manifest
    layout: Layout
    _verified: dict[Record, tuple[int, ...]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, path: Path) -> "Cache":
        """Open a sealed cache and check that all of it is there: manifest, metadata, and every span's size.

        Raises IntegrityError otherwise.
        """
        cache = cls.listed(path)
        if findings := list(cache.shortcomings()):
            raise cache.error(findings)
        return cache

    @property
    def witness(self) -> files.Witness:
        """Tells later whether the cache is still this one."""
        return files.Witness.of_file(self.path / FILE_NAME, files.sha256(self.manifest.to_json()))

    @classmethod
    def listed(cls, path: Path) -> "Cache":
        """The cache that the manifest in `path` tells of, whether or not it is all there."""
        manifest = Manifest.read(path)
        stored = manifest.identity["layout"]
        return cls(path, manifest, Layout(len(manifest.identity["classes"]), stored["dtype"], stored["span"], stored["chunk"]))

    def shortcomings(self) -> Iterator[Finding]:
        """What a look at sizes and metadata finds; no span is read."""
        for split, expected in self.manifest.metadata_sha256.items():
            file = self._metadata(split)
            found = files.sha256_file(file) if file.is_file() else None
            if found != expected:
                found = f"sha256 {found}" if found else _kind(file)
                yield Finding(str(file), f"sha256 {expected}", found)
        for record in self.manifest.records:
            file = self.file(record)
            if not file.is_file() or file.stat().st_size != record.size_bytes:
                found = f"{file.stat().st_size:,} bytes" if file.is_file() else _kind(file)
                yield Finding(self.where(record), f"{record.size_bytes:,} bytes", found)

    def strays(self) -> Iterator[Finding]:
        """Files and folders that the manifest does not know."""
        known = {self.path / FILE_NAME}
        known |= {self._metadata(split) for split in self.manifest.metadata_sha256}
        known |= {self.file(record) for record in self.manifest.records}
        folders = {folder for file in known for folder in file.parents}
        for path in sorted(self.path.rglob("*")):
            if path not in known and path not in folders and not known & set(path.parents):
                yield Finding(str(path), "nothing", "a stray folder" if path.is_dir() else "a stray file")

    def damage(self, record: Record) -> Finding | None:
        """Read one span whole and compare it with its sha256."""
        found = files.sha256_file(self.file(record))
        return None if found == record.sha256 else Finding(self.where(record), f"sha256 {record.sha256}", f"sha256 {found}")

    def span(self, record: Record, out: np.ndarray | None = None) -> np.ndarray:
        """The logits of one span: (rows, classes) of the stored dtype, in `out` where that is given.

        Its checksums are compared on every reading; its sha256 on the first one, and again whenever the file is another.
        Raises IntegrityError on any damage.
        """
        start, stop = self.manifest.rows_of(record)
        try:
            with self.file(record).open("rb") as file:
                facts = os.fstat(file.fileno())
                data = file.read()
        except OSError:
            raise self.error([Finding(self.where(record), f"{record.size_bytes:,} bytes", _kind(self.file(record)))]) from None
        version = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
        if self._verified.get(record) != version:
            if (found := files.sha256(data)) != record.sha256:
                raise self.error([Finding(self.where(record), f"sha256 {record.sha256}", f"sha256 {found}")])
            self._verified[record] = version
        try:
            return self.layout.decode(data, stop - start, out)
        except Damaged as error:
            finding = Finding(self.where(record), "chunks that match their checksums", str(error))
            raise self.error([finding]) from error

    def record(self, split: str, view: int, span: int) -> Record:
        """The record of one span."""
        return self._records[split, view, span]

    def read(self, split: str, views: int | None = None) -> np.ndarray:
        """All logits of a split's first `views` views (default: every view): (views, rows, classes) float32.

        Raises IntegrityError on any damage.
        """
        extent = self.manifest.extents[split]
        count = extent.views if views is None else views
        logits = np.full((count, extent.rows, self.layout.classes), np.nan, np.float32)
        for record in self.manifest.records:
            if record.split == split and record.view < count:
                start, stop = self.manifest.rows_of(record)
                logits[record.view, start:stop] = self.span(record)
        return logits

    def require_data(self, splits: Mapping[str, Split]) -> None:
        """Raise InputError unless the cache holds exactly these splits; the message names the field that differs.

        splits: those that the caller uses, the transfer set among them.
        """
        source = splits["transfer"]
        wanted = {
            "classes": list(source.classes),
            "inputs": {"decoder": source.decoder, "mode": source.mode, "shape": list(source.shape)},
            "rows": {name: split.rows for name, split in splits.items()},
        }
        held = {key: self.manifest.identity[key] for key in ("classes", "inputs")}
        held["rows"] = {name: self.manifest.extents[name].rows for name in splits}
        self._refuse(wanted, held, "the data")
        for name, split in splits.items():
            if split.inputs_digest != self.manifest.extents[name].inputs_digest:
                self._refuse_rows(name, split)

    def require_views(self, policy: Mapping[str, Any], count: int) -> None:
        """Raise InputError unless the cache holds `count` views or more under this policy, given by its facts."""
        self._refuse(policy, self.manifest.identity["views"], "the setting", "views.")
        found = self.manifest.extents["transfer"].views
        if found < count:
            self._refuse({"count": count}, {"count": found}, "the setting", "views.")

    def require_of(self, name: str) -> None:
        """Raise InputError unless the cache is of the teacher of this name, under which it is to be used."""
        found = self.manifest.identity["teacher"].get("name")
        if found not in (name, None):
            fix = "Put it back where it came from, or correct the name."
            raise InputError(f"cache {self.path}", expected=f"that of teacher {name}", found=f"that of {found}", fix=fix)

    def require(self, wanted: Mapping[str, Any], field: str, fix: str) -> None:
        """Raise InputError unless a field of the identity is `wanted`, which is so as things are now."""
        for name, expected, found in differences(wanted, self.manifest.identity[field]):
            what = f"cache {self.path.name}, {field}.{name}"
            raise InputError(what, expected=f"{expected} as it is now", found=str(found), fix=fix)

    def file(self, record: Record) -> Path:
        """Where the bytes of a span lie."""
        return shard(self.path / ARRAYS / record.split, record.view, record.span)

    def where(self, record: Record) -> str:
        """A span, for people: which rows of which split and view, and the file."""
        start, stop = self.manifest.rows_of(record)
        return f"{self.file(record)} ({record.split} view {record.view}, rows {start} to {stop - 1})"

    def error(self, findings: list[Finding]) -> IntegrityError:
        """One error that names the first of several findings, and counts the rest."""
        first, total = findings[0], len(self.manifest.records) + len(self.manifest.metadata_sha256)
        found = f"{first.found} ({len(findings)} of {total} files missing or damaged)"
        fix = commands.capture_again(self.path, *self.manifest.options)
        return IntegrityError(first.where, expected=first.expected, found=found, fix=fix)

    @cached_property
    def _records(self) -> dict[tuple[str, int, int], Record]:
        return {(record.split, record.view, record.span): record for record in self.manifest.records}

    def _metadata(self, split: str) -> Path:
        return self.path / ARRAYS / split / "zarr.json"

    def _refuse(self, wanted: Mapping[str, Any], held: Mapping[str, Any], owner: str, prefix: str = "") -> None:
        for name, expected, found in differences(wanted, held):
            raise self._refusal(f"{prefix}{name}", f"{expected} as in {owner}", str(found))

    def _refuse_rows(self, name: str, split: Split) -> None:
        """The rows are others: name the first span of them, which is as near as the digests lead."""
        held = [self.record(name, 0, span).rows for span in range(len(split.span_digests))]
        for span, (here, there) in enumerate(zip(split.span_digests, held, strict=True)):
            if here != there:
                start, stop = split.spans()[span]
                place = f"{name} rows {start} to {stop - 1}, which begin with id {split.ids(span)[0]!r}"
                raise self._refusal(place, f"digest {here[:12]}… as in the data", f"rows of digest {there[:12]}…")
        digest = self.manifest.extents[name].inputs_digest
        raise self._refusal(f"{name} inputs_digest", f"{split.inputs_digest} as in the data", digest)

    def _refusal(self, what: str, expected: str, found: str) -> InputError:
        fix = f"Correct the settings, or run {commands.capture(self.path)} with these."
        return InputError(f"cache {self.path.name}, {what}", expected=expected, found=found, fix=fix)


def _kind(path: Path) -> str:
    return "a folder" if path.is_dir() else "no such file"
