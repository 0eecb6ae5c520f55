"""Layers of the built-in nets, which are of use in other nets as well."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn


class Pixels(nn.Module):
    """The first layer of a net: uint8 pixels to float32 in [0, 1], so that pixels are stored and moved as bytes.

    All other numbers stay as they are: what they range over, their dtype does not say.
    """

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Scale inputs.

        Args:
            inputs: Numbers of any shape.

        Returns:
            float32, of the same shape.
        """
        values = inputs.to(torch.float32)
        return values / 255 if inputs.dtype == torch.uint8 else values


class Dropout(nn.Module):
    """Zeroes each value with probability p while training and divides the others by 1 - p (Hinton et al. 2012).

    Like torch.nn.Dropout, with p rounded to a multiple of 1/65536: a mask takes 16 random bits per value. On a CPU that is
    five times as fast as torch's Bernoulli draws, which take half of the time of a step.
    """

    def __init__(self, p: float):
        super().__init__()
        self.dropped = round(p * 65536)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values * self.factors(values.shape, values) if self.training else values

    def factors(self, shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        """What values of this shape are multiplied by in training, 0 or 1 / (1 - p); dtype and device are those of `like`."""
        count = math.prod(shape)
        words = torch.randint(-(2**63), 2**63 - 1, (-(-count // 4),), device=like.device)  # 64 bits each
        kept = words.view(torch.int16)[:count].view(*shape) >= self.dropped - 32768
        return kept.to(like.dtype) * (65536 / (65536 - self.dropped))


def convolution(taken: int, given: int, size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution of size × size without bias, for a norm behind it; pads so that stride 1 keeps height and width.

    Its weights start with the variance 2 / (given · size²) of He et al. 2015 (arXiv 1502.01852), uniform and not normal,
    because torch's uniform numbers are the same on all processors.
    """
    layer = nn.Conv2d(taken, given, size, stride, padding=size // 2, bias=False)
    nn.init.kaiming_uniform_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def spatial_mean() -> list[nn.Module]:
    """The layers that take the mean over height and width: (B, channels, height, width) to (B, channels)."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten()]


def named(net: nn.Sequential, names: Mapping[str, str]) -> nn.Sequential:
    """Give layers of a net names, such as layer3, by which their outputs can be asked for; see models.watched.

    Args:
        net: The net.
        names: For each name the module that torch knows by a number.

    Returns:
        The net itself. Its weights keep the names that torch gives them.
    """
    net.layer_names = dict(names)  # type: ignore[assignment]  # torch's modules take attributes of any kind
    return net
