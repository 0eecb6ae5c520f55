"""The built-in nets: their sizes, and settings that make none."""

import pytest

from pipeline.base.errors import InputError
from pipeline.data.inputs.array import Arrays
from pipeline.models.build import build, parameter_count, parse_model
from small_nets import PIXELS, made


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mlp(hidden=[])", 20 * 3 + 3),
        ("mlp(hidden=[7, 6], dropout=0.5, input_dropout=0.2)", 20 * 7 + 7 + 7 * 6 + 6 + 6 * 3 + 3),
        ("cnn(channels=[4, 8, 8, 8])", 9 * 4 + 4 + 9 * 32 + 8 + 2 * (9 * 64 + 8) + 8 * 3 + 3),
    ],
)
def test_sizes(text, expected):
    net = made(text)
    assert parameter_count(net) == expected
    assert net(PIXELS).shape == (37, 3)


@pytest.mark.parametrize(
    "text",
    [
        "mlp(hidden=5)",
        "mlp(hidden=[0])",
        "mlp(hidden=[2.5])",
        "mlp(hidden=[5], dropout=1)",
        "mlp(hidden=[5], dropout=0.999999)",
        "cnn(channels='x')",
        "mlp(hidden=[5], input_dropout=-0.1)",
    ],
)
def test_bad_settings_are_refused(text):
    with pytest.raises(InputError, match="Correct the model's spec"):
        made(text)


def test_nets_for_arrays():
    """The perceptron takes any shape; the convolutions want channels, height and width."""
    assert parameter_count(build(parse_model("mlp(hidden=[])"), Arrays("float32", (4, 5)), 3)) == 20 * 3 + 3
    assert parameter_count(build(parse_model("mlp(hidden=[])"), Arrays("int16", (7,)), 3)) == 7 * 3 + 3
    build(parse_model("cnn(channels=[2])"), Arrays("float32", (1, 4, 5)), 3)
    for shape in ((7,), (4, 5), (1, 2, 3, 4)):
        with pytest.raises(InputError, match="model cnn: expected images, or arrays"):
            build(parse_model("cnn(channels=[2])"), Arrays("float32", shape), 3)
