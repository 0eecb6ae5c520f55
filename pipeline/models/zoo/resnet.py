"""Residual nets for small images, such as CIFAR's 32×32: He, Zhang, Ren, Sun 2016 (arXiv 1512.03385), section 4.2."""

from collections.abc import Sequence

import torch
from torch import nn

from pipeline.models.zoo.layers import Pixels, convolution, named, spatial_mean
from pipeline.models.zoo.requirements import require, sizes


class _Block(nn.Module):
    """Two 3×3 convolutions, and the shortcut past them: a 1×1 convolution where the shape changes."""

    def __init__(self, taken: int, given: int, stride: int):
        super().__init__()
        self.first = nn.Sequential(convolution(taken, given, 3, stride), nn.BatchNorm2d(given), nn.ReLU())
        self.second = nn.Sequential(convolution(given, given, 3), nn.BatchNorm2d(given))
        self.shortcut = nn.Sequential()
        if stride > 1 or taken != given:
            self.shortcut = nn.Sequential(convolution(taken, given, 1, stride), nn.BatchNorm2d(given))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.second(self.first(values)) + self.shortcut(values))


def resnet(shape: Sequence[int], classes: int, depth: int, width: int = 1) -> nn.Module:
    """A residual net of `depth` layers: a convolution, three stages of blocks, the mean over the image, a linear layer.

    The stages have 16, 32 and 64 channels, `width` times as many. The distillation literature's resnet8x4 and resnet32x4 (Tian,
    Krishnan, Isola 2020, arXiv 1910.10699) have width 4; as there, the first convolution of a wider net has 32 channels,
    and not 16, and shortcuts that change the shape are 1×1 convolutions, where the first paper fills up with zeros: so
    students compare with published ones.
    """
    require(len(shape) == 3, "model resnet", "images, or arrays (channels, height, width)", f"inputs of shape {tuple(shape)}")
    fits = sizes([depth]) and depth >= 8 and depth % 6 == 2
    require(fits, "resnet depth", "8, 14, 20, 32, 44, 56, 110, or another of 6 n + 2", depth)
    require(sizes([width]), "resnet width", "a whole number of at least 1", width)
    stem = 16 if width == 1 else 32
    layers: list[nn.Module] = [Pixels(), convolution(shape[0], stem, 3), nn.BatchNorm2d(stem), nn.ReLU()]
    taken, names = stem, {}
    for stage, given in enumerate((16 * width, 32 * width, 64 * width)):
        for block in range((depth - 2) // 6):
            layers.append(_Block(taken, given, 2 if stage and not block else 1))
            taken = given
        names[f"layer{stage + 1}"] = str(len(layers) - 1)
    return named(nn.Sequential(*layers, *spatial_mean(), nn.Linear(taken, classes)), names)
