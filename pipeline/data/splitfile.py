"""Writing a split: rows that arrive in their final order, in row groups and spans, with the digests of both."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.base import files
from pipeline.data.inputs.kinds import Inputs
from pipeline.data.splits import FORMAT, KEY, UNLABELLED, Facts, inputs_digest, rows_digest

ROW_GROUP_BYTES = 64 << 20


@dataclass(frozen=True)
class Rows:
    """Some rows in order. stored: their inputs, as splits store them. labels: (N,) int64, -1 where unknown."""

    ids: Sequence[str]
    stored: Sequence[bytes]
    labels: np.ndarray

    def cut(self, start: int, stop: int) -> "Rows":
        """The rows from start to stop."""
        return Rows(self.ids[start:stop], self.stored[start:stop], self.labels[start:stop])

    def joined(self, other: "Rows") -> "Rows":
        """These rows, then those of `other`."""
        labels = np.concatenate([self.labels, other.labels])
        return Rows([*self.ids, *other.ids], [*self.stored, *other.stored], labels)


@dataclass
class _Written:
    """What is known of the rows so far."""

    rows: int = 0
    span_digests: list[str] = field(default_factory=list)
    labels: "hashlib._Hash" = field(default_factory=hashlib.sha256)


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
    """Write one split, its rows in the given order; no more than a span of them is held.

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
    column = inputs.column([])
    schema = pa.schema([("id", pa.string()), (inputs.COLUMN, column.type), ("label", pa.int64())])
    shown = {inputs.COLUMN: {"_type": "Image"} if inputs.kind == "image" else {"_type": "Value", "dtype": str(column.type)}}
    features = {**shown, "label": {"names": list(classes), "_type": "ClassLabel"}}
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    written = _Written()
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False, write_statistics=False) as writer:
        for piece in _spans(rows, span):
            written.rows += len(piece.ids)
            written.span_digests.append(rows_digest(piece.ids, piece.stored))
            written.labels.update(piece.labels.astype("<i8").tobytes())
            for start, stop in _row_groups(piece.stored):
                group = piece.cut(start, stop)
                known = pa.array(group.labels, pa.int64(), mask=group.labels == UNLABELLED)
                columns = [pa.array(group.ids, pa.string()), inputs.column(group.stored), known]
                writer.write_batch(pa.record_batch(columns, schema=schema), row_group_size=stop - start)
        held = Facts(
            role=role, rows=written.rows, classes=tuple(classes), inputs=inputs, span=span,
            span_digests=tuple(written.span_digests), inputs_digest=inputs_digest(inputs, written.span_digests, excluded),
            labels_digest=written.labels.hexdigest(), excluded=tuple(excluded), folded=folded,
        )  # fmt: skip
        text = files.canonical_json({"version": FORMAT, **asdict(held)})
        writer.add_key_value_metadata({KEY: text, f"{KEY}_sha256": files.sha256(text)})


def _spans(pieces: Iterable[Rows], span: int) -> Iterator[Rows]:
    """The same rows in pieces of a span; the last one may be shorter."""
    held: Rows | None = None
    for piece in pieces:
        held = piece if held is None else held.joined(piece)
        whole = len(held.ids) // span * span
        for start in range(0, whole, span):
            yield held.cut(start, start + span)
        held = held.cut(whole, len(held.ids))
    if held is not None and len(held.ids):
        yield held


def _row_groups(stored: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    start, held = 0, 0
    for row, data in enumerate(stored):
        if row > start and held + len(data) > ROW_GROUP_BYTES:
            yield start, row
            start, held = row, 0
        held += len(data)
    yield start, len(stored)
