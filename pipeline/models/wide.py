"""Wide layers: how a stack of nets of linear layers runs. Values are kept as (nets, features, B), rows last.

All nets share their input, so their first linear layers are one product, with the units of all nets below each other. The
others are products of small matrices, one for each net. With the rows last, torch copies nothing before and after them, and a
softmax over the classes works on several rows at a time.
"""

from collections.abc import Sequence

import torch
from torch import nn

from pipeline.models.zoo.layers import Dropout


def layers_of(net: nn.Module) -> list[nn.Module]:
    """The layers of a net that can run here; empty for another net.

    They are layers without parameters, of which the last is nn.Flatten, and then nn.Linear with bias, nn.ReLU and
    layers.Dropout alone; layers.Dropout may come before as well.
    """
    layers = list(net) if type(net) is nn.Sequential else []
    start = _first_linear(layers)
    before, after = layers[:start], layers[start:]
    shaping = [each for each in before if type(each) is not Dropout]
    linear = [each for each in after if type(each) is nn.Linear]
    suits = (
        bool(shaping and linear)
        and type(shaping[-1]) is nn.Flatten
        and (shaping[-1].start_dim, shaping[-1].end_dim) == (1, -1)
        and not any(True for each in before for _ in each.parameters())
        and all(type(each) in (nn.Linear, nn.ReLU, Dropout) for each in after)
        and [id(each) for layer in linear for each in (layer.weight, layer.bias)] == [id(each) for each in net.parameters()]
    )
    return layers if suits else []


def logits(layers: Sequence[nn.Module], stacked: Sequence[torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
    """The logits of all nets, (B, nets, classes).

    layers: of one of the nets, see `layers_of`. stacked: weights (nets, out, in) and biases (nets, out), layer by layer.
    inputs: (B, *shape).
    """
    start, weights = _first_linear(layers), iter(stacked)
    shared = inputs
    for layer in layers[:start]:
        shared = layer(shared)  # in the end (B, in)
    weight, bias = next(weights), next(weights)
    nets, rows = len(weight), len(inputs)
    values = torch.addmm(bias.view(-1, 1), weight.flatten(0, 1), shared.t()).view(nets, -1, rows)
    for layer in layers[start + 1 :]:
        if isinstance(layer, nn.Linear):
            weight, bias = next(weights), next(weights)
            values = torch.baddbmm(bias[:, :, None], weight, values)
        elif not isinstance(layer, Dropout):
            values = layer(values)
        elif layer.training:  # the same units in all nets: those that a net by itself would lose
            values = values * layer.factors((rows, values.shape[1]), values).t().contiguous()
    return values.permute(2, 0, 1)


def _first_linear(layers: Sequence[nn.Module]) -> int:
    """The index of the first linear layer; the number of layers where there is none."""
    return next((index for index, layer in enumerate(layers) if type(layer) is nn.Linear), len(layers))
