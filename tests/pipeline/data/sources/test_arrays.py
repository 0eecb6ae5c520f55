"""Numbers in a binary file."""

import functools
import io

import numpy as np
import pytest
from PIL import Image

from pipeline.base.errors import InputError
from pipeline.data.sources import arrays
from pipeline.data.sources.source import Form


def numbers(tmp_path, values, *, shape=None, name="it"):
    """An array as a file without a header; of another shape than it has, if asked for."""
    path = tmp_path / f"{name}.raw"
    path.write_bytes(values.tobytes())
    return arrays.Numbers(path, name, values.dtype, shape or values.shape, functools.partial(open, path, "rb"))


def test_blocks_are_the_array(tmp_path):
    values = np.arange(70, dtype=">i2").reshape(10, 7)
    blocks = list(numbers(tmp_path, values).blocks(4))
    assert [len(block) for block in blocks] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate(blocks), values)
    assert (numbers(tmp_path, values).row_bytes, numbers(tmp_path, values).size_bytes) == (14, 140)


@pytest.mark.parametrize(("rows", "found"), [(11, "an end in row 10"), (9, "more bytes"), (2**40, "an end in row 10")])
def test_a_file_of_another_length(tmp_path, rows, found):
    values = np.arange(70, dtype=np.int16).reshape(10, 7)
    with pytest.raises(InputError, match=f"it: expected {rows:,} rows, found {found}. Copy the file anew"):
        list(numbers(tmp_path, values, shape=(rows, 7)).blocks(4))


@pytest.mark.parametrize(
    ("dtype", "shape", "form"),
    [
        ("uint8", (2, 3, 4), Form("array", "uint8", (3, 4))),
        (">f4", (2, 1), Form("array", "float32", (1,))),
        ("<f2", (2, 3), Form("array", "float16", (3,))),
    ],
)
def test_forms_of_arrays(tmp_path, dtype, shape, form):
    assert arrays.form_of(numbers(tmp_path, np.zeros(shape, dtype)), image=False) == form


@pytest.mark.parametrize(
    ("dtype", "shape", "image", "message"),
    [
        ("float64", (2, 3), False, "it: expected numbers of float32, .*, found float64, \\(2, 3\\). Save them as float32"),
        ("bool", (2, 3), False, "found bool, .* Save numbers of such a type"),
        ("<U3", (2, 3), False, "found str96"),
        ("int8", (2,), False, "expected an array \\(N, …\\) of rows that are arrays, found int8, \\(2\\)"),
        ("int8", (2, 0), False, "expected an array"),
        ("int8", (0, 3), False, "it: expected rows, found none"),
        ("int8", (2, 3, 3), True, "expected images as uint8 of the shape .* found int8, \\(2, 3, 3\\)"),
        ("uint8", (2, 3, 3, 2), True, "expected images as uint8 of the shape"),
        ("uint8", (2, 3), True, "expected images as uint8 of the shape"),
        ("uint8", (2, 0, 3), True, "expected images as uint8 of the shape"),
    ],
)
def test_what_has_no_form(tmp_path, dtype, shape, image, message):
    with pytest.raises(InputError, match=message):
        arrays.form_of(numbers(tmp_path, np.zeros(shape, dtype)), image=image)


@pytest.mark.parametrize(("dtype", "shape"), [("float32", (3,)), ("int8", (2,)), ("int8", (3, 1)), ("<U2", (3,))])
def test_columns_of_another_kind(tmp_path, dtype, shape):
    with pytest.raises(InputError, match="it: expected whole numbers of the shape \\(3,\\), found"):
        arrays.require_column(numbers(tmp_path, np.zeros(shape, dtype)), 3, names=False)


def test_rows_with_labels_and_ids(tmp_path):
    """Big-endian numbers become little-endian; 1,500 rows come in two chunks."""
    values = np.arange(4500, dtype=">f4").reshape(1500, 3)
    labels, ids = np.arange(1500, dtype=">i4"), np.array([f"é{row}" for row in range(1500)])
    parts = [numbers(tmp_path, *each) for each in ((values,),)]
    parts += [numbers(tmp_path, labels, name="labels"), numbers(tmp_path, ids, name="ids")]
    arrays.require_column(parts[2], 1500, names=True)
    found = list(arrays.chunks(*parts, arrays.form_of(parts[0], image=False), True))
    assert [len(chunk.labels) for chunk in found] == [1024, 476]
    assert [data for chunk in found for data in chunk.inputs] == [row.astype("<f4").tobytes() for row in values]
    assert [label for chunk in found for label in chunk.labels] == labels.tolist()
    assert [name for chunk in found for name in chunk.ids] == ids.tolist()
    assert found[1].place(6) == "it, row 1030"


def test_pixels_become_images(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), np.uint8)
    read = [np.asarray(Image.open(io.BytesIO(data))) for data in arrays.encoded(pixels, Form("image"))]
    np.testing.assert_array_equal(np.stack(read), pixels)
