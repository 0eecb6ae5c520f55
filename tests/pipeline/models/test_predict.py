"""The inference loop: every row once, in passes of one size, and nothing left behind."""

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.models.predict import HostBuffer, predict, tiles
from small_nets import PIXELS, made


@pytest.mark.parametrize("tile", [1, 5, 36, 37, 64])
def test_tiles_cover_every_row_once(tile):
    net = made("mlp(hidden=[6])")
    np.testing.assert_allclose(predict(net, PIXELS, tile=tile), net(PIXELS).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_every_forward_pass_has_the_tiles_size():
    sizes = []
    net = made("mlp(hidden=[6])")
    net.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    predict(net, PIXELS, tile=16)
    assert sizes == [16, 16, 16]


def test_prediction_is_in_evaluation_mode_and_restores_the_mode():
    net = made("mlp(hidden=[6], dropout=0.9)").train()
    assert (predict(net, PIXELS) == predict(net, PIXELS)).all()
    assert net.training


class Summed(nn.Module):
    """A logit that would tell of other rows: what a row gives, and the sum over all that are in the pass."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        rows = pixels.flatten(1).double().sum(1)
        return torch.stack([rows, rows.sum().expand(len(rows)), torch.full_like(rows, len(rows))], 1)


def test_what_the_last_tile_is_filled_up_with_is_black_and_has_no_logits():
    found = predict(Summed(), PIXELS, tile=16)
    rows = PIXELS.flatten(1).double().sum(1).numpy()
    assert found.shape == (37, 3)
    assert found.dtype == np.float32
    assert (found[:, 0] == rows).all()
    assert (found[:, 1] == [rows[start // 16 * 16 :][:16].sum() for start in range(37)]).all()  # zeros add nothing
    assert (found[:, 2] == 16).all()


def test_rows_that_fill_up_a_tile_change_no_logit():
    """The same bits whether five rows are padded, or followed by others that are then left out."""
    net = made("cnn(channels=[4], dropout=0.5)")
    assert (predict(net, PIXELS[:5], tile=16) == predict(net, PIXELS[:16], tile=16)[:5]).all()


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_put_back_whatever_happens(training):
    net, seen = made("mlp(hidden=[6])").train(training), []
    net.register_forward_hook(lambda module, inputs, output: seen.append(module.training))
    list(tiles(net, len(PIXELS), PIXELS.__getitem__, tile=16))
    assert net.training == training
    left = tiles(net, len(PIXELS), PIXELS.__getitem__, tile=16)
    next(left)
    left.close()
    assert net.training == training
    with pytest.raises(RuntimeError):
        predict(net, PIXELS[:, :, :2])
    assert net.training == training
    assert not any(seen)


def test_logits_of_a_stack_and_of_another_dtype_land_as_float32():
    landing = HostBuffer(3)
    landing.add(2, torch.full((1, 2, 4), 3, dtype=torch.bfloat16))
    landing.add(0, torch.full((2, 2, 4), 1.5))
    found = landing.numpy()
    assert (found.shape, found.dtype) == ((3, 2, 4), np.float32)
    assert found[:, 0, 0].tolist() == [1.5, 1.5, 3]
