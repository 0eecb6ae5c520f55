"""The bag of words against the written formula."""

import zlib

import numpy as np
import pytest
import torch

from pipeline.base.errors import InputError
from pipeline.data.inputs.text import Texts
from pipeline.models.build import build, parse_model
from pipeline.models.zoo.bag import bag


def bucket(words: str, buckets: int) -> int:
    return 1 + zlib.crc32(words.encode()) % buckets


def test_words_and_their_runs_fall_into_buckets():
    """In small letters; signs are words; single words come first, and what is too long is cut."""
    net = bag((), 3, buckets=1000, ngrams=2, length=9)
    said = ["does", "ärger", "cost", ",", "1"]
    pairs = ["does ärger", "ärger cost", "cost ,", ", 1"]
    expected = [bucket(each, 1000) for each in said + pairs]
    assert net.encode(["Does  ÄRGER cost, 1"]).tolist() == [expected]
    assert bag((), 3, buckets=1000, ngrams=2, length=6).encode(["Does ÄRGER cost, 1"]).tolist() == [expected[:6]]
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
