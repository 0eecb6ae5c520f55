"""Splits: inputs and labels in Parquet, in one fixed row order.

A split file has the columns `id` (string), `label` (int64, null where unknown), and one for the inputs, by their kind: `image`
(struct of bytes and path, as Hugging Face datasets write it), `array` (binary: C order, little-endian) or `text` (string).
Its footer holds, under `softcache`, what every reader needs: class names, what the inputs are, span, and digests. splits.json
binds the splits of one ingest to each other: it holds the sha256 of every file's footer, by the split's name.
"""

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.base import commands, facts, files, runtime
from pipeline.base.errors import InputError, IntegrityError, first_line
from pipeline.base.places import Place
from pipeline.data import decoded
from pipeline.data.inputs.image import Images
from pipeline.data.inputs.kinds import Inputs
from pipeline.data.pixels import DECODER

FORMAT = 6
BINDING = "splits.json"
SPAN_BYTES = 64 << 20
SPAN_ROWS = 8192  # at most
UNLABELLED = -1
DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError, MemoryError, OverflowError)  # pyarrow's errors for damaged files
KEY = "softcache"  # of the facts in a file's footer; their sha256 is beside them
_MAGIC = b"PAR1"  # the end of a Parquet file, after the size of its footer


def span_rows(classes: int, row_bytes: int) -> int:
    """Rows of a span: the largest power of two, up to 8,192, whose float32 logits fit 64 MB, and whose inputs do.

    row_bytes: of an input in memory, once it is decoded.
    """
    fitting = SPAN_BYTES // max(classes * 4, row_bytes, 1)
    return min(1 << max(0, fitting.bit_length() - 1), SPAN_ROWS)


# ---------------------------------------------------------------- digests


def rows_digest(ids: Iterable[str], stored: Iterable[bytes]) -> str:
    """sha256 of ids and stored inputs in order, with their lengths, so that equal digests mean equal rows."""
    digest = hashlib.sha256()
    add_rows(digest, ids, stored)
    return digest.hexdigest()


def add_rows(digest: "hashlib._Hash", ids: Iterable[str], stored: Iterable[bytes | memoryview]) -> None:
    """Let a digest, see rows_digest, go on with these rows."""
    for name, data in zip(ids, stored, strict=True):
        encoded = name.encode()
        digest.update(struct.pack("<QQ", len(encoded), len(data)))
        digest.update(encoded)
        digest.update(data)


def inputs_digest(inputs: Inputs, span_digests: Sequence[str], excluded: Sequence[str]) -> str:
    """Digest of a model's inputs: what they are, every span's rows in order, and the excluded rows. Labels are no inputs."""
    found = {"inputs": described(inputs), "spans": list(span_digests), "excluded": list(excluded)}
    return files.sha256(files.canonical_json(found))


def labels_digest(labels: np.ndarray) -> str:
    """Digest of the labels in order (int64, -1 where unknown)."""
    return files.sha256(labels.astype("<i8").tobytes())


def described(inputs: Inputs) -> dict[str, Any]:
    """The facts of inputs as plain values, as identities hold them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(inputs).items()}


# ---------------------------------------------------------------- a split on disk


def ranges(rows: int, span: int) -> Iterator[tuple[int, int]]:
    """The (start, stop) row numbers of every span."""
    for start in range(0, rows, span):
        yield start, min(start + span, rows)


@dataclass(frozen=True)
class Facts:
    """The facts in a split's file."""

    role: str  # train, valid, test or transfer
    rows: int
    classes: tuple[str, ...]
    inputs: Inputs
    span: int
    span_digests: tuple[str, ...]
    inputs_digest: str
    labels_digest: str
    excluded: tuple[str, ...]  # ids of the rows that were left out because their inputs are damaged
    folded: bool  # whether these validation rows are training rows too


