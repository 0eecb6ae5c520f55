"""Writing a split: rows that arrive in their final order, in row groups and spans, with the digests of both.

A small split is one file. A large one is a folder of parts, which may be written at the same time, by several processes.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.base import facts, files
from pipeline.data.inputs.kinds import Inputs
from pipeline.data.parts import Part
from pipeline.data.splits import (
    FORMAT,
    KEY,
    LISTING,
    UNLABELLED,
    Facts,
    Listing,
    add_rows,
    bound_sha256,
    inputs_digest,
    narrow,
)

ROW_GROUP_BYTES = 64 << 20
PART_BYTES = 1 << 30  # of stored inputs; a split of more is a folder of parts


def part_rows(span: int, row_bytes: float) -> int:
    """Rows of a part: as many spans as fit PART_BYTES, a power of two, so that a few more rows leave most parts as they were.

    row_bytes: the mean of a row as it is stored.
    """
    fitting = int(PART_BYTES // max(span * row_bytes, 1))
    return span << max(0, fitting.bit_length() - 1)


@dataclass(frozen=True)
class Rows:
    """Some rows in order, in Arrow's arrays: as Python objects they would leave memory in pieces.

    ids: (N,) string. stored: (N,) binary, their inputs, as splits store them. labels: (N,) int64, -1 where unknown.
    """

    ids: pa.Array
    stored: pa.Array
    labels: np.ndarray

    @classmethod
    def of(cls, ids: Sequence[str], stored: Sequence[bytes], labels: np.ndarray) -> "Rows":
        """Rows of Python's objects."""
        return cls(pa.array(ids, pa.string()), pa.array(stored, pa.binary()), labels.astype(np.int64, copy=False))

    @classmethod
    def joined(cls, some: Sequence["Rows"]) -> "Rows":
        """All rows of some, one or more, in order."""
        ids, stored = (pa.concat_arrays(each) for each in ([rows.ids for rows in some], [rows.stored for rows in some]))
        return cls(ids, stored, np.concatenate([rows.labels for rows in some]))

    def __len__(self) -> int:
        return len(self.labels)

    def cut(self, start: int, stop: int) -> "Rows":
        """The rows from start to stop, not copied."""
        return Rows(self.ids[start:stop], self.stored[start:stop], self.labels[start:stop])

    def take(self, rows: np.ndarray) -> "Rows":
        """The rows of these numbers, (n,) int64, copied."""
        numbers = pa.array(rows)
        return Rows(self.ids.take(numbers), self.stored.take(numbers), self.labels[rows])

    def ends(self) -> np.ndarray:
        """Where each stored input ends, in the bytes of all of them: (N,) int64."""
        return np.cumsum(pc.binary_length(self.stored).to_numpy(), dtype=np.int64)

    def inputs(self) -> Iterator[memoryview]:
        """The bytes of each stored input, not copied."""
        _, offsets, data = self.stored.buffers()
        first = np.frombuffer(offsets, np.int32)[self.stored.offset]
        held, start = memoryview(data)[first:], 0
        for end in self.ends().tolist():
            yield held[start:end]
            start = end


@dataclass(frozen=True)
class Shape:
    """What a split is, whatever its rows are.

    role: `train`, `valid`, `test` or `transfer`. classes: class names in label order. inputs: what the inputs are. span: rows
    of a span, see splits.span_rows. excluded: ids of the rows that were left out because their inputs are damaged. folded:
    whether these validation rows are training rows too.
    """

    role: str
    classes: Sequence[str]
    inputs: Inputs
    span: int
    excluded: Sequence[str] = ()
    folded: bool = False

    def facts(self, rows: int, span_digests: Sequence[str], labels_digest: str) -> Facts:
        """The facts of a split with these rows."""
        return Facts(
            role=self.role, rows=rows, classes=tuple(self.classes), inputs=self.inputs, span=self.span,
            span_digests=tuple(span_digests), inputs_digest=inputs_digest(self.inputs, span_digests, self.excluded),
            labels_digest=labels_digest, excluded=tuple(self.excluded), folded=self.folded,
        )  # fmt: skip


@dataclass
class _Written:
    """What is known of the rows of a file so far.

    span_digests: of its full spans. labels: (n,) of each row group, of the smallest type. rows_digest: of the rows of the last
    span, which is not full yet.
    """

    span: int
    rows: int = 0
    span_digests: list[str] = field(default_factory=list)
    labels: list[np.ndarray] = field(default_factory=list)
    rows_digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def add(self, group: Rows) -> None:
        """Take a row group."""
        add_rows(self.rows_digest, group.ids.to_pylist(), group.inputs())
        self.labels.append(narrow(group.labels))
        self.rows += len(group)
        if self.rows % self.span == 0:
            self.end_span()

    def end_span(self) -> None:
        """Note the digest of a span."""
        self.span_digests.append(self.rows_digest.hexdigest())
        self.rows_digest = hashlib.sha256()


