"""Texts: kept as they are, whatever they hold."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.data.inputs.text import Texts

ODD = ["", " ", "\n", "a\0b", "Zürich", "🙂", "e\u0301", "\ufeff", "x" * 100_000]


@pytest.mark.parametrize("text", ODD)
def test_a_text_stays_as_it_is(text):
    """No normal form, no white space cut off, no byte order mark taken away."""
    column = Texts.column(pa.array([text.encode()]))
    assert (column.type, column.to_pylist()) == (pa.string(), [text])
    assert Texts().read(Texts.stored(column), str).tolist() == [text]


def test_a_null_is_told():
    assert Texts.stored(pa.array(["a", None])) == [b"a", None]


@pytest.mark.parametrize(("mean", "size"), [(0, 1), (0.4, 1), (1, 1), (2, 2), (2.6, 4), (64.4, 64), (64.6, 128), (1000, 1024)])
def test_bytes_of_a_row_are_a_power_of_two(mean, size):
    """So that some more rows, with another mean length, leave spans as they are."""
    assert Texts().row_bytes(mean) == size


def test_facts():
    assert (Texts().shape, Texts().dtype, Texts() == Texts()) == ((), np.dtype(object), True)
