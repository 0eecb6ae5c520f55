"""The small convnet: convolutions, rectifiers and pooling, and a linear layer."""

from collections.abc import Sequence

from torch import nn

from pipeline.models.zoo.layers import Dropout, Pixels, named
from pipeline.models.zoo.requirements import require, require_probability, sizes


def cnn(shape: Sequence[int], classes: int, channels: Sequence[int], dropout: float = 0.0) -> nn.Module:
    """3×3 convolutions, each with a rectifier and 2×2 max pooling while the image is large enough; one linear layer."""
    require(len(shape) == 3, "model cnn", "images, or arrays (channels, height, width)", f"inputs of shape {tuple(shape)}")
    require(sizes(channels), "cnn channels", "a list of channel counts such as [32, 64]", channels)
    require_probability("cnn dropout", dropout)
    width, height, breadth = shape
    layers: list[nn.Module] = [Pixels()]
    names = {}
    for index, size in enumerate(channels, start=1):
        layers += [nn.Conv2d(width, size, 3, padding=1), nn.ReLU()]
        if min(height, breadth) >= 2:
            layers.append(nn.MaxPool2d(2))
            height, breadth = height // 2, breadth // 2
        width, names[f"layer{index}"] = size, str(len(layers) - 1)
    layers.append(nn.Flatten())
    if dropout:
        layers.append(Dropout(dropout))
    return named(nn.Sequential(*layers, nn.Linear(width * height * breadth, classes)), names)
