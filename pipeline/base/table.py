"""Tables: Parquet of typed columns, bound by a digest, for whoever reads them again; CSV for what DVC plots."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.base.errors import IntegrityError, first_line

TEXT, INTEGER, NUMBER, FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
Columns = Mapping[str, pa.DataType]


def to_csv(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> bytes:
    """Rows to CSV. Floats keep every digit, so that equal results are equal bytes; None is empty."""
    held = io.StringIO()
    writer = csv.DictWriter(held, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return held.getvalue().encode()


def to_parquet(rows: Sequence[Mapping[str, object]], columns: Columns) -> bytes:
    """Rows to Parquet; what a row lacks is null. Equal rows are equal bytes under one pyarrow."""
    held = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows), pa.schema(list(columns.items()))), held)
    return held.getvalue().to_pybytes()


def from_parquet(data: bytes, columns: Columns, what: str, fix: str) -> list[dict[str, Any]]:
    """Rows of what `to_parquet` gave, null as None; raises IntegrityError, about `what`, for anything else."""
    expected = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    try:
        found = pq.ParquetFile(pa.BufferReader(data)).read()
        rows = found.to_pylist()  # only here is text decoded
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise IntegrityError(what, expected=expected, found=first_line(error), fix=fix) from error
    if dict(zip(found.schema.names, found.schema.types, strict=True)) != dict(columns):
        raise IntegrityError(what, expected=expected, found=", ".join(map(str, found.schema)), fix=fix)
    return rows
