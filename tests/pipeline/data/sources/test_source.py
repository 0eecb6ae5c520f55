"""A source's parts: forms, and chunks of bounded size."""

import numpy as np
import pytest

from pipeline.base.errors import InputError
from pipeline.data.sources import source
from pipeline.data.sources.source import Form, chunked, pieces, rows_that_fit

MB = 1 << 20


def test_forms_in_words():
    assert [str(form) for form in (Form("image"), Form("array", "float16", (20, 40)))] == ["image", "array of float16, 20×40"]


@pytest.mark.parametrize(
    "facts",
    [
        ("sound",),
        ("image", "uint8", (3,)),
        ("array",),
        ("array", "float64", (3,)),
        ("array", "uint8", ()),
        ("array", "int8", (0,)),
    ],
)
def test_forms_that_there_are_not(facts):
    with pytest.raises(InputError, match="form of a source: expected image, text, or array with a dtype of float32, float16"):
        Form(*facts)


def test_pieces_hold_eight_megabytes_or_one_input():
    sizes = [3 * MB, 3 * MB, 3 * MB, 20 * MB, 1, 8 * MB, 0, 0]
    assert [(part.start, part.stop) for part in pieces(sizes)] == [(0, 2), (2, 3), (3, 4), (4, 5), (5, 8)]


def test_pieces_hold_a_number_of_rows():
    assert [(part.start, part.stop) for part in pieces(np.ones(2500, int))] == [(0, 1024), (1024, 2048), (2048, 2500)]
    assert list(pieces([])) == []


def test_rows_are_gathered_into_such_chunks():
    data = [bytes(3 * MB), bytes(3 * MB), bytes(3 * MB), bytes(20 * MB), b"x"]
    chunks = list(chunked(((f"r{row}", each, row, row) for row, each in enumerate(data)), "row {}".format))
    assert [[len(each) for each in chunk.inputs] for chunk in chunks] == [[3 * MB] * 2, [3 * MB], [20 * MB], [1]]
    assert [list(chunk.ids) for chunk in chunks] == [["r0", "r1"], ["r2"], ["r3"], ["r4"]]
    assert [chunk.place(0) for chunk in chunks] == ["row 0", "row 2", "row 3", "row 4"]


def test_an_index_has_no_inputs():
    chunks = list(chunked(((None, None, None, row) for row in range(1500)), str))
    assert [(chunk.ids, chunk.inputs, len(chunk.labels)) for chunk in chunks] == [(None, (), 1024), (None, (), 476)]
    assert chunks[1].place(3) == "1027"


def test_rows_that_fit_a_chunk():
    assert [rows_that_fit(size) for size in (0, 1, MB, 3 * MB, 9 * MB)] == [1024, 1024, 8, 2, 1]
    assert (source.CHUNK_ROWS, source.CHUNK_BYTES) == (1024, 8 * MB)
