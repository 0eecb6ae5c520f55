"""Pixels as nets of other libraries take them."""

import numpy as np
import torch
from torch import nn

from pipeline.models.scaled import Scaled


def test_pixels_are_scaled_by_channel_and_floats_are_not():
    net = Scaled(nn.Identity(), 3, [0.5, 0.25, 0.0], [0.5, 1.0, 0.25], None)
    pixels = torch.tensor([255, 0, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    np.testing.assert_allclose(net(pixels).flatten(), [1.0, -0.25, 0.8], rtol=1e-6)
    floats = torch.tensor([2.0, 3.0, 4.0]).view(1, 3, 1, 1)
    assert torch.equal(net(floats), floats)
    assert not net.state_dict()


def test_grey_is_shown_in_all_channels():
    net = Scaled(nn.Identity(), 3, [0.0, 0.5, 1.0], [1.0, 0.5, 1.0], None)
    assert net(torch.tensor([255], dtype=torch.uint8).view(1, 1, 1, 1)).flatten().tolist() == [1.0, 1.0, 0.0]
