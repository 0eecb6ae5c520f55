"""Encoding: numbers stay, texts go through the net, and nets whose encoding is none are named."""

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.base.errors import InputError
from pipeline.data.inputs.array import Arrays
from pipeline.data.inputs.image import Images
from pipeline.data.inputs.text import Texts
from pipeline.models.encoding import encode, example, reads_text, tensor


class Lengths(nn.Module):
    """Encodes a text as its length, by `way`."""

    def __init__(self, way=lambda texts: torch.tensor([[len(text)] for text in texts])):
        super().__init__()
        self.way, self.seen = way, []
        self.weight = nn.Parameter(torch.zeros(1))

    def encode(self, texts):
        self.seen.append(texts)
        return self.way(texts)


def test_numbers_are_taken_as_they_are():
    """The same memory, whatever the net."""
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = tensor(nn.Linear(3, 2), rows)
    assert (found.dtype, found.tolist(), found.data_ptr()) == (torch.float32, rows.tolist(), rows.ctypes.data)


def test_texts_are_encoded_by_the_net_all_at_once():
    net, texts = Lengths(), np.array(["one", "", "three"], object)
    assert tensor(net, texts).tolist() == [[3], [0], [5]]
    assert net.seen[0] == ["one", "", "three"]


def test_arrays_of_numpy_will_do():
    found = encode(Lengths(lambda texts: np.ones((len(texts), 2), np.int32)), ["a", "b"])
    assert (found.dtype, found.tolist()) == (torch.int32, [[1, 1], [1, 1]])


def test_which_nets_read_text():
    assert [reads_text(net) for net in (Lengths(), nn.Linear(3, 2))] == [True, False]
    with pytest.raises(InputError, match="net Linear: expected a net for text, with a method `encode`, found none"):
        encode(nn.Linear(3, 2), ["a"])


def broken(texts):
    raise KeyError("ä")


@pytest.mark.parametrize(
    ("way", "message"),
    [
        (lambda texts: torch.zeros(1, 3), r"net Lengths, encode: expected \(2, …\) numbers, found \(1, 3\)"),
        (lambda texts: torch.zeros(2), r"encode: expected \(2, …\) numbers, found \(2,\)"),
        (lambda texts: [[1], [2]], r"encode: expected \(2, …\) numbers, found list"),
        (lambda texts: None, r"encode: expected \(2, …\) numbers, found NoneType"),
        (broken, "net Lengths: expected texts that it can encode, found KeyError"),
    ],
)
def test_what_is_no_encoding_is_refused(way, message):
    with pytest.raises(InputError, match=message):
        encode(Lengths(way), ["a", "b"])


@pytest.mark.parametrize(
    ("facts", "dtype"),
    [(Images("L", (1, 2, 3)), torch.uint8), (Arrays("float16", (6,)), torch.float16), (Arrays("uint16", (6,)), torch.int32)],
)
def test_rows_to_try_a_net_with(facts, dtype):
    """Numbers that differ, small enough for every dtype."""
    found = example(None, facts, 3)
    assert (found.shape, found.dtype) == ((3, *facts.shape), dtype)
    assert found.flatten().tolist() == list(range(18))
    assert example(None, facts, 1000).max() == 127


def test_texts_to_try_a_net_with():
    """The empty one is among them, and they are not of one length."""
    found = example(Lengths(), Texts(), 3)
    assert found.shape == (3, 1)
    assert found[0] == 0
    assert found[0] == found[2] < found[1]


def padded(texts):
    """As many numbers as the longest of these texts has letters, as tokenizers make them that are not told a length."""
    return torch.ones(len(texts), max(map(len, texts)), dtype=torch.int64)


@pytest.mark.parametrize(
    ("way", "found"),
    [
        (padded, r"int64 \(3,\)"),
        (lambda texts: padded(texts)[:, :1] if len(texts) > 2 else padded(texts), r"int64 \(1,\)"),
        (lambda texts: torch.ones(len(texts), 25, dtype=torch.int32 if "one" in texts else torch.int64), r"int32 \(25,\)"),
    ],
)
def test_an_encoding_whose_shape_depends_on_the_texts_is_refused(way, found):
    """The text to try a net with has 25 letters. A length of 1 would fit any tensor, by repetition."""
    with pytest.raises(
        InputError, match=rf"net Lengths, encode: expected int64 \(25,\) for each text.*found {found}.*pad or cut"
    ):
        encode(Lengths(way), ["one", "two", "ten"])
    assert encode(Lengths(lambda texts: padded([*texts, "x" * 25])[:-1]), ["one", "two"]).shape == (2, 25)
