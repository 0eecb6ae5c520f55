"""Tensors in Arrow: fixed-shape tensors and nested lists of equal lengths, as the bytes of arrays."""

import math
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.base.errors import InputError
from pipeline.data.sources.source import DTYPES, Form

_DTYPES = {"halffloat": "float16", "float": "float32", "double": "float64"}  # Arrow's names; integers have numpy's


def is_list(kind: pa.DataType) -> bool:
    """Whether a type is a list of any kind, or a fixed-shape tensor."""
    return isinstance(kind, pa.FixedShapeTensorType) or _nests(_storage(kind))


def dtype_of(kind: pa.DataType, what: str) -> str:
    """The dtype of the numbers in a list type. Raises InputError, which names `what`, for what is no array."""
    if isinstance(kind, pa.FixedShapeTensorType) and kind.permutation not in (None, list(range(len(kind.shape)))):
        found, fix = f"a permutation {kind.permutation}", "Write the tensors in C order."
        raise InputError(what, expected="tensors in C order", found=found, fix=fix)
    inner = _storage(kind)
    while _nests(inner):
        inner = inner.value_type
    dtype = _DTYPES.get(str(inner), str(inner))
    if dtype not in DTYPES:
        fix = "Write them as float32." if dtype == "float64" else "Write numbers of such a type."
        raise InputError(what, expected=f"numbers of {', '.join(DTYPES)}", found=dtype, fix=fix)
    return dtype


def shape_of(column: pa.Array, place: Callable[[int], str]) -> tuple[int, ...]:
    """The shape that every row is to have: a tensor's own, else that of the column's first row."""
    if isinstance(column.type, pa.FixedShapeTensorType):
        return tuple(column.type.shape)
    values, shape = _plain(column).slice(0, 1), []
    while _nests(values.type):
        if values.null_count:
            raise _null(place(0))
        shape.append(pc.list_value_length(values)[0].as_py())
        if not shape[-1]:
            raise InputError(place(0), expected="an array of one number or more", found="an empty list", fix="Correct the row.")
        values = values.flatten().slice(0, 1)
    return tuple(shape)


def arrays(column: pa.Array, form: Form, place: Callable[[int], str]) -> list[bytes]:
    """Each row's numbers, little-endian, in C order.

    column: (N,) lists or tensors of the form's dtype. place: what row i is called.
    Raises InputError for a null, and for lists that do not have the form's shape, by the row.
    """
    values, per_row, shape = _plain(column), 1, form.shape or ()
    is_tensor = isinstance(column.type, pa.FixedShapeTensorType)  # whose numbers are one list
    for length in (math.prod(shape),) if is_tensor else shape:
        if values.null_count:
            raise _null(place(_first(values.is_null()) // per_row))
        lengths = pc.list_value_length(values).to_numpy(zero_copy_only=False)
        if len(bad := np.flatnonzero(lengths != length)):
            expected, found = f"an {form} as in the first row", f"a list of {lengths[bad[0]]} where that has {length}"
            fix = "Bring all rows to one shape."
            raise InputError(place(int(bad[0]) // per_row), expected=expected, found=found, fix=fix)
        values, per_row = values.flatten(), per_row * length
    if values.null_count:
        raise _null(place(_first(values.is_null()) // per_row))
    numbers = values.to_numpy(zero_copy_only=False)
    data, size = numbers.astype(numbers.dtype.newbyteorder("<"), copy=False).tobytes(), per_row * numbers.itemsize
    return [data[start : start + size] for start in range(0, len(data), size)]


def _first(mask: pa.Array) -> int:
    return int(np.flatnonzero(mask.to_numpy(zero_copy_only=False))[0])


def _null(place: str) -> InputError:
    return InputError(place, expected="numbers", found="null", fix="Fill the row, or leave it out.")


def _plain(column: pa.Array) -> pa.Array:
    return column.storage if isinstance(column, pa.ExtensionArray) else column


def _storage(kind: pa.DataType) -> pa.DataType:
    """The type that an extension type, such as the arrays of Hugging Face datasets, is stored as."""
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _nests(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
