"""Int8 models: a quarter of the weights' bytes, nearly the same logits, the same bytes again."""

import numpy as np
import onnx
import pytest
import torch

import exports
from pipeline.models import int8, onnxfile
from pipeline.models.program import Program
from softcache_export import session

ROWS = np.random.default_rng(0).integers(0, 256, (64, 3, 8, 8), dtype=np.uint8)


@pytest.fixture
def model() -> bytes:
    return exports.model("cnn")


def kinds(model: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(model).graph.node]


@pytest.mark.parametrize("way", int8.WAYS, ids=lambda way: way.said)
def test_logits_are_nearly_the_same(model, way):
    made = int8.quantised(model, [ROWS[:32], ROWS[32:]], way)
    expected, found = session(model)(ROWS), session(made)(ROWS)
    assert 0 < np.abs(found - expected).max() < 0.15 * np.ptp(expected)
    assert len(made) < len(model)
    assert kinds(made)[-1] == "Gemm"  # logits are not rounded to 8 bits


def stored(model: bytes, kind: int) -> list[np.ndarray]:
    """The weights of a model that have this dtype of ONNX."""
    tensors = [each for each in onnx.load_from_string(model).graph.initializer if each.data_type == kind and len(each.dims) > 1]
    return [onnx.numpy_helper.to_array(each) for each in tensors]


def test_weights_have_8_bits_and_at_the_ends_they_may_be_floats(model):
    usual, ends = (int8.quantised(model, [ROWS], way) for way in (int8.WAYS[0], int8.WAYS[-1]))
    assert [each.shape[0] for each in stored(usual, onnx.TensorProto.INT8)] == [16, 32, 4]
    assert not stored(usual, onnx.TensorProto.FLOAT)
    assert [each.shape[0] for each in stored(ends, onnx.TensorProto.INT8)] == [32]
    assert len(stored(ends, onnx.TensorProto.FLOAT)) == 2


def test_seven_bits_are_64_at_most(model):
    narrow, wide = (int8.quantised(model, [ROWS], way) for way in int8.WAYS[:2])
    most = [max(np.abs(each.astype(int)).max() for each in stored(made, onnx.TensorProto.INT8)) for made in (narrow, wide)]
    assert most == [64, 127]


def test_the_same_rows_give_the_same_bytes(model):
    assert int8.quantised(model, [ROWS], int8.WAYS[0]) == int8.quantised(model, [ROWS], int8.WAYS[0])


def test_ranges_are_those_of_the_rows(model):
    """Rows that are all black show no range, so that bright ones are cut off."""
    dark, right = (int8.quantised(model, [rows], int8.WAYS[0]) for rows in (ROWS * 0, ROWS))
    expected = session(model)(ROWS)
    apart = [np.abs(session(made)(ROWS) - expected).max() for made in (dark, right)]
    assert apart[0] > 3 * apart[1]


class Scaled(torch.nn.Module):
    """Nothing in it is done in 8 bits."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(4))

    def forward(self, values):
        return values * self.weight


@pytest.mark.parametrize("way", int8.WAYS, ids=lambda way: way.said)
def test_what_cannot_be_quantised_stays_as_it_is(model, way):
    rows = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
    plain = onnxfile.onnx_of(Program.of(Scaled().eval(), torch.from_numpy(rows), "scaled"), "scaled")
    made = int8.quantised(plain, [rows], way)
    assert not int8.holds_int8(made)
    np.testing.assert_array_equal(session(made)(rows), rows)
    assert int8.holds_int8(int8.quantised(model, [ROWS[:8]], way))


def test_a_net_of_words(capfd):
    """Its embeddings are in 8 bits too, and nothing reaches the terminal."""
    net, model = exports.net("bag"), exports.model("bag")
    words = net.encode(["so many words", "and 1 more", "or none"])
    made = int8.quantised(model, [words], int8.WAYS[0])
    with torch.no_grad():
        np.testing.assert_allclose(session(made)(words), net(torch.from_numpy(words)).numpy(), atol=0.1)
    assert len(made) < 0.5 * len(model)
    assert capfd.readouterr() == ("", "")
