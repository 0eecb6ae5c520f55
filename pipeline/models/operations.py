"""Operations: how many multiply-adds a forward pass takes, counted one by one."""

import contextlib
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from pipeline.base.libraries import needed
from pipeline.models.onnx import WHAT, Onnx


def multiply_adds(net: nn.Module, inputs: torch.Tensor) -> int | None:
    """Multiply-adds of a forward pass, for one row.

    Those of convolutions and of products of matrices are counted, products of attention being such. Biases, activations,
    norms, poolings, sums and look-ups in tables of embeddings are not, as is usual: they are few. The formulas are
    those of torch.utils.flop_counter and a few of ours; for an ONNX model, whose operations torch does not see, its graph is
    read. What a net computes outside of torch, such as in numpy, is not seen.

    Args:
        net: The net, in evaluation mode.
        inputs: Some rows, (n, *shape), on its device.

    Returns:
        The number; None where the net multiplies by operations without a formula: of torch, such as quantized layers, Fourier
        transforms and those of other libraries; of ONNX, such as recurrent nets and trees, or where a graph lacks its shapes.
    """
    counter = _Counter()
    with torch.no_grad(), _plain(), counter:
        net(inputs)
    inside = [_of_onnx(module) for module in net.modules() if isinstance(module, Onnx)]
    known = [count for count in inside if count is not None]
    return counter.total // len(inputs) + sum(known) if len(known) == len(inside) and not counter.unknown else None


# ---------------------------------------------------------------- torch


def _numbers(of: int) -> Callable[..., int]:
    """As many as an argument has numbers: each is multiplied once."""
    return lambda *given, **_: int(given[of].numel())


def _trilinear(*given: Any, **_: Any) -> int:
    """Of nn.Bilinear: each output by each pair of inputs. given: three tensors, and for each the axes that it lacks."""
    shapes = []
    for tensor, axes in zip(given[:3], given[3:6], strict=True):
        for axis in axes:
            tensor = tensor.unsqueeze(axis)
        shapes.append(tensor.shape)
    return math.prod(torch.broadcast_shapes(*shapes))


_OURS: dict[str, Callable[..., int]] = {  # multiply-adds of what torch.utils.flop_counter lacks, from its arguments
    "mv": _numbers(0), "addmv": _numbers(1), "dot": _numbers(0), "vdot": _numbers(0), "_trilinear": _trilinear
}  # fmt: skip
_SPACES = {"aten", "prim", "prims", "profiler"}  # operations of others, such as `quantized`, may do anything
_MULTIPLY = re.compile(  # the names of those of torch that multiply, if they have no formula; not norms, nor interpolations
    r"mm(_|$)|mv_?$|dot$|matmul|conv(?!ert)|(^|_)(tri)?linear(_|$)|rnn|lstm|gru|attention|transformer|fft_[cr]2"
    r"|(c|p|euclidean_)dist|linalg_(?!vector_norm|cross)|cholesky|solve|geqrf|ormqr"
)


class _Counter(TorchDispatchMode):
    """Counts the multiply-adds within a block. torch's own FlopCounterMode would import its compiler: 1.5 s.

    total: how many. unknown: whether there were some of which the number is not known.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total, self.unknown = 0, False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # which would import it

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named, name = kwargs or {}, func._overloadpacket.__name__
        flops, ours = flop_registry.get(func._overloadpacket), _OURS.get(name)
        if not (flops or ours):
            with self:  # in inference mode an operation comes whole, and not as those that it is made of
                given = func.decompose(*args, **named)
            if given is not NotImplemented:
                return given
        given = func(*args, **named)
        if flops:
            self.total += flops(*args, **named, out_val=given) // 2
        elif ours:
            self.total += ours(*args, **named)
        elif func.namespace not in _SPACES or _MULTIPLY.search(name):
            self.unknown = True
        return given


@contextlib.contextmanager
def _plain() -> Iterator[None]:
    """Within the block torch's CPU computes attention and recurrent nets by products that its counter knows."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of GPUs that are not there
            with torch.backends.mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH):
                yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


# ---------------------------------------------------------------- ONNX

# By the operation: from the shapes of its inputs and of its first output, and its attributes.
_Shape = Sequence[int]
_Attributes = dict[str, Any]


def _convolution(taken: Sequence[_Shape], given: _Shape, said: _Attributes) -> int:
    return math.prod(given) * math.prod(taken[1][1:])  # weights: (out, in / groups, …)


def _transposed_convolution(taken: Sequence[_Shape], given: _Shape, said: _Attributes) -> int:
    return math.prod(taken[0]) * math.prod(taken[1][1:])  # weights: (in, out / groups, …)


def _product(taken: Sequence[_Shape], given: _Shape, said: _Attributes) -> int:
    return math.prod(given) * taken[0][-1]


def _gemm(taken: Sequence[_Shape], given: _Shape, said: _Attributes) -> int:
    return math.prod(given) * taken[0][0 if said.get("transA") else 1]


_COUNTED: dict[str, Callable[[Sequence[_Shape], _Shape, _Attributes], int]] = {
    "Conv": _convolution, "ConvInteger": _convolution, "ConvTranspose": _transposed_convolution,
    "MatMul": _product, "MatMulInteger": _product, "Gemm": _gemm,
}  # fmt: skip
# Operations that multiply in other ways; those of other domains than ONNX's own may do so, too.
_OTHERS = {"Attention", "DeformConv", "Einsum", "GRU", "If", "LSTM", "Loop", "QLinearConv", "QLinearMatMul", "RNN", "Scan"}
_PLAIN = {"ArrayFeatureExtractor", "Binarizer", "Imputer", "LabelEncoder", "Normalizer", "Scaler", "ZipMap"}  # scikit-learn's


def _of_onnx(net: Onnx) -> int | None:
    """Those of one row of an ONNX model; None where they are not known."""
    onnx = needed("onnx", WHAT)
    model = onnx.load_model_from_string(net.data)
    name, batch = net.takes
    [given] = [each for each in model.graph.input if each.name == name]
    for axis, size in zip(given.type.tensor_type.shape.dim, batch, strict=True):
        axis.dim_value = size
    shapes = _shapes(onnx, model)
    total = 0
    for node in model.graph.node:
        if node.op_type in _OTHERS or (node.domain not in ("", "ai.onnx") and node.op_type not in _PLAIN):
            return None
        if node.op_type in _COUNTED:
            said = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
            of = [shapes.get(each) for each in (*node.input[:2], node.output[0])]
            known = [shape for shape in of if shape]
            if len(known) < len(of):
                return None
            total += _COUNTED[node.op_type](known[:2], known[2], said)
    return total // batch[0]


def _shapes(onnx: Any, model: Any) -> dict[str, list[int]]:
    """The shape of every tensor in a graph of which it is known."""
    for given in model.graph.output:  # they may be named for any number of rows, which the inference would hold on to
        given.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    try:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:  # of many kinds, for a graph that it does not understand
        return {}
    found = {each.name: list(each.dims) for each in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        axes = value.type.tensor_type.shape.dim
        if axes and all(axis.HasField("dim_value") for axis in axes):
            found.setdefault(value.name, [axis.dim_value for axis in axes])
    return found
