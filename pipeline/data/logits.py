"""Files of logits: rows of logits made elsewhere, with the ids of the rows that they are of, in Parquet or .npz."""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.base.errors import InputError
from pipeline.data.sources import arrays, columns, npz, parquet, paths, tensors
from pipeline.data.sources.arrays import Numbers
from pipeline.data.sources.source import rows_that_fit

ID, LOGITS, VIEW, SPLIT = "id", "logits", "view", "split"  # columns of a Parquet file
ARRAYS = {ID: "ids", LOGITS: "logits", VIEW: "views", SPLIT: "splits"}  # of an .npz file
_WHAT = "a Parquet file, or an .npz file by its ending"
_BUFFER_BYTES = 1 << 24  # of all columns of a Parquet file together
_PAGE_BYTES = 1 << 12  # of a column, at least


@dataclass(frozen=True)
class Batch:
    """Some rows of a file. ids: n. views: (n,) int64. logits: (n, classes) float32, in the order of the classes.

    splits: the name of each row's split, where the file says it.
    """

    ids: Sequence[str]
    views: np.ndarray
    splits: Sequence[str] | None
    logits: np.ndarray


@dataclass(frozen=True)
class LogitFile:
    """An opened file: its columns are known to be right. has_views, has_splits: whether it says of each row which it is."""

    path: Path
    has_views: bool
    has_splits: bool
    batches: Callable[[], Iterator[Batch]]

    @classmethod
    def open(cls, path: str, classes: Sequence[str]) -> "LogitFile":
        """Open a file; no row is read.

        A Parquet file has a column `id`, and either a column `logits` of lists of floats, in the order of the classes, or a
        column of floats for each class, of its name. It may have a column `view` of whole numbers, 0 where there is none, and
        a column `split` of strings. An .npz file has the arrays `ids` and `logits`, (n, classes), and may have `views` and
        `splits`.

        Args:
            path: The file.
            classes: The classes of the data.

        Returns:
            The file.

        Raises:
            InputError: It is another file or damaged, a column is missing or of another type, or the classes are others.
                Reading its batches raises it for a row without id, and for one of another number of logits.
        """
        file = paths.one(path, _WHAT)
        return _npz(file, classes) if file.suffix.lower() == ".npz" else _parquet(file, classes)


# ---------------------------------------------------------------- Parquet


def _parquet(path: Path, classes: Sequence[str]) -> LogitFile:
    with paths.reading(path, _WHAT), parquet.opened(path) as file:
        schema = file.schema_arrow
        there = list(schema.names)
        for name in {name for name in there if there.count(name) > 1} & {ID, LOGITS, VIEW, SPLIT, *classes}:
            raise InputError(f"{path}, column {name}", expected="each column once", found="it twice", fix="Rename one.")
        if ID not in there:
            found = ", ".join(there) or "no columns"
            raise InputError(str(path), expected=f"a column `{ID}`", found=found, fix="Name the column of ids so.")
        parquet.require_ids(schema.field(ID).type, f"{path}, column {ID}")
        lists = LOGITS in there and tensors.is_list(schema.field(LOGITS).type)
        _require_lists(schema, path, classes) if lists else _require_columns(schema, path, classes)
        for name, fits, wanted in ((VIEW, pa.types.is_integer, "whole numbers"), (SPLIT, _is_text, "strings")):
            if name in there and not fits(kind := schema.field(name).type):
                fix = "Write the column anew, or leave it out."
                raise InputError(f"{path}, column {name}", expected=wanted, found=str(kind), fix=fix)
    named = (LOGITS,) if lists else tuple(classes)
    batches = functools.partial(_parquet_batches, path, named, VIEW in there, SPLIT in there, len(classes))
    return LogitFile(path, VIEW in there, SPLIT in there, batches)


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _require_lists(schema: pa.Schema, path: Path, classes: Sequence[str]) -> None:
    """Raise InputError unless the column of lists holds floats, of these classes as far as the file says."""
    kind = schema.field(LOGITS).type
    plain = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    if not pa.types.is_floating(plain.value_type):
        fix = "Write one list of floats a row."
        raise InputError(f"{path}, column {LOGITS}", expected="lists of floats", found=str(kind), fix=fix)
    for label in columns.LABELS:
        names = parquet.class_names(schema.metadata, label, path)
        if names is not None and names != tuple(classes):
            fix = "Bring the logits into the order of the data's classes, with their names; or write a column for each class."
            raise InputError(f"{path}, class names", expected=", ".join(classes), found=", ".join(names), fix=fix)


