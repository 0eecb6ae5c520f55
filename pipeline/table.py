"""Tables: CSV for histories and whatever DVC plots, Parquet for results."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError


def to_csv(rows: Sequence[Mapping[str, object]], columns: Sequence[str] = ()) -> bytes:
    """Rows to CSV, a column for every key, after those that are there in any case.

    Floats keep every digit, so that equal results are equal bytes.
    """
    held = io.StringIO()
    writer = csv.DictWriter(held, list(dict.fromkeys((*columns, *(key for row in rows for key in row)))), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return held.getvalue().encode()


def to_parquet(rows: Sequence[Mapping[str, object]]) -> bytes:
    """Rows to Parquet, a column for every key of the first; None is null. Equal rows are equal bytes under one pyarrow."""
    held = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows)), held)
    return held.getvalue().to_pybytes()


def from_csv(path: Path, command: str) -> list[dict[str, str]]:
    """Rows of a CSV file that `command` writes, every value as text; raises InputError where there is no such file."""
    try:
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise InputError(str(path), expected="a table", found="none", fix=f"Run `softcache {command}`.") from error
