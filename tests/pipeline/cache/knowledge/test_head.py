"""The head on disk, and what it makes of hidden states."""

import numpy as np
import pytest

from pipeline.cache.knowledge.head import Head, channels_of

WEIGHT, BIAS = np.array([[1, 2], [3, 4], [0, -1]], np.float32), np.array([0.5, 0, -1], np.float32)


def test_a_head_comes_back_from_its_bytes():
    for channels in (None, np.array([1, 2], np.float32)):
        data = Head(WEIGHT, BIAS, channels).to_bytes()
        back = Head.of_bytes(data)
        assert (back.weight.tolist(), back.bias.tolist()) == (WEIGHT.tolist(), BIAS.tolist())
        assert (back.channels is None) if channels is None else (back.channels == channels).all()
        assert back.to_bytes() == data


@pytest.mark.parametrize("data", [b"", b"x" * 40, (3).to_bytes(8, "little") + b"{}x"])
def test_other_bytes_are_no_head(data):
    with pytest.raises(ValueError, match="no head"):
        Head.of_bytes(data)


def test_logits_by_hand():
    assert Head(WEIGHT, BIAS).logits(np.array([[1, -1]], np.float32)).tolist() == [[-0.5, -1, 0]]


def test_the_scale_of_a_channel_is_its_largest_number():
    assert channels_of(np.array([[1, 0, -3], [-2, 0, 2]], np.float32)).tolist() == [2, 1, 3]
