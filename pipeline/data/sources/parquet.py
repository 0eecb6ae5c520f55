"""The source `parquet`: Parquet files in the layouts that Hugging Face datasets use."""

import functools
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.base import files
from pipeline.base.errors import InputError
from pipeline.base.facts import NOT_JSON
from pipeline.data.inputs.form import Form
from pipeline.data.sources import columns as chosen
from pipeline.data.sources import paths, tensors
from pipeline.data.sources.source import Chunk, Label, Source, SourcePart, chain, pieces, rows_that_fit, without_rows

_WHAT = "a Parquet file"
_FIRST_ROWS = 16  # that tell how large the others are
_BUFFER_BYTES = 1 << 20  # of a column; without a buffer, a row group is read as a whole
PART_BYTES = 64 << 20  # of row groups, uncompressed, that a part has at least


def parquet(path: str | list[str], input: str | None = None, label: str | None = None, id: str | None = None) -> Source:
    """Rows of Parquet files: images, texts or arrays.

        ingest: {train: "parquet('data/source/train-*.parquet', input='sentence', label='intent')"}

    An image is a struct whose `bytes` are those of an image file, or just these bytes; a text is a string; an array is a
    fixed-shape tensor, or a list, nested or not, of equal lengths.

    Args:
        path: A file, a folder or a glob of files, or a list of such. Files of a folder or glob are sorted by name.
        input: The column of inputs. None: the only one of image, img, text, sentence, array, input, features and x.
        label: The column of labels, whole numbers or names; null or -1 where unknown. None: `label`, `labels` or `y`, if there.
        id: The column of ids, whole numbers or strings. None: `id`, if there.

    Returns:
        The source. Its class names are those of a ClassLabel, in the schema metadata that Hugging Face datasets write.

    Raises:
        InputError: A file is no Parquet file, a column is missing or of another type, or files do not agree.
    """
    chosen.require_names("parquet", input=input, label=label, id=id)
    found = paths.several(path, ".parquet", _WHAT)
    agreed, first, size, parts = None, None, 0, []
    for file in found:
        with paths.reading(file, _WHAT), opened(file) as held:
            columns = _Columns.of(held.schema_arrow, file, input, label, id)
            size += sum(size_bytes for _, size_bytes in _groups(held))
            parts += [(file, *part) for part in _parts(held)]
            first = first or (file if held.metadata.num_rows else None)
        agreed = agreed or columns
        if columns != agreed:
            fix = "Give files of one layout."
            raise InputError(f"source {file}", expected=f"{agreed} as in {found[0]}", found=str(columns), fix=fix)
    if first is None or agreed is None:
        raise without_rows(f"source {path}")
    form = _form(first, agreed)
    read = tuple(
        SourcePart(rows, functools.partial(_chunks, file, groups, start, agreed, form)) for file, groups, start, rows in parts
    )
    return Source(
        form, functools.partial(chain, read), tuple(map(files.resolved, found)), size, agreed.classes,
        chosen.lacking(agreed.label), parts=read,
    )  # fmt: skip


# ---------------------------------------------------------------- columns


@dataclass(frozen=True)
class _Columns:
    """The columns that are read. kind: image, text, or what an array is made of. names: whether labels are names."""

    input: str
    kind: str
    label: str | None
    names: bool
    id: str | None
    classes: tuple[str, ...] | None

    @classmethod
    def of(cls, schema: pa.Schema, path: Path, input: str | None, label: str | None, id: str | None) -> "_Columns":
        """The columns of a file. Raises InputError for one that is missing, there twice, or of another type."""
        there, what = schema.names, f"source {path}"
        input, label, id = (
            chosen.input_of(there, input, what), chosen.label_of(there, label, what), chosen.id_of(there, id, what),
        )  # fmt: skip
        kind = _kind(schema.field(input).type, input, path)
        names = label is not None and _are_names(schema.field(label).type, f"{path}, column {label}")
        if id is not None:
            require_ids(schema.field(id).type, f"{path}, column {id}")
        classes = None if label is None or names else class_names(schema.metadata, label, path)
        return cls(input, kind, label, names, id, classes)

    def __str__(self) -> str:
        label = f", label {self.label} of {'names' if self.names else 'numbers'}" if self.label else ", no label"
        classes = f", classes {', '.join(self.classes)}" if self.classes else ""
        return f"input {self.input} of {self.kind}{label}, {f'id {self.id}' if self.id else 'no id'}{classes}"


