"""Work in progress on a cache: spans made durable one by one, recorded, and sealed into a cache.

Bytes come from zarr's codecs but are written here, because zarr neither syncs nor checksums what it writes. A record
exists only once its bytes are durable, and the manifest is written last.
"""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pipeline import files
from pipeline.errors import BusyError, InputError, IntegrityError
from pipeline.layout import ARRAYS, Layout, shard
from pipeline.manifest import FILE_NAME, Extent, Manifest, Record, fingerprint


class Work:
    """A capture in progress, in a folder of its own outside of every DVC out; open it with `Work.hold`."""

    def __init__(self, folder: Path, identity: Mapping, layout: Layout):
        self.folder = folder
        self.identity = identity
        self.layout = layout
        self.records: dict[str, Record] = {}

    @classmethod
    @contextlib.contextmanager
    def hold(cls, root: Path, teacher: str, identity: Mapping, layout: Layout) -> Iterator["Work"]:
        """Hold the work folder of this identity below `root`; raises BusyError if another process does.

        Spans that an earlier run recorded under the same identity are found again; bytes without a record are
        removed, never adopted.
        """
        folder = root / fingerprint(identity)
        with files.locked(folder, f"capture of {teacher}"):
            work = cls(folder, identity, layout)
            work._clear_unrecorded()
            files.write(folder / "identity.json", files.readable_json(dict(identity)))
            yield work

    def done(self, split: str, view: int, span: int, rows: str) -> bool:
        """Whether this span is durable and whole. A span of other rows, or one that was damaged, is removed.

        rows: digest of the rows that the span must hold.
        """
        name = f"{split}-{view}-{span}"
        record_path, path = self._record_path(name), self._span_path(split, view, span)
        try:
            record = Record(**json.loads(record_path.read_bytes()))
        except FileNotFoundError:
            return False
        except (ValueError, TypeError):
            record = None
        if record and record.rows == rows and path.is_file() and files.sha256_file(path) == record.sha256:
            self.records[name] = record
            return True
        record_path.unlink()
        path.unlink(missing_ok=True)
        return False

    def publish(self, split: str, view: int, span: int, rows: str, logits: np.ndarray) -> Record:
        """Make one span durable, then record it. logits: (rows, classes) float32, raw.

        Raises IntegrityError for NaN, infinity, or what the dtype cannot hold; then nothing is recorded.
        """
        first_row = span * self.layout.span
        data = self.layout.encode(self._checked(logits, f"{split} view {view}", first_row))
        path = self._span_path(split, view, span)
        aside = self.folder / "tmp" / f"{split}-{view}-{span}"
        files.write(aside, data)
        files.make_folder(path.parent)
        aside.rename(path)
        files.sync_folder(path.parent)
        record = Record(split, view, span, rows, len(data), files.sha256(data), float(logits.min()), float(logits.max()))
        files.write(self._record_path(record.name), files.canonical_json(asdict(record)))
        self.records[record.name] = record
        return record

    def seal(self, out: Path, extents: Mapping[str, Extent]) -> Manifest:
        """Put the finished cache in place of `out`; spans are hardlinked, so that sealing again takes seconds.

        Every span of `extents` must have been published or found done.
        """
        records, metadata = [], {}
        with files.replaced_folder(out) as folder:
            for split, extent in extents.items():
                array = folder / ARRAYS / split
                spans = -(-extent.rows // self.layout.span)
                for view in range(extent.views):
                    for span in range(spans):
                        record = self.records[f"{split}-{view}-{span}"]
                        _link(self._span_path(split, view, span), shard(array, view, span))
                        records.append(record)
                data = self.layout.metadata(extent.views, extent.rows)
                files.write(array / "zarr.json", data)
                metadata[split] = files.sha256(data)
            manifest = Manifest(self.identity, extents, tuple(records), metadata)
            files.write(folder / FILE_NAME, manifest.to_json())
        return manifest

    def clear_former(self, out: Path) -> None:
        """Remove the finished work that was sealed into `out` before this; unfinished work is never touched."""
        sealed = {"out": str(out.resolve())}
        for marker in self.folder.parent.glob("*/sealed.json"):
            # Work of another run may vanish, or be held, between any two of these lines.
            with contextlib.suppress(FileNotFoundError, InputError, BusyError):
                if marker.parent != self.folder and files.read_json(marker) == sealed:
                    with files.locked(marker.parent, "former work"):
                        shutil.rmtree(marker.parent)
        files.write(self.folder / "sealed.json", files.readable_json(sealed))

    def _clear_unrecorded(self) -> None:
        shutil.rmtree(self.folder / "tmp", ignore_errors=True)
        for path in self.folder.glob("**/.*.partial"):
            path.unlink()
        spans = self.folder / "spans"
        for path in sorted(spans.glob("*/c/*/*/0")):
            split, _, view, span, _ = path.relative_to(spans).parts
            if not self._record_path(f"{split}-{view}-{span}").exists():
                path.unlink()

    def _checked(self, logits: np.ndarray, where: str, first_row: int) -> np.ndarray:
        with np.errstate(over="ignore"):
            stored = logits.astype(self.layout.dtype)
        bad = np.argwhere(~np.isfinite(stored))
        if len(bad):
            row, column = bad[0]
            raise IntegrityError(
                f"{where}, row {first_row + row}, class {column}",
                expected=f"a finite logit that {self.layout.dtype} can hold",
                found=str(logits[row, column]),
                fix="Check the teacher; where its logits are only large, set `dtype: float32`. Nothing was recorded.",
            )
        return stored

    def _span_path(self, split: str, view: int, span: int) -> Path:
        return shard(self.folder / "spans" / split, view, span)

    def _record_path(self, name: str) -> Path:
        return self.folder / "records" / f"{name}.json"


def _link(source: Path, target: Path) -> None:
    """Hardlink, or copy where the file system or its borders do not allow it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        shutil.copyfile(source, target)
