"""Wide layers: stacks of linear layers give what torch.func.vmap and the nets by themselves give.

test_stack.py compares whole trainings.
"""

import pytest
import torch
from torch import nn

from pipeline.models import wide
from pipeline.models.stack import Stack
from pipeline.models.zoo.layers import Pixels
from pipeline.models.zoo.mlp import mlp

SHAPE, CLASSES, ROWS = (1, 6, 6), 5, 7
PIXELS = torch.randint(0, 256, (ROWS, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Doubles(nn.Module):
    """What Pixels gives, in float64."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.double() / 255


def dropped_mlp() -> nn.Module:
    net = mlp(SHAPE, CLASSES, hidden=[8, 6], dropout=0.3, input_dropout=0.1)
    net[0] = Doubles()
    return net.double()


def test_layers_side_by_side_give_what_vmap_gives():
    """The same logits and gradients, with the same dropout."""
    torch.manual_seed(0)
    several = [dropped_mlp() for _ in range(3)]
    stack, by_vmap = Stack(several).train(), Stack(several).train()
    assert stack._layers
    by_vmap._layers = []
    found = []
    for each in (stack, by_vmap):
        torch.manual_seed(5)
        logits = each(PIXELS)
        (logits * torch.arange(logits.numel()).view(logits.shape)).sum().backward()
        found.append([logits, *(parameter.grad for parameter in each.parameters())])
    for here, there in zip(*found, strict=True):
        torch.testing.assert_close(here, there, rtol=1e-12, atol=1e-12)
    assert not torch.equal(found[0][0], stack(PIXELS))  # dropout does hit units


def test_logits_are_those_of_each_net():
    torch.manual_seed(0)
    several = [dropped_mlp().eval() for _ in range(3)]
    layers = wide.layers_of(several[0])
    stacked = [torch.stack(each) for each in zip(*(net.parameters() for net in several), strict=True)]
    together = wide.logits(layers, stacked, PIXELS)
    assert together.shape == (ROWS, 3, CLASSES)
    torch.testing.assert_close(together, torch.stack([net(PIXELS) for net in several], dim=1), rtol=1e-12, atol=1e-12)


class Sum(nn.Sequential):
    """Layers that are not run one after the other alone."""

    def forward(self, pixels):
        return super().forward(pixels) + 1


def of_layers(kind: str) -> nn.Module:
    """A net that is nearly linear layers alone."""
    shared, last = nn.Linear(36, 36), nn.Linear(36, CLASSES)
    start = [Pixels(), nn.Flatten()]
    return {
        "no bias": lambda: nn.Sequential(*start, nn.Linear(36, 36, bias=False), nn.ReLU(), last),
        "one layer twice": lambda: nn.Sequential(*start, shared, nn.ReLU(), shared, last),
        "layer norm": lambda: nn.Sequential(*start, shared, nn.LayerNorm(36), last),
        "scaled before": lambda: nn.Sequential(Pixels(), nn.LayerNorm(6), nn.Flatten(), last),
        "softmax": lambda: nn.Sequential(*start, shared, nn.Softmax(dim=1), last),
        "flat at the end": lambda: nn.Sequential(Pixels(), nn.Linear(6, 6), nn.Flatten(), last),
        "own forward": lambda: Sum(*start, last),
        "no linear layer": lambda: nn.Sequential(Pixels(), nn.Conv2d(1, CLASSES, 6), nn.Flatten()),
    }[kind]()


@pytest.mark.parametrize(
    "kind",
    [
        "no bias",
        "one layer twice",
        "layer norm",
        "scaled before",
        "softmax",
        "flat at the end",
        "own forward",
        "no linear layer",
    ],
)
def test_nets_of_other_layers_are_run_by_vmap(kind):
    several = [of_layers(kind) for _ in range(3)]
    assert wide.layers_of(several[0]) == []
    together = Stack(several)(PIXELS)
    torch.testing.assert_close(together, torch.stack([net(PIXELS) for net in several], dim=1))
