"""Kinds of input: each is all that the protocol asks for, and gives back what it stored."""

import inspect

import numpy as np
import pyarrow as pa
import pytest

from conftest import png
from pipeline.data.inputs.array import Arrays
from pipeline.data.inputs.form import Form
from pipeline.data.inputs.image import Images
from pipeline.data.inputs.kinds import KINDS, Kind
from pipeline.data.inputs.resizing import Resizing
from pipeline.data.inputs.text import Texts

PICTURES = [np.full((2, 3), shade, np.uint8) for shade in (7, 200)]
EXAMPLES = {  # a form, two rows of it as they are stored, the facts, and what is read of them
    "image": (Form("image"), [png(each) for each in PICTURES], Images("L", (1, 2, 3)), np.stack(PICTURES)[:, None]),
    "array": (
        Form("array", "int16", (2,)), [b"\1\0\2\0", b"\3\0\xff\xff"], Arrays("int16", (2,)),
        np.array([[1, 2], [3, -1]], np.int16),
    ),
    "text": (Form("text"), [b"one", "zwölf".encode()], Texts(), np.array(["one", "zwölf"], object)),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_it_has_what_the_protocol_asks_for(kind):
    members = [name for name in {**vars(Kind), **Kind.__annotations__} if not name.startswith("_")]
    assert len(members) == 10
    for name in members:
        found, wanted = getattr(KINDS[kind], name, None), getattr(Kind, name, None)
        if inspect.isfunction(wanted) or inspect.ismethod(wanted):
            assert list(inspect.signature(found).parameters) == list(inspect.signature(wanted).parameters), name
    facts = EXAMPLES[kind][2]
    assert (facts.kind, type(facts)) == (kind, KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_from_a_source_to_what_is_read(kind):
    form, stored, facts, rows = EXAMPLES[kind]
    seen = {KINDS[kind].examine(form, data, "it"): f"row {number}" for number, data in enumerate(stored)}
    assert KINDS[kind].settle(form, seen, Resizing()) == facts
    column = facts.column(pa.array(stored, pa.binary()))
    assert len(column) == 2
    assert facts.stored(column) == stored
    found = facts.read(facts.stored(column), str)
    assert (found.dtype, found.shape) == (facts.dtype, (2, *facts.shape))
    assert found.dtype == rows.dtype
    assert (found == rows).all()


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows_are_none(kind):
    facts = EXAMPLES[kind][2]
    assert facts.read([], str).shape == (0, *facts.shape)
    assert len(facts.column(pa.array([], pa.binary()))) == 0


@pytest.mark.parametrize("kind", ["image", "array"])
def test_bytes_of_a_row_in_memory(kind):
    facts, rows = EXAMPLES[kind][2:]
    assert facts.row_bytes(1e9) == rows[0].nbytes
