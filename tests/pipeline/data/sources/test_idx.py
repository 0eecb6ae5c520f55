"""IDX files, written by hand."""

import gzip
import io
import struct

import numpy as np
import pytest
from PIL import Image

from pipeline.data.sources.source import Form
from reading import read, refused

CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}


def idx(values):
    """The file of an array: two zeros, the type, the dimensions and the numbers, big-endian."""
    head = bytes([0, 0, CODES[values.dtype.name], values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return head + values.astype(values.dtype.newbyteorder(">")).tobytes()


def write(path, values, *, cut=None):
    data = idx(values)[:cut]
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def pixels(inputs):
    return np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in inputs])


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_grey_images_with_labels(tmp_path, ending):
    values = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
    images = write(tmp_path / f"images-idx3-ubyte{ending}", values)
    labels = write(tmp_path / f"labels-idx1-ubyte{ending}", np.array([5, 0, 4, 1, 9], np.uint8))
    found = read(f"idx({images!r}, {labels!r})", "train")
    np.testing.assert_array_equal(pixels(found.inputs), values)
    assert (found.source.form, found.labels, found.ids) == (Form("image"), [5, 0, 4, 1, 9], None)
    assert (found.source.classes, found.source.size_bytes) == (None, 60)
    assert found.places[3] == f"{images}, row 3"
    assert [path.name for path in found.source.files] == [f"images-idx3-ubyte{ending}", f"labels-idx1-ubyte{ending}"]


def test_colour_images_and_arrays(tmp_path):
    colour = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    np.testing.assert_array_equal(pixels(read(f"idx({write(tmp_path / 'x', colour)!r})").inputs), colour)
    for dtype in ("int8", "int16", "int32", "float32"):
        values = np.arange(-12, 12).astype(dtype).reshape(4, 2, 3)
        found = read(f"idx({write(tmp_path / 'x', values)!r})")
        assert (found.source.form, found.source.labelled) == (Form("array", dtype, (2, 3)), False)
        np.testing.assert_array_equal(
            np.frombuffer(b"".join(found.inputs), f"<{dtype[0]}{values.itemsize}"), values.reshape(-1)
        )
    planes = np.zeros((2, 3, 4, 5), np.uint8)
    assert read(f"idx({write(tmp_path / 'x', planes)!r})").source.form == Form("array", "uint8", (3, 4, 5))


def test_what_is_refused(tmp_path):
    images = write(tmp_path / "x", np.zeros((5, 4, 3), np.uint8))
    labels = write(tmp_path / "y", np.zeros(4, np.uint8))
    refused(f"idx({images!r}, {labels!r})", "y: expected whole numbers of the shape (5,), found uint8, (4)")
    refused(f"idx({images!r}, {images!r})", "x: expected whole numbers of the shape (5,), found uint8, (5, 4, 3)")
    refused(f"idx({images!r})", "expected labels (a file of labels), found none", role="train")
    refused(f"idx({write(tmp_path / 'd', np.zeros((2, 3), np.float64))!r})", "found float64, (2, 3). Save them as float32")
    refused(f"idx({write(tmp_path / 'e', np.zeros((0, 3, 3), np.uint8))!r})", "e: expected rows, found none")
    refused("idx('none')", "source none: expected an IDX file, found no such file")


def test_damaged_files(tmp_path):
    values = np.zeros((5, 4, 3), np.uint8)
    refused(f"idx({write(tmp_path / 'x', values, cut=-13)!r})", "x: expected 5 rows, found an end in row 3")
    refused(f"idx({write(tmp_path / 'x', values, cut=-50)!r})", "x: expected 5 rows, found too few bytes")
    (tmp_path / "x.gz").write_bytes(gzip.compress(idx(values).replace(b"\0\0\0\5", b"\xff\0\0\5")))
    refused(f"idx({str(tmp_path / 'x.gz')!r})", "x.gz: expected 4,278,190,085 rows, found too few bytes")
    refused(f"idx({write(tmp_path / 'x', values, cut=9)!r})", "x: expected the sizes of 3 dimensions, found the end")
    refused(f"idx({write(tmp_path / 'x.gz', values, cut=-13)!r})", "x.gz: expected 5 rows, found an end in row 3")
    (tmp_path / "x").write_bytes(idx(values) + b"\0")
    refused(f"idx({str(tmp_path / 'x')!r})", "x: expected 5 rows, found more bytes")
    for data in (b"", b"\x89PNG\r\n", b"\0\0\x07\x03", b"\0\1\x08\x03"):
        (tmp_path / "x").write_bytes(data)
        refused(f"idx({str(tmp_path / 'x')!r})", "x: expected an IDX file, found a file that begins with b'")
