"""Writing a split: rows that arrive in their final order, in row groups and spans, with the digests of both."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.base import files
from pipeline.data.inputs.kinds import Inputs
from pipeline.data.splits import FORMAT, KEY, UNLABELLED, Facts, add_rows, inputs_digest

ROW_GROUP_BYTES = 64 << 20


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


@dataclass
class _Written:
    """What is known of the rows so far. rows_digest: of the rows of the last span, which is not full yet."""

    span: int
    rows: int = 0
    span_digests: list[str] = field(default_factory=list)
    rows_digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    labels: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def add(self, group: Rows) -> None:
        """Take a row group."""
        add_rows(self.rows_digest, group.ids.to_pylist(), group.inputs())
        self.labels.update(group.labels.astype("<i8").tobytes())
        self.rows += len(group)
        if self.rows % self.span == 0:
            self.end_span()

    def end_span(self) -> None:
        """Note the digest of a span."""
        self.span_digests.append(self.rows_digest.hexdigest())
        self.rows_digest = hashlib.sha256()


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
) -> None:
    """Write one split, its rows in the given order; no more than a row group of them, and a piece, is held.

    A row group holds at most 64 MB of stored inputs, or a single larger one, and never crosses the border of a span.

    Args:
        path: The file to write.
        rows: One row or more, in pieces of any size.
        role: `train`, `valid`, `test` or `transfer`.
        classes: Class names in label order.
        inputs: What the inputs are.
        span: Rows of a span, see splits.span_rows.
        excluded: Ids of the rows that were left out because their inputs are damaged.
        folded: Whether these validation rows are training rows too.
    """
    column = inputs.column(pa.array([], pa.binary()))
    schema = pa.schema([("id", pa.string()), (inputs.COLUMN, column.type), ("label", pa.int64())])
    shown = {inputs.COLUMN: {"_type": "Image"} if inputs.kind == "image" else {"_type": "Value", "dtype": str(column.type)}}
    features = {**shown, "label": {"names": list(classes), "_type": "ClassLabel"}}
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    written = _Written(span)
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False, write_statistics=False) as writer:
        for group in _row_groups(rows, span):
            written.add(group)
            known = pa.array(group.labels, pa.int64(), mask=group.labels == UNLABELLED)
            columns = [group.ids, inputs.column(group.stored), known]
            writer.write_table(pa.table(columns, schema=schema), row_group_size=len(group))  # write_batch holds all pages
            del group, columns  # before the next rows are read
        if written.rows % span:
            written.end_span()
        held = Facts(
            role=role, rows=written.rows, classes=tuple(classes), inputs=inputs, span=span,
            span_digests=tuple(written.span_digests), inputs_digest=inputs_digest(inputs, written.span_digests, excluded),
            labels_digest=written.labels.hexdigest(), excluded=tuple(excluded), folded=folded,
        )  # fmt: skip
        text = files.canonical_json({"version": FORMAT, **asdict(held)})
        writer.add_key_value_metadata({KEY: text, f"{KEY}_sha256": files.sha256(text)})


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
