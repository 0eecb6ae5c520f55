"""The logit cache: one zarr v3 array (views, rows, classes) per split, and the manifest that vouches for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import closure, files
from pipeline.errors import InputError, IntegrityError
from pipeline.layout import ARRAYS, Layout, shard
from pipeline.manifest import Manifest, Record, differences
from pipeline.transfer import Split

PIXELS = ("randomness", "transfer", "views")  # the modules that make the pixels of a view


@dataclass(frozen=True)
class Cache:
    """A sealed cache, opened for reading."""

    path: Path
    manifest: Manifest
    layout: Layout

    @classmethod
    def open(cls, path: Path) -> "Cache":
        """Open a sealed cache and check that all of it is there: manifest, metadata, and every span's size.

        Raises IntegrityError otherwise.
        """
        manifest = Manifest.read(path)
        stored = manifest.identity["layout"]
        layout = Layout(len(manifest.identity["classes"]), stored["dtype"], stored["span"], stored["chunk"])
        cache = cls(path, manifest, layout)
        for split, expected in manifest.metadata_sha256.items():
            file = path / ARRAYS / split / "zarr.json"
            found = files.sha256_file(file) if file.is_file() else "no file"
            cache._require(file, f"sha256 {expected}", f"sha256 {found}", expected == found)
        for record in manifest.records:
            file = cache._file(record)
            found = f"{file.stat().st_size:,} bytes" if file.is_file() else "no such file"
            cache._require(file, f"{record.size_bytes:,} bytes", found, found == f"{record.size_bytes:,} bytes")
        return cache

    def read(self, split: str, views: int | None = None) -> np.ndarray:
        """All logits of a split's first `views` views (default: every view): (views, rows, classes) float32.

        Each span is read once and compared with its sha256 before it is decoded. Raises IntegrityError on any damage.
        """
        extent = self.manifest.extents[split]
        count = extent.views if views is None else views
        logits = np.full((count, extent.rows, self.layout.classes), np.nan, np.float32)
        for record in self.manifest.records:
            if record.split == split and record.view < count:
                start = record.span * self.layout.span
                stop = min(start + self.layout.span, extent.rows)
                logits[record.view, start:stop] = self._span(record, stop - start)
        self._require(self.path / ARRAYS / split, "a logit for every view, row and class", "gaps", not np.isnan(logits).any())
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
            "inputs_digest": {name: split.inputs_digest for name, split in splits.items()},
        }
        extents = {name: extent for name, extent in self.manifest.extents.items() if name in splits}
        held = {key: self.manifest.identity[key] for key in ("classes", "inputs")}
        held["rows"] = {split: extent.rows for split, extent in extents.items()}
        held["inputs_digest"] = {split: extent.inputs_digest for split, extent in extents.items()}
        self._refuse(wanted, held, "the data")

    def require_views(self, policy: str, seed: int, count: int) -> None:
        """Raise InputError unless the cache holds `count` views or more under this policy (canonical text) and seed.

        The code that makes the pixels must be the same too, or a student would see others than its teacher saw.
        """
        code = {module: closure.tree_sha256(f"pipeline.{module}") for module in PIXELS}
        held = {module: found for module, found in self.manifest.identity["code"].items() if module in PIXELS}
        self._refuse(code, held, "the code", "code.")
        self._refuse({"policy": policy, "seed": seed}, self.manifest.identity["views"], "the setting", "views.")
        found = self.manifest.extents["transfer"].views
        if found < count:
            self._refuse({"count": count}, {"count": found}, "the setting", "views.")

    def _refuse(self, wanted: Mapping[str, Any], held: Mapping[str, Any], owner: str, prefix: str = "") -> None:
        for field, expected, found in differences(wanted, held):
            name = self.path.name
            fix = f"Correct the settings, or run `softcache capture {name}` with these."
            raise InputError(f"cache {name}, {prefix}{field}", expected=f"{expected} as in {owner}", found=str(found), fix=fix)

    def _span(self, record: Record, rows: int) -> np.ndarray:
        file = self._file(record)
        data = file.read_bytes()
        found = files.sha256(data)
        self._require(file, f"sha256 {record.sha256}", f"sha256 {found}", record.sha256 == found)
        return self.layout.decode(data, rows)

    def _file(self, record: Record) -> Path:
        return shard(self.path / ARRAYS / record.split, record.view, record.span)

    def _require(self, file: Path, expected: str, found: str, holds: bool) -> None:
        if not holds:
            raise IntegrityError(
                str(file),
                expected=expected,
                found=found,
                fix=f"Run `softcache capture {self.path.name}` to compute it again.",
            )
