"""The small convnet against the written formula."""

import numpy as np
import torch

from pipeline.models.predict import predict
from small_nets import PIXELS, made


def test_colour_and_grey():
    assert made("cnn(channels=[4])", shape=(3, 8, 8))(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)).shape == (2, 3)


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
