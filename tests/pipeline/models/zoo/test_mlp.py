"""The perceptron against the written formula."""

import numpy as np

from pipeline.models.predict import predict
from small_nets import PIXELS, made


def test_mlp_is_the_written_formula():
    net = made("mlp(hidden=[6])")
    first, first_bias, second, second_bias = (parameter.detach().numpy() for parameter in net.parameters())
    inputs = PIXELS.flatten(1).numpy() / np.float32(255)
    expected = np.maximum(inputs @ first.T + first_bias, 0) @ second.T + second_bias
    np.testing.assert_allclose(predict(net, PIXELS), expected, rtol=1e-5, atol=1e-6)
