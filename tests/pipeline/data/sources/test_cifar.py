"""CIFAR's binary batches, written by hand."""

import io

import numpy as np
from PIL import Image

from pipeline.data.sources.source import Form
from reading import read, refused

PLANES = np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32), np.uint8)  # red, green, blue


def write(path, labels, planes):
    """A batch. labels: of each record one byte or two."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(bytes(label) + plane.tobytes() for label, plane in zip(labels, planes, strict=True)))
    return str(path)


def pixels(inputs):
    return np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in inputs])


def test_cifar10(tmp_path):
    for number in (2, 1):
        rows = slice(3 * number - 3, 3 * number)
        write(tmp_path / f"data_batch_{number}.bin", [[7], [9], [number]], PLANES[rows])
    (tmp_path / "batches.meta.txt").write_text("plane\ncar\nbird\n\n")
    for text in (f"cifar({str(tmp_path)!r})", f"cifar('{tmp_path}/data_batch_*.bin')"):
        found = read(text, "train")
        np.testing.assert_array_equal(pixels(found.inputs), PLANES.transpose(0, 2, 3, 1))
        assert (found.labels, found.ids, found.source.form) == ([7, 9, 1, 7, 9, 2], None, Form("image"))
        assert found.source.classes == ("plane", "car", "bird")
        assert found.places[4] == f"{tmp_path}/data_batch_2.bin, record 1"
        assert (len(found.source.files), found.source.size_bytes) == (2, 6 * 3073)


def test_cifar100_has_two_labels(tmp_path):
    path = write(tmp_path / "train.bin", [[19, 99], [3, 4]], PLANES[:2])
    (tmp_path / "fine_label_names.txt").write_text("apple\nboy\n")
    (tmp_path / "coarse_label_names.txt").write_text("fruit\npeople\n")
    fine, coarse = read(f"cifar({path!r})", "train"), read(f"cifar({path!r}, coarse=True)", "train")
    assert (fine.labels, fine.source.classes) == ([99, 4], ("apple", "boy"))
    assert (coarse.labels, coarse.source.classes) == ([19, 3], ("fruit", "people"))
    assert fine.inputs == coarse.inputs
    np.testing.assert_array_equal(pixels(fine.inputs), PLANES[:2].transpose(0, 2, 3, 1))


def test_what_is_refused(tmp_path):
    ten = write(tmp_path / "a/test_batch.bin", [[0]], PLANES[:1])
    assert read(f"cifar({ten!r})").source.classes is None
    refused(f"cifar({ten!r}, coarse=True)", "expected CIFAR-100, for coarse labels, found CIFAR-10")
    refused(f"cifar({ten!r}, coarse=1)", "setting coarse: expected True or False, found 1")
    write(tmp_path / "a/data_batch_1.bin", [[0]], PLANES[:1])
    refused(f"cifar('{tmp_path}/a')", "expected files of one split, found data_batch_1.bin and test_batch.bin")
    hundred = write(tmp_path / "b/test.bin", [[0, 1]], PLANES[:1])
    refused(f"cifar([{ten!r}, {hundred!r}])", "expected CIFAR-10 or CIFAR-100, found files of both")
    for size in (0, 3072, 3075):
        (tmp_path / "x.bin").write_bytes(bytes(size))
        refused(f"cifar('{tmp_path}/x.bin')", "records of 3,073 or 3,074 bytes", f"found {size:,} bytes")
    refused(f"cifar('{tmp_path}/c*')", "expected files that end in .bin, found none")
    (tmp_path / "a/batches.meta.txt").write_text("a\na\n")
    refused(f"cifar({ten!r})", "class names: expected a list of different strings")
    (tmp_path / "a/batches.meta.txt").write_bytes(b"\xff\n")
    refused(f"cifar({ten!r})", "batches.meta.txt: expected class names in UTF-8")
