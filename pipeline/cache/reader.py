"""Reading a cache: zarr v3 arrays, one per split of each thing that is kept, checked against the manifest."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base import commands, files, nearby
from pipeline.base.differences import differences
from pipeline.base.errors import InputError, IntegrityError
from pipeline.base.places import ObjectPlace, Place
from pipeline.cache.address import base_of
from pipeline.cache.knowledge.features import FeatureArray
from pipeline.cache.knowledge.head import FILE_NAME as HEAD
from pipeline.cache.knowledge.head import Head
from pipeline.cache.knowledge.knowledge import Knowledge
from pipeline.cache.layout import ENDING, Damaged, Layout
from pipeline.cache.manifest import FILE_NAME, Manifest, Record
from pipeline.data.splits import Split, described


@dataclass(frozen=True)
class Finding:
    """A defect of a cache. where: the file; for a span also its split, view and rows."""

    where: str
    expected: str
    found: str


@dataclass(frozen=True)
class Cache:
    """A sealed cache, opened for reading. Whatever it keeps, it gives logits.

    path: what it is called. folder: where its manifest lies, see files.current.
    """

    path: Place
    folder: Place
    manifest: Manifest
    _verified: dict[Record, tuple[int, ...] | str] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, path: Place) -> "Cache":
        """Open a sealed cache and check that it is complete: manifest, metadata, and the size of every span.

        Args:
            path: The cache folder.

        Returns:
            The cache. No logits are read.

        Raises:
            IntegrityError: The folder is no sealed cache, or a part is missing or damaged.
        """
        cache = cls.listed(path)
        if findings := list(cache.shortcomings()):
            raise cache.error(findings)
        return cache

    @cached_property
    def base(self) -> Place:
        """The folder of its files: its own, in a store that of its generation; see address.py for spans that are kept apart."""
        return base_of(self.path, self.folder)

    @property
    def witness(self) -> files.Witness:
        """The witness of the manifest."""
        return files.Witness.of_file(self.folder / FILE_NAME, files.sha256(self.manifest.to_json()))

    @classmethod
    def listed(cls, path: Place) -> "Cache":
        """Open a cache by its manifest alone, which need not be complete.

        Args:
            path: The cache folder.

        Returns:
            The cache. Only its manifest is read.

        Raises:
            IntegrityError: The manifest is missing or damaged.
        """
        folder = files.current(path)  # once: it may be replaced meanwhile
        return cls(path, folder, Manifest.of(path, folder))

    @property
    def options(self) -> tuple[str, ...]:
        """All options of `softcache capture` that give this cache, whatever params.yaml says."""
        apart = self.base != self.folder
        return (*self.manifest.options, *(("--store", str(self.base.parent.parent)) if apart else ()))

    @property
    def knowledge(self) -> Knowledge:
        """What is kept of the teacher."""
        return self.manifest.knowledge

    @property
    def layout(self) -> Layout:
        """How the main array is stored, the logits or the hidden states."""
        return self.knowledge.layout

    @property
    def features(self) -> Mapping[str, FeatureArray]:
        """The features that are kept, by their text, such as `layer3 | pool`."""
        return self.knowledge.features

    @property
    def classes(self) -> int:
        """How many logits a row has."""
        return len(self.manifest.identity["classes"])

    @property
    def dtype(self) -> str:
        """The dtype of the logits that `span` gives: float32 or float16."""
        return self.knowledge.main.gives

    @property
    def records(self) -> list[Record]:
        """The records of the main array, one for each span and view of each split."""
        return [record for record in self.manifest.records if record.array == self.knowledge.main.name]

    def shortcomings(self) -> Iterator[Finding]:
        """Metadata that differ from the manifest, and spans of another size; no span is read."""
        for name, expected in self.manifest.files_sha256.items():
            file = self.base / name
            found = files.sha256_file(file) if file.is_file() else None
            if found != expected:
                found = f"sha256 {found}" if found else _kind(file)
                yield Finding(str(file), f"sha256 {expected}", found)
        sizes = files.sizes(self.base)
        for record in self.manifest.records:
            size = sizes.get(self._name(record))
            if size != record.size_bytes:
                found = _kind(self.file(record)) if size is None else f"{size:,} bytes"
                yield Finding(self.where(record), f"{record.size_bytes:,} bytes", found)

    def strays(self) -> Iterator[Finding]:
        """Files and folders that are not in the manifest."""
        known = {FILE_NAME, *self.manifest.files_sha256, *map(self._name, self.manifest.records)}
        if not isinstance(self.base, Path):  # a store has no folders
            for name in sorted(files.sizes(self.base).keys() - known):
                yield Finding(str(self.base / name), "nothing", "a stray object")
            return
        paths = {self.base / name for name in known}
        folders = {folder for path in paths for folder in path.parents}
        for path in sorted(self.base.rglob("*")):
            if path not in paths and path not in folders and not paths & set(path.parents):
                yield Finding(str(path), "nothing", "a stray folder" if path.is_dir() else "a stray file")

    def damage(self, record: Record) -> Finding | None:
        """Compare a span's file with its sha256.

        Args:
            record: The record of the span.

        Returns:
            The defect; None if there is none.
        """
        return self._difference(record, files.sha256_file(self.file(record)))

    def span(self, record: Record, out: np.ndarray | None = None) -> np.ndarray:
        """The logits of one span. Checksums are checked every time, its sha256 at first and whenever the file has changed.

        Args:
            record: The record of the span, see `record`.
            out: (rows, classes) of `dtype`, the array to fill; None for a new one.

        Returns:
            The raw logits: (rows, classes) of `dtype`, float32 or float16.

        Raises:
            IntegrityError: The span, or the head that makes logits of it, is missing or damaged.
        """
        main = self.knowledge.main
        if not main.headed:
            return self._numbers(record, out)
        logits = main.logits(self.held(*record.part), self.head)
        if out is None:
            return logits
        out[:] = logits
        return out

    def held(self, split: str, view: int, span: int) -> dict[str, np.ndarray]:
        """What is stored of one span and gives its logits, by array, as knowledge.Kind takes it; checked like `span`."""
        return {name: self._numbers(self._records[name, split, view, span]) for name in self.knowledge.main.arrays}

    def feature(self, text: str, split: str, view: int, span: int, out: np.ndarray | None = None) -> np.ndarray:
        """A feature of one span, checked like `span`.

        Args:
            text: One of `features`, such as `layer3 | pool`.
            split: `transfer`, `valid` or `test`.
            view: The view, from 0.
            span: The index of the span in its split, from 0.
            out: (rows, *shape) of the feature's dtype, the array to fill; None for a new one.

        Returns:
            (rows, *shape) of the dtype that `features` says, float32 or float16.

        Raises:
            IntegrityError: The span is missing or damaged.
            KeyError: The cache has no such feature, or no such span.
        """
        return self._numbers(self._records[self.features[text].name, split, view, span], out)

    @cached_property
    def head(self) -> Head | None:
        """What makes logits of hidden states; None where logits are kept. Raises IntegrityError if it is damaged."""
        if (digest := self.manifest.files_sha256.get(HEAD)) is None:
            return None
        path = self.base / HEAD
        try:
            data = path.read_bytes()
        except OSError:
            raise self.error([Finding(str(path), "the head of the teacher", _kind(path))]) from None
        if (found := files.sha256(data)) != digest:
            raise self.error([Finding(str(path), f"sha256 {digest}", f"sha256 {found}")])
        width, scaled = self.layout.shape[0], self.layout.dtype == "int8"
        wanted = {"weight": (self.classes, width), "bias": (self.classes,)} | ({"channels": (width,)} if scaled else {})
        try:
            head = Head.of_bytes(data)
        except ValueError:
            raise self.error([Finding(str(path), "the head of the teacher", "something else")]) from None
        if head.shapes != wanted:
            raise self.error([Finding(str(path), f"a head of shapes {wanted}", str(head.shapes))])
        return head

    def _numbers(self, record: Record, out: np.ndarray | None = None) -> np.ndarray:
        """One span of an array, as it is stored, (rows, *shape)."""
        start, stop = self.manifest.rows_of(record)
        data = self._bytes(record)
        try:
            return self.knowledge.arrays[record.array].decode(data, stop - start, out)
        except Damaged as error:
            finding = Finding(self.where(record), "chunks that match their checksums", str(error))
            raise self.error([finding]) from error

    def _bytes(self, record: Record) -> nearby.Data:
        """The file of a span, compared with its sha256: at first and whenever it has changed, as file system or store tell."""
        file = self.file(record)
        try:
            if isinstance(file, ObjectPlace):
                return nearby.data(record.sha256, partial(self._fetched, record, file))
            with file.open("rb") as opened:
                facts = os.fstat(opened.fileno())
                data = opened.read()
            version = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
        except OSError:
            raise self.error([Finding(self.where(record), f"{record.size_bytes:,} bytes", _kind(file))]) from None
        if self._verified.get(record) != version:
            if difference := self._difference(record, files.sha256(data)):
                raise self.error([difference])
            self._verified[record] = version
        return data

    def _fetched(self, record: Record, file: ObjectPlace) -> memoryview:
        """The object of a span, compared with its sha256 where its ETag is new."""
        data, version = file.read_version()
        if version is None or self._verified.get(record) != version:
            if difference := self._difference(record, files.sha256(data)):
                raise self.error([difference])
            if version is not None:
                self._verified[record] = version
        return data

    def record(self, split: str, view: int, span: int) -> Record:
        """The record of one span of the main array.

        Args:
            split: `transfer`, `valid` or `test`.
            view: The view, from 0.
            span: The index of the span in its split, from 0.

        Returns:
            Its record, which `span` reads.

        Raises:
            KeyError: The cache has no such span.
        """
        return self._records[self.knowledge.main.name, split, view, span]

    def read(self, split: str, views: int | None = None) -> np.ndarray:
        """Read the logits of a split, into memory.

        Args:
            split: `transfer`, `valid` or `test`.
            views: How many views, from view 0 on; None for all.

        Returns:
            (views, rows, classes) float32, raw logits.

        Raises:
            IntegrityError: A span is missing or damaged.
        """
        extent = self.manifest.extents[split]
        count = extent.views if views is None else views
        logits = np.full((count, extent.rows, self.classes), np.nan, np.float32)
        for record in self.records:
            if record.split == split and record.view < count:
                start, stop = self.manifest.rows_of(record)
                logits[record.view, start:stop] = self.span(record)
        return logits

    def require_data(self, splits: Mapping[str, Split]) -> None:
        """Check that the cache holds the logits of exactly these splits. Labels may differ.

        Args:
            splits: The splits that the caller uses, by name; `transfer` must be among them.

        Raises:
            InputError: They differ; the message names the field.
        """
        source = splits["transfer"]
        wanted = {
            "classes": list(source.classes),
            "inputs": described(source.inputs),
            "rows": {name: split.rows for name, split in splits.items()},
        }
        held = {key: self.manifest.identity[key] for key in ("classes", "inputs")}
        held["rows"] = {name: self.manifest.extents[name].rows for name in splits}
        self._refuse(wanted, held, "the data")
        for name, split in splits.items():
            if split.inputs_digest != self.manifest.extents[name].inputs_digest:
                self._refuse_rows(name, split)

    def require_views(self, policy: Mapping[str, Any], count: int) -> None:
        """Check that the cache holds enough views of a policy.

        Args:
            policy: The policy, as `Policy.to_dict` returns it.
            count: How many views are needed; the cache may hold more.

        Raises:
            InputError: The policy differs, or the cache holds fewer views.
        """
        views = min(count, self.manifest.extents["transfer"].views)
        self._refuse({**policy, "count": count}, {**self.manifest.identity["views"], "count": views}, "the setting", "views.")

    def require_of(self, name: str) -> None:
        """Check that the cache is of a teacher of this name.

        Args:
            name: The name of the teacher.

        Raises:
            InputError: It is of a teacher of another name.
        """
        found = self.manifest.identity["teacher"].get("name")
        if found not in (name, None):
            fix = "Put it back where it came from, or correct the name."
            raise InputError(f"cache {self.path}", expected=f"that of teacher {name}", found=f"that of {found}", fix=fix)

    def require(self, wanted: Mapping[str, Any], field: str, fix: str) -> None:
        """Check one field of the identity against its present value.

        Args:
            wanted: What the field has to hold.
            field: A field of the identity, such as `teacher`.
            fix: A sentence that says what to do.

        Raises:
            InputError: They differ.
        """
        for name, expected, found in differences(wanted, self.manifest.identity[field]):
            what = f"cache {self.path.name}, {field}.{name}"
            raise InputError(what, expected=f"{expected} as it is now", found=str(found), fix=fix)

    def file(self, record: Record) -> Place:
        """The file of a span.

        Args:
            record: The record of the span.

        Returns:
            Its path, whether or not the file exists.
        """
        return self.base / self._name(record)

    def _name(self, record: Record) -> str:
        """The path of a span in the cache."""
        shard = self.knowledge.arrays[record.array].shard(record.view, record.span)
        return f"{record.array}{ENDING}/{record.split}/{shard.as_posix()}"

    def where(self, record: Record) -> str:
        """A span as messages name it: file, split, view and rows.

        Args:
            record: The record of the span.

        Returns:
            Its name.
        """
        start, stop = self.manifest.rows_of(record)
        return f"{self.file(record)} ({record.split} view {record.view}, rows {start} to {stop - 1})"

    def error(self, findings: list[Finding]) -> IntegrityError:
        """One error for several findings.

        Args:
            findings: One or more.

        Returns:
            An IntegrityError that names the first and counts them all.
        """
        first, total = findings[0], len(self.manifest.records) + len(self.manifest.files_sha256)
        found = f"{first.found} ({len(findings)} of {total} files missing or damaged)"
        fix = commands.capture_again(self.path, *self.options)
        return IntegrityError(first.where, expected=first.expected, found=found, fix=fix)

    @cached_property
    def _records(self) -> dict[tuple[str, str, int, int], Record]:
        return {(record.array, *record.part): record for record in self.manifest.records}

    def _difference(self, record: Record, found: str) -> Finding | None:
        return None if found == record.sha256 else Finding(self.where(record), f"sha256 {record.sha256}", f"sha256 {found}")

    def _refuse(self, wanted: Mapping[str, Any], held: Mapping[str, Any], owner: str, prefix: str = "") -> None:
        for name, expected, found in differences(wanted, held):
            raise self._refusal(f"{prefix}{name}", f"{expected} as in {owner}", str(found))

    def _refuse_rows(self, name: str, split: Split) -> None:
        """Raise InputError that names the first span whose rows differ; digests do not tell which row of it."""
        held = [self.record(name, 0, span).rows for span in range(len(split.span_digests))]
        for span, (here, there) in enumerate(zip(split.span_digests, held, strict=True)):
            if here != there:
                start, stop = split.spans()[span]
                what = f"{name} rows {start} to {stop - 1}, which begin with id {split.ids(span)[0]!r}"
                raise self._refusal(what, f"digest {here[:12]}… as in the data", f"rows of digest {there[:12]}…")
        digest = self.manifest.extents[name].inputs_digest
        raise self._refusal(f"{name} inputs_digest", f"{split.inputs_digest} as in the data", digest)

    def _refusal(self, what: str, expected: str, found: str) -> InputError:
        fix = f"Correct the settings, or run {commands.capture(self.path)} with these."
        return InputError(f"cache {self.path.name}, {what}", expected=expected, found=found, fix=fix)


def _kind(path: Place) -> str:
    return "a folder" if path.is_dir() else "no such file"
