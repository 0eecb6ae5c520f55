"""Wide residual nets: Zagoruyko & Komodakis 2016 (arXiv 1605.07146)."""

from collections.abc import Sequence

import torch
from torch import nn

from pipeline.models.zoo.layers import Dropout, Pixels, convolution, named, spatial_mean
from pipeline.models.zoo.requirements import require, require_probability, sizes


class _Block(nn.Module):
    """Norm, rectifier and 3×3 convolution, twice, with dropout between the convolutions; and the shortcut past them.

    Where the number of channels changes, the shortcut is a 1×1 convolution of what the first rectifier gives.
    """

    def __init__(self, taken: int, given: int, stride: int, dropout: float):
        super().__init__()
        self.start = nn.Sequential(nn.BatchNorm2d(taken), nn.ReLU())
        between = [Dropout(dropout)] if dropout else []
        self.rest = nn.Sequential(
            convolution(taken, given, 3, stride), nn.BatchNorm2d(given), nn.ReLU(), *between, convolution(given, given, 3)
        )
        self.shortcut = convolution(taken, given, 1, stride) if taken != given else None

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        started = self.start(values)
        past = values if self.shortcut is None else self.shortcut(started)
        total: torch.Tensor = self.rest(started) + past
        return total


def wide_resnet(shape: Sequence[int], classes: int, depth: int, width: int, dropout: float = 0.0) -> nn.Module:
    """WRN-`depth`-`width`: a convolution, three stages of blocks, norm, rectifier, the mean over the image, a linear layer.

    The stages have 16, 32 and 64 channels, `width` times as many. dropout: in every block, see section 2.4 of the paper.
    """
    taken, names = 16, {}
    seen = f"inputs of shape {tuple(shape)}"
    require(len(shape) == 3, "model wide_resnet", "images, or arrays (channels, height, width)", seen)
    fits = sizes([depth]) and depth >= 10 and depth % 6 == 4
    require(fits, "wide_resnet depth", "10, 16, 22, 28, 40, or another of 6 n + 4", depth)
    require(sizes([width]), "wide_resnet width", "a whole number of at least 1", width)
    require_probability("wide_resnet dropout", dropout)
    layers: list[nn.Module] = [Pixels(), convolution(shape[0], taken, 3)]
    for stage, given in enumerate((16 * width, 32 * width, 64 * width)):
        for block in range((depth - 4) // 6):
            layers.append(_Block(taken, given, 2 if stage and not block else 1, dropout))
            taken = given
        names[f"layer{stage + 1}"] = str(len(layers) - 1)
    last = [nn.BatchNorm2d(taken), nn.ReLU(), *spatial_mean(), nn.Linear(taken, classes)]
    return named(nn.Sequential(*layers, *last), names)
