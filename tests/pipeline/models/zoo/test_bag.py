"""The bag of n-grams against the written formula."""

import zlib

import numpy as np
import pytest
import torch

from pipeline.base.errors import InputError
from pipeline.data.inputs.text import Texts
from pipeline.models.build import build, parse_model
from pipeline.models.zoo.bag import bag
from pipeline.models.zoo.layers import Dropout


def number(gram: str, features: int) -> int:
    return 1 + zlib.crc32(gram.encode()) % features


def test_words_and_their_runs_fall_into_features():
    """In small letters; signs are words; single words come first, and what is too long is cut."""
    net = bag((), 3, features=1000, ngrams=2, characters=[], length=9)
    said = ["does", "ärger", "cost", ",", "1"]
    pairs = ["does ärger", "ärger cost", "cost ,", ", 1"]
    expected = [number(each, 1000) for each in said + pairs]
    assert net.encode(["Does  ÄRGER cost, 1"]).tolist() == [expected]
    assert bag((), 3, features=1000, characters=[], length=6).encode(["Does ÄRGER cost, 1"]).tolist() == [expected[:6]]
    short = net.encode(["", " ", "does", "Does ärger"])
    assert short.dtype == np.int32
    assert short.tolist() == [[0] * 9, [0] * 9, [expected[0], *[0] * 8], [*expected[:2], expected[5], *[0] * 6]]


def test_parts_of_words_come_behind_them():
    """Of the sizes that are asked for, with the ends of words, in the order of the words; a short word has fewer."""
    net = bag((), 3, features=10**6, ngrams=1, characters=[3, 4], length=20)
    parts = ["<to", "top", "op>", "<top", "top>", "<a>"]
    expected = [number(each, 10**6) for each in ["top", "a", *(f"#{part}" for part in parts)]]
    for _ in range(2):  # the second time as they are remembered
        assert net.encode(["Top a"]).tolist() == [expected + [0] * 12]
    other = bag((), 3, features=7, ngrams=1, characters=[3, 4], length=20)
    assert other.encode(["Top a"])[0, 2:8].tolist() == [number(f"#{part}", 7) for part in parts]


@pytest.mark.parametrize("hidden", [[], [5]])
def test_bag_is_the_written_formula(hidden):
    """The sum of the embeddings of what is there over the root of their number, and layers; of no words, what 0 gives."""
    net = build(parse_model(f"bag(width=4, features=50, length=6, hidden={hidden})"), Texts(), 3, seed=1).eval()
    embeddings, *layers = (parameter.detach().double().numpy() for parameter in net.parameters())
    assert embeddings.shape == (51, 4)
    encoded = torch.from_numpy(net.encode(["one two three", "one", ""]))
    with torch.no_grad():
        found = net(encoded)
    for row, logits in zip(encoded.numpy(), found, strict=True):
        there = embeddings[row[row > 0]]
        values = there.sum(0) / max(len(there), 1) ** 0.5
        if hidden:
            values = np.maximum(values @ layers[0].T + layers[1], 0)
        np.testing.assert_allclose(logits, values @ layers[-2].T + layers[-1], rtol=1e-5, atol=1e-6)


def test_no_words_stay_no_words():
    """Feature 0 starts with zeros and gets no gradient."""
    net = build(parse_model("bag(width=4, features=50, length=6)"), Texts(), 3, seed=1)
    net(torch.from_numpy(net.encode(["one two", ""]))).square().sum().backward()
    assert net.embeddings.weight[0].tolist() == [0] * 4
    assert net.embeddings.weight.grad[0].tolist() == [0] * 4
    assert (net.embeddings.weight.grad[1:] != 0).any()
    assert 0 < net.embeddings.weight[1:].abs().max() <= 0.5


def test_dropout_is_before_and_behind_each_hidden_layer():
    assert not any(isinstance(each, Dropout) for each in bag((), 3, hidden=[4]).modules())
    kinds = [type(each).__name__ for each in bag((), 3, hidden=[4, 4], dropout=0.5).logits]
    assert kinds == ["Dropout", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]


@pytest.mark.parametrize("setting", ["width=0", "features=-1", "ngrams=1.5", "length=True", "length='x'"])
def test_bad_numbers_are_refused(setting):
    with pytest.raises(InputError, match=f"bag {setting.partition('=')[0]}: expected a whole number of at least 1"):
        build(parse_model(f"bag({setting})"), Texts(), 3)


@pytest.mark.parametrize(
    "setting",
    ["hidden=5", "hidden=[0]", "characters=3", "characters=[3]", "characters=[5, 3]", "characters=[0, 3]", "dropout=1"],
)
def test_bad_settings_are_refused(setting):
    with pytest.raises(InputError, match=f"bag {setting.partition('=')[0]}: expected .*Correct the model's spec"):
        build(parse_model(f"bag({setting})"), Texts(), 3)
