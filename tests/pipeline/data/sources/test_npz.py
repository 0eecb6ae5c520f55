"""NumPy's files."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from pipeline.data.sources.source import Form
from reading import read, refused

X = np.arange(5 * 2 * 3, dtype=np.float32).reshape(5, 2, 3)


def save(path, **arrays):
    (np.savez_compressed if "packed" in path.name else np.savez)(path, **arrays)
    return str(path)


@pytest.mark.parametrize("name", ["plain.npz", "packed.npz"])
def test_arrays_labels_and_ids(tmp_path, name):
    path = save(tmp_path / name, x=X, y=np.array([0, 1, 2, -1, 1], np.int16), id=np.array(["a", "ä", "c", "d", ""]), more=X[:1])
    found = read(path, "train")
    assert (found.source.form, found.source.size_bytes) == (Form("array", "float32", (2, 3)), 120)
    assert found.inputs == [row.tobytes() for row in X]
    assert (found.labels, found.ids) == ([0, 1, 2, None, 1], ["a", "ä", "c", "d", ""])
    assert found.places[2] == f"{path}, array x, row 2"
    assert found.source.files == ((tmp_path / name).resolve(),)


def test_named_arrays_and_names_as_labels(tmp_path):
    path = save(tmp_path / "x.npz", x_train=X, y_train=np.array(["b", "a", "b", "ü", "b"]), x=X[:1], number=np.arange(5))
    found = read(f"npz({path!r}, input='x_train', label='y_train', id='number')")
    assert (found.labels, found.ids, found.source.classes) == (["b", "a", "b", "ü", "b"], list("01234"), None)


def test_numbers_in_another_order_of_bytes(tmp_path):
    found = read(save(tmp_path / "x.npz", x=X.astype(">f4"), y=np.arange(5, dtype=">u8")))
    assert found.inputs == [row.astype("<f4").tobytes() for row in X]
    assert found.labels == [0, 1, 2, 3, 4]


def test_more_rows_than_a_chunk(tmp_path):
    values = np.arange(2500 * 3).astype(np.int32).reshape(2500, 3)
    found = read(save(tmp_path / "packed.npz", x=values, y=np.arange(2500)))
    assert (found.sizes, found.labels) == ([1024, 1024, 452], list(range(2500)))
    assert found.inputs == [row.tobytes() for row in values]
    large = np.zeros((5, 3, 1 << 20), np.uint8)
    assert read(save(tmp_path / "packed.npz", x=large)).sizes == [2, 2, 1]


def test_images(tmp_path):
    for shape in ((4, 5, 6), (4, 5, 6, 3), (4, 5, 6, 1)):
        pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        path = save(tmp_path / "x.npz", x=pixels)
        found = read(f"npz({path!r}, kind='image')")
        read_back = np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in found.inputs])
        np.testing.assert_array_equal(read_back, pixels.reshape(read_back.shape))
        assert found.source.form == Form("image")
        assert read(path).source.form == Form("array", "uint8", shape[1:])


def test_one_array(tmp_path):
    for version in ((1, 0), (2, 0)):
        with (tmp_path / "x.npy").open("wb") as file:
            np.lib.format.write_array(file, X.astype(np.float16), version=version)
        found = read(str(tmp_path / "x.npy"))
        assert found.inputs == [row.astype("<f2").tobytes() for row in X]
        assert (found.source.form, found.source.labelled) == (Form("array", "float16", (2, 3)), False)
    refused(str(tmp_path / "x.npy"), "expected labels (labels: an .npz file can hold them), found none", role="train")
    np.save(tmp_path / "x.npy", np.zeros((2, 3, 3), np.uint8))
    assert read(f"npy('{tmp_path}/x.npy', kind='image')").source.form == Form("image")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": X}, "x.npz: expected a column `x`, found a"),
        ({"x": X, "label": np.arange(5), "y": np.arange(5)}, "found label and y"),
        ({"x": X.astype(np.float64)}, "array x: expected numbers of float32, .*found float64, (5, 2, 3). Save them as float32"),
        ({"x": X.astype(bool)}, "found bool"),
        ({"x": np.asfortranarray(X)}, "array x: expected an array in C order, found Fortran order. Save it as x = np.asc"),
        ({"x": np.array([[{}]])}, "array x: expected numbers or strings, found Python objects, which are pickled"),
        ({"x": X, "y": np.array([0, 1, 2, 3, None])}, "array y: expected numbers or strings, found Python objects"),
        ({"x": np.zeros(5, "i4,f4")}, "array x: expected numbers or strings, found records"),
        ({"x": X, "y": np.zeros(4, int)}, "array y: expected whole numbers or strings of the shape (5,), found int64, (4)"),
        ({"x": X, "y": np.zeros(5)}, "array y: expected whole numbers or strings of the shape (5,), found float64, (5)"),
        ({"x": X, "y": np.array(["a", "", "b", "c", "d"])}, "array x, row 1: expected a whole number or a name as label"),
        ({"x": X[0, 0]}, "array x: expected an array (N, …) of rows that are arrays, found float32, (3)"),
        ({"x": np.float32(3)}, "array x: expected rows, found none"),
        ({"x": X[:0]}, "array x: expected rows, found none"),
    ],
)
def test_what_is_refused(tmp_path, arrays, message):
    refused(save(tmp_path / "x.npz", **arrays), *message.split(".*"))


def test_settings(tmp_path):
    path = save(tmp_path / "x.npz", x=X)
    refused(f"npz({path!r}, kind='text')", "source npz, setting kind: expected 'image' or None, found 'text'")
    refused(f"npz({path!r}, kind='image')", "array x: expected images as uint8")
    refused(f"npz({path!r}, input=3)", "source npz, input: expected a name in quotes")


def test_damaged_files(tmp_path):
    path = tmp_path / "x.npz"
    for data in (b"", b"PK\x03\x04", b"text"):
        path.write_bytes(data)
        refused(str(path), "x.npz: expected an .npz file, found another kind of file, or a damaged one")
        path.rename(tmp_path / "x.npy")
        refused(str(tmp_path / "x.npy"), "x.npy: expected arrays of NumPy, found another kind of file, or a damaged one")
    np.save(tmp_path / "x.npy", X)
    whole = (tmp_path / "x.npy").read_bytes()
    for data, found in ((whole[:-1], "119"), (whole + b"\0", "121")):
        (tmp_path / "x.npy").write_bytes(data)
        refused(str(tmp_path / "x.npy"), f"x.npy: expected 120 bytes of numbers, found {found}")
    save(path, x=X)
    data = bytearray(path.read_bytes())
    data[data.index(X.tobytes()) + 50] ^= 1
    path.write_bytes(data)
    refused(str(path), "x.npz: expected", "a damaged one (Bad CRC-32 for file 'x.npy')")


def test_a_zip_of_another_version(tmp_path):
    path = tmp_path / "x.npz"
    save(path, x=X)
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 6] = 99  # the version that is needed to unpack
    path.write_bytes(data)
    refused(str(path), "x.npz: expected an .npz file, found another kind of file, or a damaged one (zip file version 9.9)")


def test_a_shape_larger_than_the_file(tmp_path):
    """It says so at once, and asks for no such memory."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (1, 1 << 50)})
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("x.npy", head.getvalue() + b"1234")
    refused(str(tmp_path / "x.npz"), "array x: expected 4,503,599,627,370,496 bytes of numbers, found 4")
