"""Splits: inputs and labels in Parquet, in one fixed row order.

A split is a file, or where it is large a folder of files, its parts, of whole spans each but the last. A file has the columns
`id` (string), `label` (int64, null where unknown), and one for the inputs, by their kind: `image` (struct of bytes and path, as
Hugging Face datasets write it), `array` (binary: C order, little-endian) or `text` (string). Its footer holds, under
`softcache`, what every reader needs: class names, what the inputs are, span, and digests. In a folder _split.json holds these
for all parts, and the sha256 of every part's footer. splits.json binds the splits of one ingest to each other: by the split's
name it holds the sha256 of the file's footer, or of _split.json.
"""

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
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
from pipeline.data.parts import Part, Parts, footer_of, part_name
from pipeline.data.pixels import DECODER

FORMAT = 6
BINDING = "splits.json"
LISTING = "_split.json"  # in the folder of a split; readers of Parquet leave out such names
SPAN_BYTES = 64 << 20
SPAN_ROWS = 8192  # at most
UNLABELLED = -1
DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError, MemoryError, OverflowError)  # pyarrow's errors for damaged files
KEY = "softcache"  # of the facts in a file's footer; their sha256 is beside them


def span_rows(classes: int, row_bytes: int) -> int:
    """Rows of a span: the largest power of two, up to 8,192, whose float32 logits fit 64 MB, and whose inputs do.

    row_bytes: of an input in memory, once it is decoded.
    """
    fitting = SPAN_BYTES // max(classes * 4, row_bytes, 1)
    return min(1 << max(0, fitting.bit_length() - 1), SPAN_ROWS)