@dataclass(frozen=True)
class WrittenPart:
    """A file that was written: itself, the digests of its spans, and the labels of each row group."""

    part: Part
    span_digests: Sequence[str]
    labels: Sequence[np.ndarray]

    @property
    def rows(self) -> int:
        """How many it has."""
        return self.part.rows


def write_split(
    path: Path,
    rows: Iterable[Rows],
    *,
    role: str,
    classes: Sequence[str],
    inputs: Inputs,
    span: int,
    excluded: Sequence[str] = (),
    folded: bool = False,
) -> WrittenPart:
    """Write a split that is one file, its rows in the given order; no more than a row group of them, and a piece, is held.

    A row group holds at most 64 MB of stored inputs, or a single larger one, and never crosses the border of a span.

    Args:
        path: The file to write.
        rows: One row or more, in pieces of any size.
        role, classes, inputs, span, excluded, folded: What the split is, see Shape.

    Returns:
        What was written.
    """
    shape = Shape(role, classes, inputs, span, excluded, folded)

    def footer(written: _Written) -> Mapping[str, str | bytes]:
        found = shape.facts(written.rows, written.span_digests, _labels_digest(written.labels))
        text = files.canonical_json({"version": FORMAT, **asdict(found)})
        return {KEY: text, f"{KEY}_sha256": files.sha256(text)}

    return _write(path, rows, shape, footer)


def write_part(path: Path, rows: Iterable[Rows], shape: Shape) -> WrittenPart:
    """Write a part of a split that is a folder, as write_split writes a file; it knows nothing of the other parts."""
    return _write(path, rows, shape, lambda written: {})


def list_parts(path: Path, shape: Shape, parts: Iterable[WrittenPart]) -> None:
    """Write what makes a folder of parts a split. parts: in order; all but the last hold whole spans."""
    listed: list[Part] = []
    digests: list[str] = []
    labels = hashlib.sha256()
    for each in parts:
        listed.append(each.part)
        digests += each.span_digests
        _add_labels(labels, each.labels)
    found = shape.facts(sum(part.rows for part in listed), digests, labels.hexdigest())
    files.write(path / LISTING, facts.sealed(asdict(Listing(**vars(found), version=FORMAT, parts=tuple(listed)))))


def _labels_digest(labels: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256()
    _add_labels(digest, labels)
    return digest.hexdigest()


def _add_labels(digest: "hashlib._Hash", labels: Iterable[np.ndarray]) -> None:
    """Let a digest, see splits.labels_digest, go on with these labels."""
    for some in labels:
        digest.update(some.astype("<i8").tobytes())


def _write(
    path: Path, rows: Iterable[Rows], shape: Shape, footer: Callable[[_Written], Mapping[str, str | bytes]]
) -> WrittenPart:
    """Write a file. footer: what its footer holds of what was written, beside what Hugging Face datasets read."""
    inputs = shape.inputs
    column = inputs.column(pa.array([], pa.binary()))
    schema = pa.schema([("id", pa.string()), (inputs.COLUMN, column.type), ("label", pa.int64())])
    shown = {inputs.COLUMN: {"_type": "Image"} if inputs.kind == "image" else {"_type": "Value", "dtype": str(column.type)}}
    features = {**shown, "label": {"names": list(shape.classes), "_type": "ClassLabel"}}
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    written = _Written(shape.span)
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False, write_statistics=False) as writer:
        for group in _row_groups(rows, shape.span):
            written.add(group)
            known = pa.array(group.labels, pa.int64(), mask=group.labels == UNLABELLED)
            columns = [group.ids, inputs.column(group.stored), known]
            writer.write_table(pa.table(columns, schema=schema), row_group_size=len(group))  # write_batch holds all pages
            del group, columns  # before the next rows are read
        if written.rows % shape.span:
            written.end_span()
        writer.add_key_value_metadata(footer(written))
    return WrittenPart(Part(path.name, written.rows, bound_sha256(path) or ""), written.span_digests, written.labels)


def _row_groups(pieces: Iterable[Rows], span: int) -> Iterator[Rows]:
    """The same rows in row groups, each as large as it may be."""
    held: list[Rows] = []
    size, left = 0, span  # bytes that are held, and rows that the span lacks
    for piece in pieces:
        ends, start = piece.ends(), 0
        while start < len(piece):
            before = int(ends[start - 1]) if start else 0
            fitting = int(np.searchsorted(ends, before + ROW_GROUP_BYTES - size, side="right"))
            stop = min(max(fitting, start if held else start + 1), start + left, len(piece))
            if stop > start:
                held.append(piece.cut(start, stop))
                size, left, start = size + int(ends[stop - 1]) - before, left - (stop - start), stop
            if left == 0 or start < len(piece):
                group, held, size, left = Rows.joined(held), [], 0, left or span
                yield group
                del group
        del piece  # before the next one is read
    if held:
        yield Rows.joined(held)
