"""Tables: columns that follow from the fields of their rows, and bytes that hold every digit."""

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


def test_parquet_gives_back_what_it_was_given():
    columns = table.columns(Row)
    data = table.to_parquet([dict(zip(columns, row, strict=True)) for row in ROWS], columns)
    assert [Row(*row.values()) for row in table.from_parquet(data, columns, "it", "Mend it.")] == ROWS
    with pytest.raises(IntegrityError, match="it: expected class string, .* Mend it."):
        table.from_parquet(data, {"class": table.TEXT}, "it", "Mend it.")
