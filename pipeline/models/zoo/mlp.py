"""The multilayer perceptron: linear layers with rectifiers between them."""

import math
from collections.abc import Sequence

from torch import nn

from pipeline.models.zoo.layers import Dropout, Pixels, named
from pipeline.models.zoo.requirements import require, require_probability, sizes


def mlp(
    shape: Sequence[int], classes: int, hidden: Sequence[int], dropout: float = 0.0, input_dropout: float = 0.0
) -> nn.Module:
    """Rectified-linear layers of the sizes in `hidden`; dropout as in Hinton et al. 2012 (arXiv 1207.0580)."""
    require(sizes(hidden), "mlp hidden", "a list of layer sizes such as [1200, 1200]", hidden)
    require_probability("mlp dropout", dropout)
    require_probability("mlp input_dropout", input_dropout)
    layers: list[nn.Module] = [Pixels(), nn.Flatten()]
    if input_dropout:
        layers.append(Dropout(input_dropout))
    width = math.prod(shape)
    names = {}
    for index, size in enumerate(hidden, start=1):
        layers += [nn.Linear(width, size), nn.ReLU()]
        names[f"layer{index}"] = str(len(layers) - 1)
        if dropout:
            layers.append(Dropout(dropout))
        width = size
    return named(nn.Sequential(*layers, nn.Linear(width, classes)), names)
