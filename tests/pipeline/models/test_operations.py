"""Multiply-adds, by hand and by weights. Those of transformers are in tests/pipeline/results/test_measurement.py."""

import pytest
import torch
from torch import nn

import foreign
from pipeline.data.inputs.text import Texts
from pipeline.models.build import flops
from pipeline.models.encoding import example
from pipeline.models.onnx import Onnx, onnx
from pipeline.models.operations import multiply_adds
from pipeline.models.zoo.bag import bag
from small_nets import made


def counted(net: nn.Module, *shape: int) -> int | None:
    return multiply_adds(net.eval(), torch.zeros(3, *shape, dtype=torch.uint8))


def test_built_in_nets_by_hand():
    assert counted(made("mlp(hidden=[7])"), 1, 5, 4) == 20 * 7 + 7 * 3
    assert counted(made("cnn(channels=[3, 2])"), 1, 5, 4) == 20 * 3 * 9 + 4 * 2 * 3 * 9 + 2 * 3
    words = bag((), 3, features=50, width=8, hidden=[6])
    assert multiply_adds(words.eval(), example(words, Texts())) == 8 * 6 + 6 * 3  # embeddings are looked up, not multiplied


@pytest.mark.parametrize("model", ["resnet(depth=8, width=4)", "wide_resnet(depth=10, width=2)"])
def test_residual_nets_as_their_weights_say(model):
    """Each weight of a layer, at each place of its output. torch.utils.flop_counter says the same, but takes 2 s to start."""
    net = made(model, shape=(3, 8, 8)).eval()
    assert counted(net, 3, 8, 8) == flops(net, torch.zeros(5, 3, 8, 8, dtype=torch.uint8)) / 2


def attention(tokens: int, width: int, inner: int) -> int:
    """A block of a transformer: four projections, queries by keys, weights by values, and a perceptron."""
    return tokens * 4 * width**2 + 2 * tokens**2 * width + 2 * tokens * width * inner


class Read(nn.Module):
    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        found = self.net(inputs.float())
        return found[0] if isinstance(found, tuple) else found


def test_torchs_own_blocks_though_it_computes_them_in_one_operation():
    block = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 24, batch_first=True), 2, enable_nested_tensor=False)
    assert counted(Read(block), 5, 8) == 2 * attention(5, 8, 24)
    assert counted(Read(nn.LSTM(4, 6, batch_first=True)), 5, 4) == 5 * 4 * (4 * 6 + 6 * 6)
    assert torch.backends.mkldnn.enabled
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("file", [{}, {"rows": 2}, {"order": "last"}, {"order": "flat", "free": True}])
def test_onnx_files(tmp_path, file):
    """The same convolution, 6×6 times, and the same last layer, however the file takes its rows."""
    path = foreign.onnx_file(tmp_path / "net.onnx", **file)
    assert counted(onnx((3, 8, 8), 3, str(path)), 3, 8, 8) == 36 * 4 * 3 * 9 + 4 * 3


def graph(nodes, tensors, given) -> Onnx:
    """An ONNX model of rows (2, 4, 4), put together node by node."""
    library = pytest.importorskip("onnx", reason="onnx is not installed")
    helper = library.helper
    held = [library.numpy_helper.from_array(tensor.numpy(), name) for name, tensor in tensors.items()]
    taken = helper.make_tensor_value_info("x", 1, ["rows", 2, 4, 4])
    made = helper.make_graph(
        [helper.make_node(*words, **said) for *words, said in nodes], "net", [taken],
        [helper.make_tensor_value_info("y", 1, ["rows", *given])], held,
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return Onnx(model.SerializeToString(), (2, 4, 4), None, False, [0.0], [1.0])


def test_products_of_onnx_by_hand():
    nodes = [
        ("ConvTranspose", ["x", "w"], ["up"], {"strides": [2, 2]}), ("Flatten", ["up"], ["flat"], {}),
        ("MatMul", ["flat", "v"], ["y"], {}),
    ]  # fmt: skip
    net = graph(nodes, {"w": torch.rand(2, 5, 2, 2), "v": torch.rand(320, 3)}, [3])
    assert counted(net, 2, 4, 4) == 16 * 2 * 5 * 4 + 5 * 8 * 8 * 3
    turned = [("Flatten", ["x"], ["flat"], {}), ("Transpose", ["flat"], ["turned"], {"perm": [1, 0]})]
    turned.append(("Gemm", ["turned", "v"], ["y"], {"transA": 1}))
    assert counted(graph(turned, {"v": torch.rand(32, 3)}, [3]), 2, 4, 4) == 32 * 3


def test_onnx_models_that_multiply_in_other_ways_have_no_number():
    nodes = [("Flatten", ["x"], ["flat"], {}), ("Einsum", ["flat", "v"], ["y"], {"equation": "ij,jk->ik"})]
    assert counted(graph(nodes, {"v": torch.rand(32, 3)}, [3]), 2, 4, 4) is None
