"""The source `csv`: texts in a table with named columns."""

import functools
import re
from collections.abc import Iterator
from csv import Error, field_size_limit, reader
from dataclasses import dataclass
from pathlib import Path

from pipeline.base import files
from pipeline.base.errors import InputError
from pipeline.data.inputs.form import Form
from pipeline.data.sources import columns, lines, paths
from pipeline.data.sources.source import Chunk, Label, Source, chunked

_WHAT = "a CSV file"
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})")  # that fits int64; 007 is a name


def csv(path: str, text: str = "text", label: str | None = None, id: str | None = None, delimiter: str = ",") -> Source:
    """Texts of a CSV file in UTF-8 whose first row names the columns.

        ingest: {train: "csv('data/source/train.csv', text='question', label='intent')"}

    Cells may be quoted (RFC 4180), and then hold line breaks. Labels are numbers if all that are not empty are whole numbers,
    written as such; else all are names. The file is read once more to find out. Whole numbers of the training split are names
    too unless they are 0, 1, 2, … without a gap.

    Args:
        path: The file; it may be packed as .csv.gz.
        text: The column of texts.
        label: The column of labels; an empty cell is an unknown label. None: `label`, `labels` or `y`, if there.
        id: The column of ids. None: `id`, if there.
        delimiter: What stands between cells: one character.

    Returns:
        The source.

    Raises:
        InputError: A column is missing or there twice, a row has more or fewer cells than the first, or is no UTF-8.
    """
    columns.require_names("csv", text=text, label=label, id=id)
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n':
        fix = "Write for example delimiter=';'."
        raise InputError("source csv, setting delimiter", expected="one character", found=repr(delimiter), fix=fix)
    file = paths.one(path, _WHAT)
    table = _Table.of(file, delimiter, text, label, id)
    chunks = functools.partial(_chunks, table, functools.cache(table.has_numbers))
    lacks = "" if table.label is not None else columns.lacking(None)
    return Source(Form("text"), chunks, (files.resolved(file),), lines.size_bytes(file), written=True, unlabelled=lacks)


@dataclass(frozen=True)
class _Table:
    """The columns that are read, by their numbers. width: of all columns."""

    path: Path
    delimiter: str
    width: int
    text: int
    label: int | None
    id: int | None

    @classmethod
    def of(cls, path: Path, delimiter: str, text: str, label: str | None, id: str | None) -> "_Table":
        """From the first row. Raises InputError for a column that is missing or there twice."""
        header = next(_cells(path, delimiter), (0, []))[1]
        what = f"source {path}"
        try:
            labelled, named = columns.label_of(header, label, what), columns.id_of(header, id, what)
            number = header.index(columns.input_of(header, text, what))
        except InputError as error:
            fix = f"{error.fix} Or say what stands between cells, such as delimiter=';'; here it is {delimiter!r}."
            raise InputError(what, expected=error.expected, found=error.found, fix=fix) from error
        at = [None if name is None else header.index(name) for name in (labelled, named)]
        return cls(path, delimiter, len(header), number, at[0], at[1])

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Each row's cells, with the number of the line that it ends in."""
        cells = _cells(self.path, self.delimiter)
        next(cells, None)
        for line, row in cells:
            if len(row) != self.width:
                expected = f"{self.width} cells as in the first line"
                fix = "Correct the line; put quotes around cells that hold the delimiter."
                raise InputError(f"{self.path}, line {line}", expected=expected, found=str(len(row)), fix=fix)
            yield line, row

    def has_numbers(self) -> bool:
        """Whether all labels are whole numbers. Reads up to the first that is none."""
        return self.label is None or all(_NUMBER.fullmatch(row[self.label] or "0") for _, row in self.rows())


def _cells(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The cells of each row, with the number of the line that it ends in; empty lines are left out."""
    field_size_limit(lines.LONGEST_BYTES)  # Python's own limit, 131,072 characters, is less than a long text has
    rows = reader(lines.lines(path, _WHAT), delimiter=delimiter, strict=True)
    try:
        for row in rows:
            if row:
                yield rows.line_num, row
    except Error as error:
        fix = "Correct the line: quotes within a quoted cell are doubled."
        raise InputError(f"{path}, line {rows.line_num}", expected="cells of CSV", found=str(error), fix=fix) from error


def _chunks(table: _Table, has_numbers: "functools._lru_cache_wrapper[bool]", with_inputs: bool) -> Iterator[Chunk]:
    return chunked(_rows(table, has_numbers(), with_inputs), lambda line: f"{table.path}, line {line}")


def _rows(table: _Table, numbers: bool, with_inputs: bool) -> Iterator[tuple[str | None, bytes | None, Label, int]]:
    for line, row in table.rows():
        written = row[table.label] if table.label is not None else ""
        label = None if not written else int(written) if numbers else written
        name = None if table.id is None else row[table.id]
        yield name, row[table.text].encode() if with_inputs else None, label, line
