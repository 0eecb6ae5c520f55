"""Building: weights of their seed alone, and what is no net that can be trained and kept."""

import sys

import pytest
import safetensors
import torch

import plugs
from pipeline.base.errors import InputError, IntegrityError
from pipeline.data.inputs.image import Images
from pipeline.models.build import build, flops, parse_model, placed
from pipeline.models.predict import predict
from small_nets import PIXELS, loaded, made, saved


def test_initial_weights_depend_on_the_seed_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = made("mlp(hidden=[6])", seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    second, third = made("mlp(hidden=[6])", seed=1), made("mlp(hidden=[6])", seed=2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(next(first.parameters()), next(third.parameters()))


PLUG_IN = """
import torch
from torch import nn

def wide(shape, classes):
    return nn.Sequential(nn.Flatten(), Floats(), nn.Linear(20, classes + 1))

class Floats(nn.Module):
    def forward(self, x):
        return x.float()

def frozen(shape, classes):
    return nn.Sequential(nn.Flatten(), Floats(), nn.AdaptiveAvgPool1d(classes))

def tied(shape, classes):
    one, two = nn.Linear(20, 20), nn.Linear(20, 20)
    two.weight = one.weight
    return nn.Sequential(nn.Flatten(), Floats(), one, two, nn.Linear(20, classes))

def breaks(shape, classes):
    return nn.Linear(3, 3)

def good(shape, classes, width=4):
    return nn.Sequential(nn.Flatten(), Floats(), nn.Linear(20, width), nn.Linear(width, classes))

def loose(shape, classes, **settings):
    return good(shape, classes)
"""


@pytest.fixture
def plug_in(tmp_path, monkeypatch):
    with plugs.module(tmp_path, monkeypatch, "nets_of_mine", PLUG_IN) as path:
        yield path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wide", r"logits of shape \(2, 3\) for two rows, found \(2, 4\)"),
        ("frozen", "parameters to train"),
        ("breaks", "a net for uint8 image inputs of shape \\(1, 5, 4\\)"),
        ("loose", "settings by name"),
    ],
)
def test_plug_ins_that_cannot_be_used_are_refused_at_once(plug_in, name, message):
    with pytest.raises(InputError, match=message):
        made(f"nets_of_mine:{name}()")


def test_tied_weights_are_saved_once_and_stay_tied(plug_in, tmp_path):
    net = saved(tmp_path / "a", "nets_of_mine:tied()")
    found = loaded(tmp_path / "a")
    assert (predict(found, PIXELS) == predict(net, PIXELS)).all()
    assert len(list(found.parameters())) == len(list(net.parameters())) == len(net.state_dict()) - 1
    with safetensors.safe_open(tmp_path / "a/model.safetensors", "pt") as file:
        assert len(file.keys()) == len(net.state_dict()) - 1


def test_a_plug_in_is_built_saved_and_bound_to_its_code(plug_in, tmp_path):
    net = saved(tmp_path / "a", "nets_of_mine:good(width=5)")
    assert (predict(loaded(tmp_path / "a"), PIXELS) == predict(net, PIXELS)).all()
    for code in (
        f"{PLUG_IN}# a comment\n",
        PLUG_IN.replace("def wide", "def other(shape, classes):\n    return 1\n\ndef wide"),
    ):
        plug_in.write_text(code)
        sys.modules.pop("nets_of_mine")  # as in a new process
        loaded(tmp_path / "a")
    plug_in.write_text(PLUG_IN.replace("x.float()", "x.float() * 1"))
    sys.modules.pop("nets_of_mine")
    with pytest.raises(
        IntegrityError, match=r"model nets_of_mine:good\(width=5\): expected [0-9a-f]{64}, with which it was trained, found"
    ):
        loaded(tmp_path / "a")


def test_operations_by_hand():
    """Two for every weight, at every place: 5×4 of the first convolution, 2×2 of the second, once of the linear layer."""
    net = made("cnn(channels=[3, 2])").train()
    assert flops(net, PIXELS[:2]) == 2 * (20 * 3 * 9 + 4 * 2 * 3 * 9 + 2 * 3)
    assert net.training
    assert flops(made("mlp(hidden=[7])"), PIXELS[:3]) == 2 * (20 * 7 + 7 * 3)


def test_a_net_that_is_built_is_to_be_trained():
    assert build(parse_model("mlp(hidden=[6], dropout=0.5)"), Images("L", (1, 5, 4)), 3).training


def test_convolutions_of_colour_images_get_their_channels_last():
    """In memory alone: the values stay as they are, and so do the logits, up to rounding."""
    pixels = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    net, same = made("cnn(channels=[4, 8])", shape=(3, 8, 8)), made("cnn(channels=[4, 8])", shape=(3, 8, 8))
    assert placed(net, torch.device("cpu")) is net
    assert [each.weight.stride()[1] for each in net if isinstance(each, torch.nn.Conv2d)] == [1, 1]
    assert all(torch.equal(one, other) for one, other in zip(net.parameters(), same.parameters(), strict=True))
    torch.testing.assert_close(net(pixels), same(pixels))
    grey = placed(made("cnn(channels=[4, 8])", shape=(1, 8, 8)), torch.device("cpu"))
    assert all(each.is_contiguous() for each in grey.parameters())
