"""Built-in nets: written formulas, sizes, and dropout by its statistics."""

import zlib

import numpy as np
import pytest
import torch

from pipeline.base.errors import InputError
from pipeline.data.inputs.array import Arrays
from pipeline.data.inputs.text import Texts
from pipeline.models import zoo
from pipeline.models.build import build, parameter_count, parse_model
from pipeline.models.predict import predict
from small_nets import PIXELS, made


def test_mlp_is_the_written_formula():
    net = made("mlp(hidden=[6])")
    first, first_bias, second, second_bias = (parameter.detach().numpy() for parameter in net.parameters())
    inputs = PIXELS.flatten(1).numpy() / np.float32(255)
    expected = np.maximum(inputs @ first.T + first_bias, 0) @ second.T + second_bias
    np.testing.assert_allclose(predict(net, PIXELS), expected, rtol=1e-5, atol=1e-6)


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


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "float16", "float32"])
def test_bytes_are_divided_by_255_and_other_numbers_taken_as_they_are(dtype):
    """uint16 is read as int32: what a dtype could hold says nothing of what is there."""
    numbers = torch.tensor([[0, 1, 51, 127]])
    assert zoo.Pixels()(numbers.to(getattr(torch, dtype))).tolist() == [[0, 1, 51, 127]]
    assert (
        zoo.Pixels()(numbers.to(torch.uint8)).tolist() == (np.array([[0, 1, 51, 127]], np.float32) / np.float32(255)).tolist()
    )


def test_colour_and_grey():
    assert made("cnn(channels=[4])", shape=(3, 8, 8))(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)).shape == (2, 3)


@pytest.mark.parametrize(("p", "odd"), [(0.5, 7), (0.2, 4), (0.9, 1)])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_dropout_drops_its_share_and_keeps_the_mean(p, odd, kind):
    layer, values = zoo.Dropout(p), torch.ones(997, 200 + odd, dtype=kind)
    torch.manual_seed(3)
    seen = layer(values)
    dropped = (seen == 0).double().mean().item()
    assert abs(dropped - p) < 5 * (p * (1 - p) / values.numel()) ** 0.5  # five standard deviations
    assert set(seen.unique().tolist()) == {0.0, torch.tensor(1 / (1 - layer.dropped / 65536)).to(kind).item()}
    again = layer(values)
    assert abs(((again == 0) & (seen == 0)).double().mean().item() - p * p) < 0.005, "masks depend on each other"
    columns = (seen == 0).double().mean(0)
    assert (columns - p).abs().max() < 6 * (p * (1 - p) / 997) ** 0.5, "some units are dropped more often"
    torch.manual_seed(3)
    assert torch.equal(seen, layer(values))
    assert torch.equal(layer.eval()(values), values)


def test_dropout_gives_gradients_to_what_it_kept():
    layer, values = zoo.Dropout(0.5), torch.randn(50, 40, requires_grad=True)
    seen = layer(values)
    seen.sum().backward()
    assert torch.equal(values.grad, (seen != 0) * 2.0)


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


def test_cnn_is_the_written_formula():
    """One 3×3 convolution as a sum over its nine places, the rectifier, the largest of every 2×2, one linear layer."""
    net = made("cnn(channels=[2])")
    kernel, bias, weight, offset = (parameter.detach().double().numpy() for parameter in net.parameters())
    padded = np.pad(PIXELS.numpy()[:, 0] / 255, ((0, 0), (1, 1), (1, 1)))  # 5×4, and 0 around
    seen = sum(
        padded[:, None, down : down + 5, right : right + 4] * kernel[:, 0, down, right][:, None, None]
        for down in range(3)
        for right in range(3)
    )
    seen = np.maximum(seen + bias[:, None, None], 0)[:, :, :4]  # the fifth row has no other to be pooled with
    pooled = seen.reshape(len(seen), 2, 2, 2, 2, 2).max((3, 5))
    np.testing.assert_allclose(predict(net, PIXELS), pooled.reshape(-1, 8) @ weight.T + offset, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- other kinds of input


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.uint8, [0, 1 / 255, 127 / 255]),
        (torch.int8, [0, 1, 127]),
        (torch.int16, [0, 1, 127]),
        (torch.int64, [0, 1, 127]),
        (torch.float32, [0, 1, 127]),
        (torch.float16, [0, 1, 127]),
    ],
)
def test_bytes_are_scaled_and_other_numbers_stay(dtype, expected):
    found = zoo.Pixels()(torch.tensor([0, 1, 127], dtype=dtype))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_nets_for_arrays():
    """The perceptron takes any shape; the convolutions want channels, height and width."""
    assert parameter_count(build(parse_model("mlp(hidden=[])"), Arrays("float32", (4, 5)), 3)) == 20 * 3 + 3
    assert parameter_count(build(parse_model("mlp(hidden=[])"), Arrays("int16", (7,)), 3)) == 7 * 3 + 3
    build(parse_model("cnn(channels=[2])"), Arrays("float32", (1, 4, 5)), 3)
    for shape in ((7,), (4, 5), (1, 2, 3, 4)):
        with pytest.raises(InputError, match="model cnn: expected images, or arrays"):
            build(parse_model("cnn(channels=[2])"), Arrays("float32", shape), 3)


def bucket(words: str, buckets: int) -> int:
    return 1 + zlib.crc32(words.encode()) % buckets


def test_words_and_their_runs_fall_into_buckets():
    """In small letters; signs are words; single words come first, and what is too long is cut."""
    net = zoo.bag((), 3, buckets=1000, ngrams=2, length=9)
    said = ["does", "ärger", "cost", ",", "1"]
    pairs = ["does ärger", "ärger cost", "cost ,", ", 1"]
    expected = [bucket(each, 1000) for each in said + pairs]
    assert net.encode(["Does  ÄRGER cost, 1"]).tolist() == [expected]
    assert zoo.bag((), 3, buckets=1000, ngrams=2, length=6).encode(["Does ÄRGER cost, 1"]).tolist() == [expected[:6]]
    short = net.encode(["", " ", "does", "Does ärger"])
    assert short.dtype == np.int32
    assert short.tolist() == [[0] * 9, [0] * 9, [expected[0], *[0] * 8], [*expected[:2], expected[5], *[0] * 6]]


def test_bag_is_the_written_formula():
    """The mean of the embeddings of what is there, and a linear layer; of no words, the layer's bias."""
    net = build(parse_model("bag(width=4, buckets=50, length=6)"), Texts(), 3, seed=1).eval()
    embeddings, weight, bias = (parameter.detach().double().numpy() for parameter in net.parameters())
    assert embeddings.shape == (51, 4)
    encoded = torch.from_numpy(net.encode(["one two three", "one", ""]))
    with torch.no_grad():
        found = net(encoded)
    for row, logits in zip(encoded.numpy(), found, strict=True):
        there = embeddings[row[row > 0]]
        mean = there.mean(0) if len(there) else np.zeros(4)
        np.testing.assert_allclose(logits, mean @ weight.T + bias, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("setting", ["width=0", "buckets=-1", "ngrams=1.5", "length=True", "length='x'"])
def test_bad_settings_of_bag_are_refused(setting):
    with pytest.raises(InputError, match=f"bag {setting.partition('=')[0]}: expected a whole number of at least 1"):
        build(parse_model(f"bag({setting})"), Texts(), 3)
