"""ONNX models as teachers: what is cached is what the net computes that they were made of."""

import pytest
import torch

from foreign import Conv, adopted, onnx_file, pictures, refused, require_equal, sentences
from pipeline.base.errors import InputError
from pipeline.models.onnx import onnx


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ({}, ""),
        ({}, ", mean=[0.5, 0.4, 0.3], std=0.25"),
        ({"order": "last"}, ""),
        ({"order": "flat"}, ""),
        ({"label": True}, ", output='logits'"),
        ({"rows": 3}, ""),
        ({"softmax": True}, ", probabilities=True"),
    ],
)
def test_an_onnx_file(tmp_path, file, settings):
    path = onnx_file(tmp_path / "net.onnx", **file)
    done = adopted(pictures(tmp_path, 8), f"onnx({str(path)!r}{settings})")
    assert done.parameters == 3 * 4 * 9 + 4 + 4 * 3 + 3 + 4  # and the four numbers of a shape
    path.unlink()
    mean, std = (torch.tensor([0.5, 0.4, 0.3]).view(-1, 1, 1), 0.25) if "mean" in settings else (0.0, 1.0)
    last = (lambda z: torch.log_softmax(z, 1)) if "softmax" in file else (lambda z: z)
    require_equal(tmp_path, lambda rows: last(Conv()((rows / 255 - mean) / std)))


def test_an_onnx_file_that_torch_has_exported(tmp_path):
    """Weights lie beside it, as torch writes them by default."""
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    rows = {0: torch.export.Dim.DYNAMIC}
    made = torch.onnx.export(Conv().eval(), (torch.rand(2, 3, 8, 8),), dynamo=True, dynamic_shapes=(rows,), verbose=False)
    made.save(tmp_path / "net.onnx", external_data=True)
    adopted(pictures(tmp_path, 8), f"onnx({str(tmp_path / 'net.onnx')!r})")
    require_equal(tmp_path, lambda rows: Conv()(rows / 255))


def test_an_onnx_file_that_takes_bytes_sees_them_as_they_are(tmp_path):
    path = onnx_file(tmp_path / "net.onnx", dtype=2)
    adopted(pictures(tmp_path, 8), f"onnx({str(path)!r})")
    require_equal(tmp_path, lambda rows: Conv()(rows.float()))


def test_an_onnx_file_with_its_weights_beside_it(tmp_path):
    import onnx

    path = onnx_file(tmp_path / "net.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="net.data", size_threshold=0)
    adopted(pictures(tmp_path, 8), f"onnx({str(path)!r})")
    (tmp_path / "net.data").unlink()
    require_equal(tmp_path, lambda rows: Conv()(rows / 255))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ({"label": True}, "one output, or `output='…'` .* found logits, label"),
        ({"softmax": True}, r"found probabilities: every row sums to 1. Write onnx\(…, proba"),
        ({"dtype": 3}, "input x: expected numbers that int8 holds, found uint8"),
        ({"shape": (3, 9, 9)}, r"input x: expected rows of shape \(3, 8, 8\), .* found \(3, 9, 9\)"),
    ],
)
def test_onnx_files_that_do_not_fit(tmp_path, file, message):
    path = onnx_file(tmp_path / "net.onnx", **file)
    refused(pictures(tmp_path, 8), message, f"onnx({str(path)!r})")


def test_files_that_are_no_onnx(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"not a model")
    refused(pictures(tmp_path, 8), "net.onnx: expected an ONNX model", f"onnx({str(tmp_path / 'net.onnx')!r})")
    refused(tmp_path, "path: expected an ONNX file, found none at nowhere.onnx", "onnx('nowhere.onnx')")
    onnx_file(tmp_path / "net.onnx")
    (tmp_path / "texts").mkdir()
    refused(sentences(tmp_path / "texts"), "expected inputs that are numbers", f"onnx({str(tmp_path / 'net.onnx')!r})")


def test_mean_and_std_where_they_would_do_nothing_are_refused(tmp_path):
    path = onnx_file(tmp_path / "net.onnx", dtype=2)
    refused(pictures(tmp_path, 8), "expected uint8, without mean and std, found uint8", f"onnx({str(path)!r}, mean=0.5)")


def test_floats_are_not_cut_to_integers(tmp_path):
    net = onnx((3, 8, 8), 3, str(onnx_file(tmp_path / "net.onnx", dtype=7)))
    with pytest.raises(InputError, match="input x: expected numbers that int64 holds, found float32"):
        net(torch.full((1, 3, 8, 8), 0.5))


def test_rows_that_only_the_model_itself_refuses(tmp_path):
    """Its axes are free, but what comes after them is not."""
    path = onnx_file(tmp_path / "net.onnx", order="flat", shape=(3, 9, 9), free=True)
    refused(pictures(tmp_path, 8), r"input x: expected a model for rows of shape \(192,\)", f"onnx({str(path)!r})")
