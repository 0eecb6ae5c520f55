"""Arrays: the numbers that were stored, of a dtype that torch computes with, and refusals of what is no number."""

import numpy as np
import pytest
import torch

from pipeline.base.errors import InputError
from pipeline.data.inputs.array import Arrays
from pipeline.data.inputs.form import DTYPES, Form
from pipeline.data.inputs.resizing import Resizing

ROWS = np.arange(12).reshape(2, 2, 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_come_back_in_a_dtype_that_torch_has(dtype):
    facts = Arrays.settle(Form("array", dtype, (2, 3)), {}, Resizing())
    stored = [row.astype(dtype).astype(np.dtype(dtype).newbyteorder("<")).tobytes() for row in ROWS]
    found = facts.read(stored, str)
    wider = {"uint16": "int32", "uint32": "int64", "uint64": "int64"}
    assert (facts.array_dtype, facts.dtype, found.dtype) == (dtype, wider.get(dtype, dtype), wider.get(dtype, dtype))
    assert found.tolist() == ROWS.tolist()
    assert torch.from_numpy(found).sum() == 66
    assert facts.row_bytes(0) == 6 * found.itemsize


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_the_largest_number_survives(dtype):
    largest = np.array([np.iinfo(dtype).max], dtype)
    assert Arrays(dtype, (1,)).read([largest.tobytes()], str).tolist() == [[int(largest[0])]]


def test_numbers_are_stored_little_endian_whatever_the_machine():
    assert Arrays("int16", (2,)).read([b"\x01\x00\x00\x01"], str).tolist() == [[1, 256]]
    assert Arrays("float32", (1,)).read([bytes.fromhex("0000803f")], str).tolist() == [[1.0]]


def test_what_is_read_can_be_written_to():
    """torch warns of memory that it may not write."""
    assert Arrays("float32", (1,)).read([bytes(4)], str).flags.writeable


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(("value", "name"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_the_first_number_that_is_not_finite_is_named(dtype, value, name):
    row = ROWS[0].astype(dtype)
    row[1, 0] = row[1, 2] = value
    with pytest.raises(InputError, match=rf"row 7: expected finite numbers, found {name} at \[1, 0\]"):
        Arrays.examine(Form("array", dtype, (2, 3)), row.tobytes(), "row 7")
    assert Arrays.examine(Form("array", dtype, (2, 3)), ROWS[0].astype(dtype).tobytes(), "row 7") is None


@pytest.mark.parametrize("size", [0, 1, 11, 13, 24])
def test_another_number_of_bytes(size):
    with pytest.raises(InputError, match=f"row 7: expected array of int16, 2×3, in 12 bytes, found {size} bytes"):
        Arrays.examine(Form("array", "int16", (2, 3)), bytes(size), "row 7")


def test_numbers_beyond_int64():
    form = Form("array", "uint64", (2,))
    assert Arrays.examine(form, np.array([0, 2**63 - 1], np.uint64).tobytes(), "row 7") is None
    with pytest.raises(InputError, match="row 7: expected numbers up to 9223372036854775807, found 9223372036854775808"):
        Arrays.examine(form, np.array([0, 2**63], np.uint64).tobytes(), "row 7")