def _kind(kind: pa.DataType, name: str, path: Path) -> str:
    """What a column of this type holds: image, text, or what its arrays are made of."""
    what = f"{path}, column {name}"
    if pa.types.is_struct(kind) or name in ("image", "img"):  # a string there is a path, which is not followed
        inner = kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
        if not _is_bytes(inner):
            fix = "Embed the images in the file."
            raise InputError(what, expected="a struct of bytes and path", found=str(kind), fix=fix)
        return "image"
    if _is_bytes(kind):
        return "image"
    if _is_text(kind):
        return "text"
    if not tensors.is_list(kind):
        fix = "Name another column, or write it anew."
        expected = "images (a struct of bytes and path), texts (strings) or arrays (fixed-shape tensors, lists of numbers)"
        raise InputError(what, expected=expected, found=str(kind), fix=fix)
    dtype = tensors.dtype_of(kind, what)
    return f"tensors of {dtype}, {list(kind.shape)}" if isinstance(kind, pa.FixedShapeTensorType) else f"lists of {dtype}"


def _are_names(kind: pa.DataType, what: str) -> bool:
    if not (pa.types.is_integer(kind) or _is_text(kind) or pa.types.is_null(kind)):
        raise InputError(what, expected="whole numbers or names", found=str(kind), fix="Write int64 or strings.")
    return _is_text(kind)


def require_ids(kind: pa.DataType, what: str) -> None:
    """Raise InputError, naming the column `what`, unless its type can hold ids."""
    if not (pa.types.is_integer(kind) or _is_text(kind)):
        raise InputError(what, expected="whole numbers or strings", found=str(kind), fix="Write int64 or strings.")


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def class_names(metadata: dict[bytes, bytes] | None, label: str, path: Path) -> tuple[str, ...] | None:
    """Class names from the schema metadata, where Hugging Face datasets keep them; None if there are none."""
    try:
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, *NOT_JSON):
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        fix = "Correct the schema metadata, or remove it to number the classes."
        raise InputError(f"{path}, class names", expected="a list of different strings", found=repr(names)[:80], fix=fix)
    return tuple(names)


# ---------------------------------------------------------------- rows


def opened(path: Path, buffer_bytes: int = _BUFFER_BYTES) -> pq.ParquetFile:
    """A file whose row groups are read bit by bit. buffer_bytes: of each column."""
    return pq.ParquetFile(path, buffer_size=buffer_bytes, pre_buffer=False)


def _groups(file: pq.ParquetFile) -> Iterator[tuple[int, int]]:
    """For each row group, its rows and their bytes, uncompressed, of all columns: a damaged column's facts end the process."""
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        yield group.num_rows, group.total_byte_size


def _parts(file: pq.ParquetFile) -> Iterator[tuple[range, int, int]]:
    """A file's row groups in parts that have rows, each with the number of its first row, and of its rows."""
    first_group, start, rows, size = 0, 0, 0, 0
    for number, (count, size_bytes) in enumerate(_groups(file)):
        rows, size = rows + count, size + size_bytes
        if rows and (size >= PART_BYTES or number == file.metadata.num_row_groups - 1):
            yield range(first_group, number + 1), start, rows
            first_group, start, rows, size = number + 1, start + rows, 0, 0


def _form(path: Path, columns: _Columns) -> Form:
    """What the rows are; the lengths of lists are those of the first row."""
    if columns.kind in ("image", "text"):
        return Form(columns.kind)
    with paths.reading(path, _WHAT), opened(path) as file:
        batch = next(file.iter_batches(1, columns=[columns.input]), None)
        if batch is None:
            raise ValueError("rows in its footer, and none before it")
    column = batch.column(0)
    shape = tensors.shape_of(column, lambda row: f"{path}, row {row}")
    return Form("array", tensors.dtype_of(column.type, str(path)), shape)


