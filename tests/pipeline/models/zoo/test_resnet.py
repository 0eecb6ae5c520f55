"""Residual nets: published numbers of parameters, and the forward pass written out with torch's functions."""

import pytest
import torch
from torch.nn import functional

from pipeline.base.errors import InputError
from pipeline.models.build import parameter_count
from pipeline.models.zoo.layers import Pixels
from pipeline.models.zoo.resnet import resnet
from small_nets import made


def count(classes: int, *settings: int) -> int:
    return parameter_count(resnet((3, 32, 32), classes, *settings))


# As the nets of RepDistiller have them (models/resnet.py of the code of arXiv 1910.10699's authors, github.com/HobbitLong)
@pytest.mark.parametrize(
    ("settings", "expected"),
    [((8,), 83_892), ((14,), 181_108), ((20,), 278_324), ((32,), 472_756), ((44,), 667_188), ((56,), 861_620),
     ((110,), 1_736_564), ((8, 4), 1_233_540), ((32, 4), 7_433_860)],
)  # fmt: skip
def test_parameters_for_cifar_100_are_those_of_the_distillation_literature(settings, expected):
    assert count(100, *settings) == expected


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_parameters_for_cifar_10_are_those_of_he_et_al(depth, millions):
    """Table 6 of arXiv 1512.03385, whose shortcuts have no parameters: ours are two convolutions, 1×1, with their norms."""
    shortcuts = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert round(count(10, depth) - shortcuts, -4 if depth < 110 else -5) == round(millions * 1e6)


def test_the_forward_pass_is_the_written_one():
    """With statistics of the batch, and four times as wide: then the shape changes in the first stage as well."""
    net = made("resnet(depth=8, width=4)", shape=(3, 9, 8)).double()
    state = iter([parameter.detach() for parameter in net.parameters()])
    pixels = torch.randint(0, 256, (5, 3, 9, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))

    def normed(values: torch.Tensor, stride: int) -> torch.Tensor:
        kernel = next(state)
        seen = functional.conv2d(values, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        away = seen - seen.mean((0, 2, 3), keepdim=True)
        scaled = away / (away.square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()
        return scaled * next(state)[:, None, None] + next(state)[:, None, None]

    scaled = pixels.double() / 255
    values = normed(scaled, 1).clamp(min=0)
    assert values.shape[1] == 32
    for stride in (1, 2, 2):
        inside = normed(normed(values, stride).clamp(min=0), 1)
        values = (inside + normed(values, stride)).clamp(min=0)
    assert values.shape == (5, 256, 3, 2)
    expected = values.mean((2, 3)) @ next(state).T + next(state)
    assert isinstance(net[0], Pixels)
    torch.testing.assert_close(net.train()[1:](scaled), expected)


def test_convolutions_start_with_the_variance_of_he_et_al():
    for layer in resnet((3, 32, 32), 10, 8, 4).modules():
        if isinstance(layer, torch.nn.Conv2d) and layer.weight.numel() > 10_000:
            out, _, size, _ = layer.weight.shape
            assert layer.weight.var().item() == pytest.approx(2 / (out * size * size), rel=0.05)
            assert abs(layer.weight.mean().item()) < 0.02 * layer.weight.std().item()


@pytest.mark.parametrize("settings", ["depth=9", "depth=2", "depth=8.0", "depth='8x4'", "depth=8, width=0"])
def test_bad_settings_are_refused(settings):
    with pytest.raises(InputError, match="resnet (depth|width): expected .*Correct the model's spec"):
        made(f"resnet({settings})", shape=(3, 8, 8))


def test_it_is_for_images():
    with pytest.raises(InputError, match="model resnet: expected images, or arrays"):
        resnet((7,), 3, 8)
