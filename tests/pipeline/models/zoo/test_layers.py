"""Layers: pixels as numbers, and dropout by its statistics."""

import numpy as np
import pytest
import torch

from pipeline.models.zoo.layers import Dropout, Pixels


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "float16", "float32"])
def test_bytes_are_divided_by_255_and_other_numbers_taken_as_they_are(dtype):
    """uint16 is read as int32: what a dtype could hold says nothing of what is there."""
    numbers = torch.tensor([[0, 1, 51, 127]])
    assert Pixels()(numbers.to(getattr(torch, dtype))).tolist() == [[0, 1, 51, 127]]
    assert Pixels()(numbers.to(torch.uint8)).tolist() == (np.array([[0, 1, 51, 127]], np.float32) / np.float32(255)).tolist()


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.uint8, [0, 1 / 255, 127 / 255]),
        (torch.int8, [0, 1, 127]),
        (torch.int16, [0, 1, 127]),
        (torch.int64, [0, 1, 127]),
        (torch.float32, [0, 1, 127]),
        (torch.float16, [0, 1, 127]),
    ],
)
def test_bytes_are_scaled_and_other_numbers_stay(dtype, expected):
    found = Pixels()(torch.tensor([0, 1, 127], dtype=dtype))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(("p", "odd"), [(0.5, 7), (0.2, 4), (0.9, 1)])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_dropout_drops_its_share_and_keeps_the_mean(p, odd, kind):
    layer, values = Dropout(p), torch.ones(997, 200 + odd, dtype=kind)
    torch.manual_seed(3)
    seen = layer(values)
    dropped = (seen == 0).double().mean().item()
    assert abs(dropped - p) < 5 * (p * (1 - p) / values.numel()) ** 0.5  # five standard deviations
    assert set(seen.unique().tolist()) == {0.0, torch.tensor(1 / (1 - layer.dropped / 65536)).to(kind).item()}
    again = layer(values)
    assert abs(((again == 0) & (seen == 0)).double().mean().item() - p * p) < 0.005, "masks depend on each other"
    columns = (seen == 0).double().mean(0)
    assert (columns - p).abs().max() < 6 * (p * (1 - p) / 997) ** 0.5, "some units are dropped more often"
    torch.manual_seed(3)
    assert torch.equal(seen, layer(values))
    assert torch.equal(layer.eval()(values), values)


def test_dropout_gives_gradients_to_what_it_kept():
    layer, values = Dropout(0.5), torch.randn(50, 40, requires_grad=True)
    seen = layer(values)
    seen.sum().backward()
    assert torch.equal(values.grad, (seen != 0) * 2.0)
