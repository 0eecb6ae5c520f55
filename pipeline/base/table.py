"""Tables: Parquet of typed columns, bound by a digest, for whoever reads them again; CSV for what DVC plots."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.base.errors import IntegrityError, first_line

TEXT, INTEGER, NUMBER, FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
Columns = Mapping[str, pa.DataType]
_TYPES = {str: TEXT, int: INTEGER, float: NUMBER, bool: FLAG}


def columns(kind: type[tuple[object, ...]]) -> Columns:
    """What columns rows of a NamedTuple have: its fields; a _ at the end of a name keeps it from being a word of Python."""
    return {name.rstrip("_"): _TYPES[(*get_args(hint), hint)[0]] for name, hint in get_type_hints(kind).items()}


def to_csv(rows: Sequence[tuple[object, ...]], kind: type[tuple[object, ...]]) -> bytes:
    """Rows to CSV. Floats keep every digit, so that equal results are equal bytes; None is empty."""
    held = io.StringIO()
    csv.writer(held, lineterminator="\n").writerows([tuple(columns(kind)), *rows])
    return held.getvalue().encode()


def to_parquet(rows: Sequence[Mapping[str, object]], columns: Columns) -> bytes:
    """Rows to Parquet; what a row lacks is null. Equal rows are equal bytes under one pyarrow."""
    held = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows), pa.schema(list(columns.items()))), held)
    written: bytes = held.getvalue().to_pybytes()
    return written


def from_parquet(data: bytes, columns: Columns, what: str, fix: str) -> list[dict[str, Any]]:
    """Rows of what `to_parquet` gave, null as None; raises IntegrityError, about `what`, for anything else."""
    expected = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    try:
        found = pq.ParquetFile(pa.BufferReader(data)).read()
        rows: list[dict[str, Any]] = found.to_pylist()  # only here is text decoded
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise IntegrityError(what, expected=expected, found=first_line(error), fix=fix) from error
    if dict(zip(found.schema.names, found.schema.types, strict=True)) != dict(columns):
        raise IntegrityError(what, expected=expected, found=", ".join(map(str, found.schema)), fix=fix)
    return rows
