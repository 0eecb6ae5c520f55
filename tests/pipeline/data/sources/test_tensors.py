"""Tensors in Arrow, as bytes; the files that hold them are in test_parquet.py."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.base.errors import InputError
from pipeline.data.sources import tensors
from pipeline.data.sources.source import Form

NUMBERS = np.arange(60, dtype=np.int16).reshape(5, 4, 3)
LISTS = pa.array(NUMBERS.tolist(), pa.list_(pa.list_(pa.int16())))


@pytest.mark.parametrize("column", [LISTS, pa.FixedShapeTensorArray.from_numpy_ndarray(NUMBERS)], ids=["lists", "tensors"])
def test_slices_begin_at_an_offset(column):
    part = column[2:4]
    form = Form("array", tensors.dtype_of(part.type, "it"), tensors.shape_of(part, str))
    assert form == Form("array", "int16", (4, 3))
    assert tensors.arrays(part, form, str) == [row.astype("<i2").tobytes() for row in NUMBERS[2:4]]


def test_the_row_of_a_fault_in_the_depth():
    """Of 5·4·3 numbers the one at (3, 2, 1) is missing, or its list is shorter."""
    for fault in ([0, None, 0], [0, 1], None):
        rows = NUMBERS.tolist()
        rows[3][2] = fault
        with pytest.raises(InputError, match="^row 3: expected"):
            tensors.arrays(pa.array(rows, LISTS.type), Form("array", "int16", (4, 3)), "row {}".format)


def test_what_is_a_list():
    fixed = pa.fixed_shape_tensor(pa.int8(), (2,))
    assert all(tensors.is_list(kind) for kind in (LISTS.type, pa.large_list(pa.int8()), pa.list_(pa.int8(), 2), fixed))
    assert not any(tensors.is_list(kind) for kind in (pa.int8(), pa.string(), pa.struct([("a", pa.int8())])))
