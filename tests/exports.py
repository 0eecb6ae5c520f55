"""Small nets as ONNX models, each made once for all tests of a process: that takes torch a second."""

import functools

from torch import nn

from pipeline.data.inputs.image import Images
from pipeline.data.inputs.kinds import Inputs
from pipeline.data.inputs.text import Texts
from pipeline.models import onnxfile
from pipeline.models.build import build, parse_model
from pipeline.models.encoding import example
from pipeline.models.program import Program

NETS: dict[str, tuple[str, Inputs]] = {
    "mlp": ("mlp(hidden=[5], dropout=0.5)", Images("L", (1, 6, 6))),
    "cnn": ("cnn(channels=[16, 32])", Images("RGB", (3, 8, 8))),
    "bag": ("bag(width=8, features=500)", Texts()),
}


def net(name: str) -> nn.Module:
    """One of NETS, in evaluation mode, for four classes; always the same."""
    text, inputs = NETS[name]
    return build(parse_model(text), inputs, 4, seed=1).eval()


def program(name: str) -> Program:
    """Its program."""
    return Program.of(net(name), example(net(name), NETS[name][1]), name)


@functools.cache
def model(name: str) -> bytes:
    """It as an ONNX model."""
    return onnxfile.onnx_of(program(name), name)
