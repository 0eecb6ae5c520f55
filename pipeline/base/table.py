"""Tables: Parquet files with typed columns for tables that are read again; CSV files for the plots of DVC."""

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
    """The columns of a NamedTuple: its fields. A _ at the end of a field, which avoids a Python keyword, is dropped."""
    return {name.rstrip("_"): _TYPES[(*get_args(hint), hint)[0]] for name, hint in get_type_hints(kind).items()}


def to_csv(records: Sequence[tuple[object, ...]], kind: type[tuple[object, ...]]) -> bytes:
    """Records as CSV. Floats keep all digits, so equal results give equal bytes. None is an empty cell."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([tuple(columns(kind)), *records])
    return buffer.getvalue().encode()


def to_parquet(records: Sequence[Mapping[str, object]], columns: Columns) -> bytes:
    """Records as Parquet; a missing value is null. Equal records give equal bytes under one version of pyarrow."""
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(records), pa.schema(list(columns.items()))), buffer)
    written: bytes = buffer.getvalue().to_pybytes()
    return written


def from_parquet(data: bytes, columns: Columns, what: str, fix: str) -> list[dict[str, Any]]:
    """The records in bytes from `to_parquet`; null becomes None. Raises IntegrityError, naming `what`, for other bytes."""
    expected = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    try:
        # without Arrow's threads: a process that ends soon after would be aborted by them
        found = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
        records: list[dict[str, Any]] = found.to_pylist()  # decodes the text, which may fail
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise IntegrityError(what, expected=expected, found=first_line(error), fix=fix) from error
    if dict(zip(found.schema.names, found.schema.types, strict=True)) != dict(columns):
        raise IntegrityError(what, expected=expected, found=", ".join(map(str, found.schema)), fix=fix)
    return records
