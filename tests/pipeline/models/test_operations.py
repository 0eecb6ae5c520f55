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


class Tried(nn.Module):
    """A net that is a function of its rows, of numbers."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.function(inputs.float())


def test_inference_mode_hides_nothing():
    """That a layer has a number at all tells, too, when a version of torch changes what _Counter uses of its inside."""
    layer = nn.Linear(5, 3)
    assert counted(Read(layer), 5) == 15
    assert counted(Read(torch.inference_mode()(layer)), 5) == 15
    body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 10))
    attending = nn.TransformerEncoderLayer(8, 2, 24, batch_first=True)
    for net, shape, number in (
        (body, (1, 8, 8), 6 * 6 * 4 * 9 + 4 * 6 * 6 * 10),
        (attending, (5, 8), attention(5, 8, 24)),
        (nn.LSTM(4, 6, batch_first=True), (5, 4), 5 * 4 * (4 * 6 + 6 * 6)),
    ):
        assert counted(Read(torch.inference_mode()(net.eval())), *shape) == number


def test_products_that_torchs_counter_lacks():
    weights, bilinear = torch.rand(5), nn.Bilinear(5, 8, 3)
    for function, number in {
        lambda x: x @ weights: 5,
        lambda x: torch.addmv(torch.zeros(len(x)), x, weights): 5,
        lambda x: torch.stack([row @ weights for row in x]): 5,
        lambda x: torch.stack([torch.vdot(row, weights) for row in x]): 5,
        lambda x: bilinear(x, torch.ones(len(x), 8)): 5 * 8 * 3,
        torch.inference_mode()(lambda x: bilinear(x, torch.ones(len(x), 8))): 5 * 8 * 3,
    }.items():
        assert counted(Tried(function), 5) == number


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_what_multiplies_without_a_formula_has_no_number():
    int8 = torch.ao.nn.quantized.dynamic.Linear(5, 3)
    for function in (
        int8, torch.fft.fft, torch.linalg.pinv, lambda x: torch.cdist(x, x), lambda x: torch.zeros(3, 3).addmm_(x, x.T),
        lambda x: torch._int_mm(torch.zeros(32, 32, dtype=torch.int8), torch.zeros(32, 32, dtype=torch.int8)),
    ):  # fmt: skip
        assert counted(Tried(function), 5) is None
    for function in (
        torch.lgamma, nn.functional.normalize, nn.BatchNorm1d(5).eval(), lambda x: x.double().softmax(1).cumsum(1),
        lambda x: nn.functional.interpolate(x[None, None], scale_factor=2, mode="bilinear"),
    ):  # fmt: skip
        assert counted(Tried(function), 5) == 0


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
