"""Wide residual nets: published numbers of parameters, and the forward pass written out with torch's functions."""

import pytest
import torch
from torch.nn import functional

from pipeline.base.errors import InputError
from pipeline.models.build import parameter_count
from pipeline.models.zoo.layers import Dropout, Pixels
from pipeline.models.zoo.wide_resnet import wide_resnet
from small_nets import made

# WRN-28-10: "36.5M" in table 4 of arXiv 1605.07146; the exact numbers as the nets of RepDistiller (models/wrn.py) and of
# imgclsmob (pytorchcv/models/wrn_cifar.py) have them.
COUNTS = {
    (100, 40, 1): 569_780, (100, 40, 2): 2_255_156, (100, 16, 2): 703_284, (100, 28, 10): 36_536_884,
    (10, 28, 10): 36_479_194, (10, 40, 2): 2_243_546,
}  # fmt: skip


@pytest.mark.parametrize(("classes", "depth", "width"), COUNTS)
def test_parameters_are_those_of_the_literature(classes, depth, width):
    with torch.device("meta"):  # no memory, and no time to fill it
        net = wide_resnet((3, 32, 32), classes, depth, width)
    assert parameter_count(net) == COUNTS[classes, depth, width]


def test_the_narrowest_of_the_paper():
    """WRN-16-1: 0.2M, in table 1 of arXiv 1612.03928; by hand for 10 classes, block by block."""

    def block(taken: int, given: int) -> int:
        return 2 * taken + 9 * taken * given + 2 * given + 9 * given**2 + (taken * given if taken != given else 0)

    blocks = 2 * block(16, 16) + block(16, 32) + block(32, 32) + block(32, 64) + block(64, 64)
    expected = 27 * 16 + blocks + 2 * 64 + 64 * 10 + 10
    assert parameter_count(wide_resnet((3, 32, 32), 10, 16, 1)) == expected
    assert round(expected / 1e6, 1) == 0.2


@pytest.mark.parametrize("width", [1, 2])
def test_the_forward_pass_is_the_written_one(width):
    """In evaluation, with running statistics of its own in every norm; the first stage of a net of width 1 changes no shape."""
    net = made(f"wide_resnet(depth=10, width={width}, dropout=0.5)", shape=(3, 8, 6)).double()
    numbers = torch.Generator().manual_seed(2)
    norms = [layer for layer in net.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for norm in norms:
        for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
            tensor.uniform_(0.5, 1.5, generator=numbers)
    norms, kernels = iter(norms), iter([each.weight for each in net.modules() if isinstance(each, torch.nn.Conv2d)])
    pixels = torch.randint(0, 256, (5, 3, 8, 6), dtype=torch.uint8, generator=numbers)

    def started(values: torch.Tensor) -> torch.Tensor:
        norm = next(norms)
        scale = norm.weight / (norm.running_var + 1e-5).sqrt()
        return (values * scale[:, None, None] + (norm.bias - norm.running_mean * scale)[:, None, None]).clamp(min=0)

    scaled = pixels.double() / 255
    values = functional.conv2d(scaled, next(kernels), padding=1)
    for stage, stride in enumerate((1, 2, 2)):
        first = started(values)
        inside = functional.conv2d(first, next(kernels), padding=1, stride=stride)
        inside = functional.conv2d(started(inside), next(kernels), padding=1)
        changes = stage or width > 1
        values = inside + (functional.conv2d(first, next(kernels), stride=stride) if changes else values)
    last = net[-1]
    expected = started(values).mean((2, 3)) @ last.weight.T + last.bias
    assert isinstance(net[0], Pixels)
    torch.testing.assert_close(net[1:](scaled), expected)


def test_dropout_is_in_every_block():
    net = wide_resnet((3, 8, 8), 3, 16, 2, 0.3)
    assert [each.dropped for each in net.modules() if isinstance(each, Dropout)] == [round(0.3 * 65536)] * 6


@pytest.mark.parametrize(
    "settings", ["depth=8, width=1", "depth=4, width=1", "depth=10, width=0", "depth=10, width=1, dropout=1"]
)
def test_bad_settings_are_refused(settings):
    with pytest.raises(InputError, match="wide_resnet (depth|width|dropout): expected .*Correct the model's spec"):
        made(f"wide_resnet({settings})", shape=(3, 8, 8))


def test_it_is_for_images():
    with pytest.raises(InputError, match="model wide_resnet: expected images, or arrays"):
        wide_resnet((7,), 3, 10, 1)