@dataclass(frozen=True)
class Split(Facts):
    """One opened split: its facts are in memory, its rows are read on demand.

    witness: of splits.json if `open_splits` opened it, else of the file's own footer.
    """

    path: Place
    witness: files.Witness = field(compare=False)

    @classmethod
    def open(cls, path: Place) -> "Split":
        """Open one split; `open_splits` also checks that it belongs to the others.

        Args:
            path: The Parquet file.

        Returns:
            The split. No rows are read.

        Raises:
            InputError: The file is missing, was not written by ingest, or is of another format or decoder.
            IntegrityError: The file is damaged.
        """
        fix = f"Run {commands.ingest(path.parent)}."
        try:
            metadata = _footer(path).metadata or {}
        except FileNotFoundError as error:
            raise InputError(str(path), expected="a split written by ingest", found="no file", fix=fix) from error
        except DAMAGE as error:
            raise IntegrityError(str(path), expected="Parquet", found=first_line(error), fix=fix) from error
        if KEY.encode() not in metadata:
            raise InputError(str(path), expected="a split written by ingest", found="another Parquet file", fix=fix)
        text = metadata[KEY.encode()]
        if files.sha256(text) != metadata.get(f"{KEY}_sha256".encode(), b"").decode(errors="replace"):
            raise IntegrityError(str(path), expected="its facts as ingest wrote them", found="other facts", fix=fix)
        try:
            found = json.loads(text)
            version = found.pop("version")
        except (*facts.NOT_JSON, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(str(path), expected="facts of a split", found="something else", fix=fix) from error
        if version != FORMAT:
            raise InputError(str(path), expected=f"format {FORMAT}", found=f"format {version}", fix=fix)
        read = facts.typed(Facts, found, str(path), fix)
        if isinstance(read.inputs, Images) and read.inputs.decoder != DECODER:
            raise InputError(f"{path}, decoder", expected=f"{DECODER} as it is now", found=read.inputs.decoder, fix=fix)
        if min(read.rows, read.span, *read.inputs.shape) < 1 or len(read.span_digests) != -(-read.rows // read.span):
            found = f"{read.rows:,} rows, spans of {read.span:,} and {len(read.span_digests):,} digests"
            raise IntegrityError(str(path), expected="a digest for every span of rows", found=found, fix=fix)
        footer = files.Witness(str(path), _footer_sha256(path) or "", lambda: _footer_sha256(path))
        return cls(**vars(read), path=path, witness=footer)

    def require_unfolded(self, what: str) -> None:
        """Check that models may be chosen by these validation rows.

        Args:
            what: The setting that would choose by them, for the message.

        Raises:
            InputError: The rows are training rows too.
        """
        if self.folded:
            expected, found = "validation rows that are not training rows", f"{self.path} with the setting ingest.fold"
            fix = "Choose with ingest.fold: false, then fold for the final models."
            raise InputError(what, expected=expected, found=found, fix=fix)

    def spans(self) -> list[tuple[int, int]]:
        """The (start, stop) row numbers of every span."""
        return list(ranges(self.rows, self.span))

    def labels(self) -> np.ndarray:
        """All labels: (N,) int64, -1 where unknown. Raises IntegrityError if the file was changed."""
        try:
            with self.path.open("rb") as held, pq.ParquetFile(held) as file:  # read_table imports ten times as much
                column = file.read(columns=["label"]).column("label")
            labels: np.ndarray = column.fill_null(UNLABELLED).to_numpy().astype(np.int64)
        except DAMAGE as error:
            raise self._damaged(error) from error
        self._check("labels", self.labels_digest, labels_digest(labels))
        return labels

    def ids(self, span: int) -> list[str]:
        """The ids of a span's rows.

        Args:
            span: The index of the span.

        Returns:
            One id per row.

        Raises:
            IntegrityError: The span's bytes have changed.
        """
        return self._read(span)[0]

    def read(self, span: int, indices: np.ndarray | None = None) -> np.ndarray:
        """Read the inputs of one span; images are decoded. All of its bytes are checked; of pixels on disk, see decoded.py.

        Args:
            span: The index of the span.
            indices: (n,) integers, the rows to read, counted from the span's first row; None for all.

        Returns:
            (n, *shape): pixels (n, channels, height, width) uint8, which may lie in memory channels last; arrays of their
            dtype; or texts, (n,) str objects.

        Raises:
            IntegrityError: The span's bytes have changed.
        """
        start, stop = self.spans()[span]
        facts = [described(self.inputs), self.span_digests[span]]
        if self.inputs.kind == "image" and (indices is None or decoded.has(facts)):
            shape = (stop - start, *self.inputs.shape)
            found = decoded.pixels(facts, shape, lambda: self._inputs(span, np.arange(stop - start)))
            return found if indices is None else found[indices]
        return self._inputs(span, np.arange(stop - start) if indices is None else indices)

    def _inputs(self, span: int, indices: np.ndarray) -> np.ndarray:
        """Rows of a span, out of the file. indices: counted from its first row."""
        ids, stored = self._read(span)
        first = span * self.span

        def place(row: int) -> str:
            return f"{self.path}, row {first + indices[row]} (id {ids[indices[row]]})"

        return self.inputs.read([stored[row] for row in indices], place)

    def read_all(self) -> np.ndarray:
        """All inputs, as `read` gives them, in memory. Raises IntegrityError if the file was changed."""
        spans = runtime.progress(range(len(self.span_digests)), f"reading {self.path.name}", unit="spans")
        return np.concatenate([self.read(span) for span in spans])

    @cached_property
    def _groups(self) -> tuple[pq.FileMetaData, list[list[int]]]:
        """The footer, which takes long to parse, and the row groups of every span."""
        footer = _footer(self.path)
        groups: list[list[int]] = [[] for _ in self.span_digests]
        first_row = 0
        for group in range(footer.num_row_groups):
            if first_row < self.rows:
                groups[first_row // self.span].append(group)
            first_row += footer.row_group(group).num_rows
        return footer, groups

    def _read(self, span: int) -> tuple[list[str], list[bytes]]:
        """Ids and stored inputs of one span, which consists of whole row groups, compared with their digest."""
        start, stop = self.spans()[span]
        ids: list[str] = []
        found: list[bytes | None] = []
        try:
            footer, groups = self._groups
            with self.path.open("rb") as held, pq.ParquetFile(held, metadata=footer) as file:
                for batch in file.iter_batches(row_groups=groups[span], columns=["id", self.inputs.COLUMN]):
                    ids += batch.column("id").to_pylist()
                    found += self.inputs.stored(batch.column(self.inputs.COLUMN))
        except DAMAGE as error:
            raise self._damaged(error) from error
        stored = [data for data in found if data is not None]
        if None in ids or len(stored) < len(found):
            raise self._damaged(ValueError("a row without id or input"))
        self._check(f"rows {start} to {stop - 1}", self.span_digests[span], rows_digest(ids, stored))
        return ids, stored

    def _damaged(self, error: BaseException) -> IntegrityError:
        return IntegrityError(str(self.path), expected="Parquet as ingest wrote it", found=first_line(error), fix=self._fix)

    @property
    def _fix(self) -> str:
        return f"The file was changed after ingest: run {commands.ingest(self.path.parent)}."

    def _check(self, what: str, expected: str, found: str) -> None:
        if expected != found:
            expected, found = f"digest {expected[:12]}…", f"{found[:12]}…"
            raise IntegrityError(f"{self.path}, {what}", expected=expected, found=found, fix=self._fix)


def class_numbers(these: Sequence[int | str], names: Sequence[str], what: str) -> list[int]:
    """The labels of classes that are given by name or, if no class has that name, by label. names: in label order.

    Raises InputError, naming the setting `what`, for an unknown class or one that is given twice.
    """
    fix = f"Correct the setting `{what.split()[0]}`."
    if not isinstance(these, list | tuple):
        raise InputError(what, expected="a list of classes such as [7, 8]", found=repr(these), fix=fix)
    numbers: list[int] = []
    for item in these:
        number = names.index(str(item)) if str(item) in names else item
        number = int(number) if isinstance(number, str) and number.isdecimal() else number
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(names):
            known = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
            expected = f"a label from 0 to {len(names) - 1}, or a name of {known}"
            raise InputError(what, expected=expected, found=repr(item), fix=fix)
        if number in numbers:
            raise InputError(what, expected="each class once", found=f"{names[number]} twice", fix=fix)
        numbers.append(number)
    return numbers


# ---------------------------------------------------------------- splits of one ingest


@dataclass(frozen=True)
class _Binding:
    """The content of splits.json. footers: the sha256 of each file's footer, by the split's name."""

    version: int
    footers: Mapping[str, str]


def bind_splits(folder: Path, names: Sequence[str]) -> None:
    """Write splits.json, which binds these splits in `folder` to each other."""
    binding = _Binding(FORMAT, {name: _footer_sha256(folder / f"{name}.parquet") or "" for name in names})
    files.write(folder / BINDING, facts.sealed(asdict(binding)))


def open_splits(folder: Place, names: Sequence[str]) -> dict[str, Split]:
    """Open splits of one ingest. No rows are read, and torch is not needed.

    Args:
        folder: The folder that ingest wrote.
        names: Some of `train`, `valid`, `test` and `transfer`. `transfer` is the training split if it has no file of its own.

    Returns:
        The opened splits, by name.

    Raises:
        InputError: The folder has no splits, or they were made with another decoder.
        IntegrityError: A split is missing or damaged, of another format, or from another ingest.
    """
    folder, fix = files.current(folder), f"Run {commands.ingest(folder)}."
    try:
        binding, witness = facts.read(_Binding, folder / BINDING, fix, FORMAT)
    except InputError as error:
        if any(folder.glob("*.parquet")):
            raise IntegrityError(str(folder), expected=f"splits with {BINDING}", found="no such file", fix=fix) from error
        raise InputError(str(folder), expected="splits written by ingest", found="none", fix=fix) from error
    if "transfer" not in binding.footers and (folder / "transfer.parquet").exists():
        found = "a transfer.parquet from another ingest"
        raise IntegrityError(str(folder), expected="the splits of one ingest", found=found, fix=fix)
    splits = {}
    for name in names:
        role = "train" if name == "transfer" and name not in binding.footers else name
        path = folder / f"{role}.parquet"
        if role not in binding.footers or not path.exists():
            raise IntegrityError(str(path), expected="a split written by ingest", found="no file", fix=fix)
        if _footer_sha256(path) != binding.footers[role]:
            raise IntegrityError(str(path), expected=f"the {role} split that belongs to {BINDING}", found="another", fix=fix)
        split = Split.open(path)
        if split.role != role:
            raise IntegrityError(str(path), expected=f"the {role} split", found=f"the {split.role} split", fix=fix)
        splits[name] = replace(split, witness=witness)
    return splits


def _footer(path: Place) -> pq.FileMetaData:
    with path.open("rb") as file:
        return pq.read_metadata(file)


def _footer_sha256(path: Place) -> str | None:
    """sha256 of a Parquet file's footer: its metadata, their size, and the magic bytes. None if it has no footer."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 8))
            size, magic = struct.unpack("<I4s", file.read(8))
            if magic != _MAGIC or size + 8 > end:
                return None
            file.seek(end - size - 8)
            return files.sha256(file.read())
    except (IsADirectoryError, struct.error):
        return None