def _require_columns(schema: pa.Schema, path: Path, classes: Sequence[str]) -> None:
    """Raise InputError unless there is a column of floats for each class, and no other column of floats."""
    floats = [field.name for field in schema if pa.types.is_floating(field.type)]
    if taken := [name for name in classes if name in (ID, VIEW, SPLIT)]:
        fix = f"Write the logits as lists, in a column `{LOGITS}`."
        raise InputError(str(path), expected="logits as lists", found=f"none, and a class that is called {taken[0]}", fix=fix)
    missing = [name for name in classes if name not in floats]
    others = [name for name in floats if name not in classes]
    if missing or others:
        told = [f"{len(missing):,} missing ({_some(missing)})"] * bool(missing)
        told += [f"{len(others):,} of no class ({_some(others)})"] * bool(others)
        expected = f"a column `{LOGITS}` of lists of floats, or one column of floats for each of {len(classes):,} classes"
        fix = "Name each column as the class is called in the data, and leave other floats out."
        raise InputError(str(path), expected=expected, found=", and ".join(told), fix=fix)


def _parquet_batches(path: Path, named: Sequence[str], has_views: bool, has_splits: bool, count: int) -> Iterator[Batch]:
    """named: the columns of logits."""
    wanted = [ID, *[VIEW] * has_views, *[SPLIT] * has_splits, *named]
    first = 0
    with paths.reading(path, _WHAT), parquet.opened(path, max(_PAGE_BYTES, _BUFFER_BYTES // len(wanted))) as file:
        for batch in file.iter_batches(rows_that_fit(count * 8), columns=wanted):
            ids = parquet.ids_of(batch.column(ID), f"{path}, column {ID}", first)
            views, splits = np.zeros(len(ids), np.int64), None
            for name in (VIEW, SPLIT):
                if name in wanted and batch.column(name).null_count:
                    row = np.flatnonzero(batch.column(name).is_null().to_numpy(zero_copy_only=False))[0]
                    fix = "Fill the column, or leave it out."
                    raise InputError(f"{path}, row {first + row} (id {ids[row]})", expected=f"a {name}", found="none", fix=fix)
            if has_views:
                views = batch.column(VIEW).to_numpy(zero_copy_only=False).astype(np.int64)
            if has_splits:
                splits = batch.column(SPLIT).to_pylist()
            if named == (LOGITS,) and tensors.is_list(batch.column(LOGITS).type):
                logits = _rows(batch.column(LOGITS), count, path, first, ids)
            else:
                logits = np.stack([_float32(batch.column(name)) for name in named], axis=1)
            yield Batch(ids, views, splits, logits)
            first += len(ids)


def _rows(column: pa.Array, count: int, path: Path, first: int, ids: Sequence[str]) -> np.ndarray:
    """Lists of floats as an array (n, count). A null among them is NaN."""
    values = column.storage if isinstance(column, pa.ExtensionArray) else column
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False)
    if len(bad := np.flatnonzero(lengths != count)):
        what = f"{path}, row {first + bad[0]} (id {ids[bad[0]]})"
        raise _other_classes(what, count, f"{lengths[bad[0]]:,}")
    return _float32(values.flatten()).reshape(len(values), count)


def _float32(column: pa.Array) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large becomes infinite, which is refused later
        numbers: np.ndarray = column.to_numpy(zero_copy_only=False).astype(np.float32)
    return numbers


# ---------------------------------------------------------------- .npz


def _npz(path: Path, classes: Sequence[str]) -> LogitFile:
    sizes = npz.members(path)
    for name in (ARRAYS[ID], ARRAYS[LOGITS]):
        if name not in sizes:
            there = ", ".join(sizes) or "none"
            raise InputError(str(path), expected=f"an array `{name}`", found=there, fix="Save it under this name.")
    found = {name: npz.array(path, array, sizes) for name, array in ARRAYS.items() if array in sizes}
    logits = found[LOGITS]
    if logits.dtype.kind != "f" or len(logits.shape) != 2:
        told = f"{logits.dtype.name}, ({', '.join(map(str, logits.shape))})"
        raise InputError(logits.name, expected="floats of the shape (n, classes)", found=told, fix="Save one row for each id.")
    if logits.shape[1] != len(classes):
        raise _other_classes(logits.name, len(classes), f"{logits.shape[1]:,}")
    for name, column in found.items():
        if name != LOGITS:
            arrays.require_column(column, logits.shape[0], names=name != VIEW)
    return LogitFile(path, VIEW in found, SPLIT in found, functools.partial(_npz_batches, found))


def _npz_batches(found: Mapping[str, Numbers]) -> Iterator[Batch]:
    rows = rows_that_fit(found[LOGITS].row_bytes)
    blocks = [found[name].blocks(rows) if name in found else itertools.repeat(None) for name in (ID, VIEW, SPLIT)]
    for ids, views, splits, logits in zip(*blocks, found[LOGITS].blocks(rows), strict=False):
        if ids is None or logits is None:
            return
        with np.errstate(over="ignore", invalid="ignore"):  # see _float32
            values = logits.astype(np.float32)
        yield Batch(
            [str(name) for name in ids.tolist()],
            np.zeros(len(ids), np.int64) if views is None else views.astype(np.int64),
            None if splits is None else splits.tolist(),
            values,
        )


# ---------------------------------------------------------------- messages


def _other_classes(what: str, count: int, found: str) -> InputError:
    fix = "Give one logit for each class of the data, in their order."
    return InputError(what, expected=f"{count:,} logits, one for each class", found=found, fix=fix)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