def _chunks(path: Path, groups: range, first: int, columns: _Columns, form: Form, with_inputs: bool) -> Iterator[Chunk]:
    """The rows of some row groups. first: the number of the first row."""
    named = [name for name in (columns.id, columns.label, columns.input if with_inputs else None) if name is not None]
    with paths.reading(path, _WHAT), opened(path) as file:
        rows = rows_that_fit(_row_bytes(file, columns.input, form) if with_inputs else 1)
        for batch in file.iter_batches(rows, row_groups=groups, columns=named):
            yield from _of_batch(batch, path, first, columns, form, with_inputs)
            first += len(batch)


def _row_bytes(file: pq.ParquetFile, column: str, form: Form) -> int:
    """About how much the input of a row takes in memory.

    The footer tells how much it takes in the file, where equal values may be held once: so some rows are read to see.
    """
    if form.kind == "array":
        return math.prod(form.shape or ()) * np.dtype(form.dtype).itemsize
    packed = max((size // rows for rows, size in _groups(file) if rows), default=1)
    some = next(file.iter_batches(_FIRST_ROWS, columns=[column]), None)
    return packed if some is None else max(packed, int(some.nbytes) // max(1, len(some)))


def _of_batch(
    batch: pa.RecordBatch, path: Path, first: int, columns: _Columns, form: Form, with_inputs: bool
) -> Iterator[Chunk]:
    """A batch as one chunk, or as several where its inputs take more bytes than one may hold. first: its first row."""
    ids = None if columns.id is None else ids_of(batch.column(columns.id), f"{path}, column {columns.id}", first)
    labels: list[Label] = [None] * len(batch) if columns.label is None else _decoded(batch.column(columns.label)).to_pylist()
    column = batch.column(columns.input) if with_inputs else None
    own = column.field("path") if column is not None and _has_path(column.type) else None

    def place(row: int) -> str:
        inner = own[row].as_py() if own is not None else None
        told = ([f"id {ids[row]}"] if ids is not None else []) + ([f"path {inner}"] if inner else [])
        return f"{path}, row {first + row}" + (f" ({', '.join(told)})" if told else "")

    if column is None:
        yield Chunk(ids, (), labels, place)
        return
    inputs = _inputs(column, form, place)
    for part in pieces([len(data) for data in inputs]):
        yield Chunk(
            None if ids is None else ids[part], inputs[part], labels[part], functools.partial(_moved, place, part.start)
        )


def _moved(place: Callable[[int], str], start: int, row: int) -> str:
    return place(start + row)


def _inputs(column: pa.Array, form: Form, place: Callable[[int], str]) -> list[bytes]:
    if form.kind == "array":
        return tensors.arrays(column, form, place)
    if form.kind == "text":
        values, lacking, fix = _utf8(_decoded(column), place), "a text", "Fill the row, or leave it out."
    else:
        values = column.field("bytes") if pa.types.is_struct(column.type) else column
        lacking, fix = "image bytes", "Embed the images in the file."
    if values.null_count:
        row = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
        raise InputError(place(row), expected=lacking, found="none", fix=fix)
    held: list[bytes] = values.to_pylist()
    return held


def _utf8(column: pa.Array, place: Callable[[int], str]) -> pa.Array:
    """Strings as bytes. Raises InputError, by the row, for what is no UTF-8: Parquet files are not held to it."""
    values = column.cast(pa.large_binary() if pa.types.is_large_string(column.type) else pa.binary())
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        for row, data in enumerate(values.to_pylist()):
            try:
                (data or b"").decode()
            except UnicodeDecodeError as error:
                raise InputError(place(row), expected="UTF-8", found=str(error), fix="Write the texts anew.") from error
        raise
    return values


def ids_of(column: pa.Array, what: str, first: int) -> list[str]:
    """The ids in a column of them. what: the column. first: its first row. Raises InputError where there is none."""
    if column.null_count:
        row = first + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise InputError(what, expected="an id in every row", found=f"none in row {row}", fix="Fill the column, or drop it.")
    return [str(name) for name in _decoded(column).to_pylist()]


def _decoded(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column


def _has_path(kind: pa.DataType) -> bool:
    return bool(pa.types.is_struct(kind) and kind.get_field_index("path") >= 0)
