"""Tables: columns follow from the fields of their rows; every digit of every float; nothing else accepted."""

import csv
import io
import math
import struct
from typing import NamedTuple

import pytest

from pipeline.base import table
from pipeline.base.errors import IntegrityError


class Row(NamedTuple):
    class_: str
    count: int | None
    share: float
    whole: bool | None


ROWS = [Row("a, b", 1, 0.1, True), Row('"', None, 1e-05, None), Row("é", -(2**63), 4.0, False), Row("", 0, 1 / 3, None)]


def test_columns_are_the_fields():
    assert table.columns(Row) == {
        "class": table.TEXT, "count": table.INTEGER, "share": table.NUMBER, "whole": table.FLAG,
    }  # fmt: skip


def test_csv_has_every_digit_and_nothing_for_none():
    assert table.to_csv(ROWS, Row).decode() == (
        'class,count,share,whole\n"a, b",1,0.1,True\n"""",,1e-05,\né,-9223372036854775808,4.0,False\n,0,0.3333333333333333,\n'
    )


COLUMNS = {"name": table.TEXT, "count": table.INTEGER, "share": table.NUMBER, "lost": table.FLAG}
FLOATS = [0.1, 1 / 3, 2**-1074, 1.7976931348623157e308, 0.1 + 0.2, -0.0, 1e22, math.pi, 5e-324, 1.0]


class Share(NamedTuple):
    share: float


def read(data: bytes, columns: table.Columns = COLUMNS) -> list[dict]:
    return table.from_parquet(data, columns, "it", "Mend it.")


def bits(values: list[float]) -> bytes:
    return struct.pack(f"{len(values)}d", *values)


def test_floats_keep_every_digit():
    rows = [{"share": value} for value in FLOATS]
    assert bits([row["share"] for row in read(table.to_parquet(rows, COLUMNS))]) == bits(FLOATS)
    text = table.to_csv([Share(value) for value in FLOATS], Share).decode()
    assert bits([float(row["share"]) for row in csv.DictReader(io.StringIO(text))]) == bits(FLOATS)


def test_whole_numbers_of_64_bits():
    rows = [{"count": value} for value in (2**63 - 1, -(2**63), 2**53 + 1)]
    assert [row["count"] for row in read(table.to_parquet(rows, COLUMNS))] == [2**63 - 1, -(2**63), 2**53 + 1]


def test_what_a_row_lacks_is_null():
    rows = [{"name": 'é, "x"\n', "lost": False}, {}]
    assert read(table.to_parquet(rows, COLUMNS)) == [
        {"name": "é, \"x\"\n", "count": None, "share": None, "lost": False}, dict.fromkeys(COLUMNS),
    ]  # fmt: skip
    assert read(table.to_parquet([], COLUMNS)) == []


def test_equal_rows_are_equal_bytes():
    rows = [{"name": "x", "share": 0.5}, {"count": 3}]
    assert table.to_parquet(rows, COLUMNS) == table.to_parquet([dict(reversed(row.items())) for row in rows], COLUMNS)


@pytest.mark.parametrize(
    "columns",
    [
        {**COLUMNS, "more": table.TEXT},
        {key: kind for key, kind in COLUMNS.items() if key != "lost"},
        {**COLUMNS, "count": table.NUMBER},
        {**COLUMNS, "share": table.INTEGER},
        {("other" if key == "name" else key): kind for key, kind in COLUMNS.items()},
    ],
    ids=["more", "less", "number", "integer", "name"],
)
def test_other_columns_are_refused(columns):
    with pytest.raises(
        IntegrityError, match="^it: expected name string, count int64, share double, lost bool, found .*Mend it"
    ):
        read(table.to_parquet([], columns))


@pytest.mark.parametrize("cut", [lambda data: b"", lambda data: data[:-1], lambda data: data[4:], lambda data: b"x" * 100])
def test_what_is_no_table_is_refused(cut):
    with pytest.raises(IntegrityError, match="it: expected name string"):
        read(cut(table.to_parquet([{"name": "x"}], COLUMNS)))


def test_arrow_starts_no_threads_of_its_own(monkeypatch):
    """They would abort a process that ends soon after."""
    kept = []
    plain = table.pq.ParquetFile.read
    monkeypatch.setattr(
        table.pq.ParquetFile, "read", lambda file, *given, **more: kept.append(more) or plain(file, *given, **more)
    )
    read(table.to_parquet([{"name": "x"}], COLUMNS))
    assert kept == [{"use_threads": False}]