def narrow(numbers: np.ndarray) -> np.ndarray:
    """The same whole numbers in the smallest signed type that holds them."""
    return numbers.astype(np.min_scalar_type(min(int(numbers.min(initial=0)), -1 - int(numbers.max(initial=0)))))


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
    """The facts in a split's file, or of all its parts."""

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
class Listing(Facts):
    """The content of _split.json."""

    version: int
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Split(Facts):
    """One opened split: its facts are in memory, its rows are read on demand.

    path: the file, or the folder of its parts. witness: of splits.json if `open_splits` opened it, else of its own facts.
    """

    path: Place
    parts: tuple[Part, ...]
    witness: files.Witness = field(compare=False)

    @classmethod
    def open(cls, path: Place) -> "Split":
        """Open one split; `open_splits` also checks that it belongs to the others.

        Args:
            path: The Parquet file, or the folder of its parts.

        Returns:
            The split. No rows are read, and of parts nothing.

        Raises:
            InputError: The split is missing, was not written by ingest, or is of another format or decoder.
            IntegrityError: It is damaged.
        """
        fix = f"Run {commands.ingest(path.parent)}."
        is_folder = not path.is_file() and path.is_dir()
        read, parts, witness = _listed(path / LISTING, fix) if is_folder else _in_footer(path, fix)
        if isinstance(read.inputs, Images) and read.inputs.decoder != DECODER:
            raise InputError(f"{path}, decoder", expected=f"{DECODER} as it is now", found=read.inputs.decoder, fix=fix)
        if min(read.rows, read.span, *read.inputs.shape) < 1 or len(read.span_digests) != -(-read.rows // read.span):
            found = f"{read.rows:,} rows, spans of {read.span:,} and {len(read.span_digests):,} digests"
            raise IntegrityError(str(path), expected="a digest for every span of rows", found=found, fix=fix)
        return cls(**{each.name: getattr(read, each.name) for each in fields(Facts)}, path=path, parts=parts, witness=witness)

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
            labels = self._parts.labels("label", UNLABELLED)
        except DAMAGE as error:
            raise self._damaged(self.path, error) from error
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
        start, stop = self._rows(span)
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
    def _parts(self) -> Parts:
        return Parts(self.path, self.parts, self.span)

    def _rows(self, span: int) -> tuple[int, int]:
        """The (start, stop) row numbers of a span. Raises IndexError if there is none."""
        return range(0, self.rows, self.span)[span], min((span + 1) * self.span, self.rows)

    def _read(self, span: int) -> tuple[list[str], list[bytes]]:
        """Ids and stored inputs of one span, compared with their digest."""
        start, stop = self._rows(span)
        ids: list[str] = []
        found: list[bytes | None] = []
        path = self._parts.place(span)
        try:
            with self._parts.batches(span, ["id", self.inputs.COLUMN], self.span_digests[span]) as batches:
                for batch in batches:
                    ids += batch.column("id").to_pylist()
                    found += self.inputs.stored(batch.column(self.inputs.COLUMN))
                stored = [data for data in found if data is not None]
                if None in ids or len(stored) < len(found):
                    raise ValueError("a row without id or input")
                self._check(f"rows {start} to {stop - 1}", self.span_digests[span], rows_digest(ids, stored))
        except DAMAGE as error:
            raise self._damaged(path, error) from error
        return ids, stored

    def _damaged(self, path: Place, error: BaseException) -> IntegrityError:
        return IntegrityError(str(path), expected="Parquet as ingest wrote it", found=first_line(error), fix=self._fix)

    @property
    def _fix(self) -> str:
        return f"The file was changed after ingest: run {commands.ingest(self.path.parent)}."

    def _check(self, what: str, expected: str, found: str) -> None:
        if expected != found:
            expected, found = f"digest {expected[:12]}…", f"{found[:12]}…"
            raise IntegrityError(f"{self.path}, {what}", expected=expected, found=found, fix=self._fix)


def _in_footer(path: Place, fix: str) -> tuple[Facts, tuple[Part, ...], files.Witness]:
    """The facts of a split that is one file, itself as its only part, and the witness of its footer."""
    try:
        footer = footer_of(path)
        metadata = pq.read_metadata(pa.BufferReader(footer)).metadata or {}
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
    read, digest = facts.typed(Facts, found, str(path), fix), files.sha256(footer)
    return read, (Part("", read.rows, digest),), files.Witness(str(path), digest, lambda: bound_sha256(path))


def _listed(path: Place, fix: str) -> tuple[Facts, tuple[Part, ...], files.Witness]:
    """The facts of a split that is a folder, its parts, and the witness of the file that holds these."""
    found, witness = facts.read(Listing, path, fix, FORMAT)
    counts, span = [part.rows for part in found.parts], found.span
    if sum(counts) != found.rows or min(span, *counts) < 1 or any(count % span for count in counts[:-1]):
        expected = f"{found.rows:,} rows, in parts of whole spans of {found.span:,}"
        raise IntegrityError(str(path), expected=expected, found=f"parts of {counts}", fix=fix)
    for number, part in enumerate(found.parts):  # a name of another kind could be a path out of the folder
        if part.name != (name := part_name(number)):
            raise IntegrityError(f"{path}, parts", expected=name, found=repr(part.name), fix=fix)
    return found, found.parts, witness


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
    """The content of splits.json. footers: the sha256 of each file's footer, or folder's _split.json, by the split's name."""

    version: int
    footers: Mapping[str, str]


def bind_splits(folder: Place, names: Sequence[str]) -> None:
    """Write splits.json, which binds these splits in `folder` to each other."""
    binding = _Binding(FORMAT, {name: bound_sha256(folder / f"{name}.parquet") or "" for name in names})
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
        if bound_sha256(path) != binding.footers[role]:
            raise IntegrityError(str(path), expected=f"the {role} split that belongs to {BINDING}", found="another", fix=fix)
        split = Split.open(path)
        if split.role != role:
            raise IntegrityError(str(path), expected=f"the {role} split", found=f"the {split.role} split", fix=fix)
        splits[name] = replace(split, witness=witness)
    return splits


def bound_sha256(path: Place) -> str | None:
    """What binds a split: the sha256 of its file's footer, or of the _split.json in its folder; None where there is none."""
    try:
        return files.sha256(footer_of(path) if path.is_file() else (path / LISTING).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
