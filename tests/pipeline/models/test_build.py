"""Built-in nets, their checkpoints, and prediction in tiles."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import tree, write_teacher
from pipeline.base.errors import InputError, IntegrityError
from pipeline.base.facts import sealed
from pipeline.models import zoo
from pipeline.models.build import build, parameter_count, parse_model
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.predict import predict

CPU = torch.device("cpu")
PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (37, 1, 5, 4), dtype=np.uint8))


def made(text: str, seed=0, shape=(1, 5, 4)) -> torch.nn.Module:
    return build(parse_model(text), shape, 3, seed=seed).eval()


def test_mlp_is_the_written_formula():
    net = made("mlp(hidden=[6])")
    first, first_bias, second, second_bias = (parameter.detach().numpy() for parameter in net.parameters())
    inputs = PIXELS.flatten(1).numpy() / np.float32(255)
    expected = np.maximum(inputs @ first.T + first_bias, 0) @ second.T + second_bias
    np.testing.assert_allclose(predict(net, PIXELS), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mlp(hidden=[])", 20 * 3 + 3),
        ("mlp(hidden=[7, 6], dropout=0.5, input_dropout=0.2)", 20 * 7 + 7 + 7 * 6 + 6 + 6 * 3 + 3),
        ("cnn(channels=[4, 8, 8, 8])", 9 * 4 + 4 + 9 * 32 + 8 + 2 * (9 * 64 + 8) + 8 * 3 + 3),
    ],
)
def test_sizes(text, expected):
    net = made(text)
    assert parameter_count(net) == expected
    assert net(PIXELS).shape == (37, 3)


def test_colour_and_grey():
    assert made("cnn(channels=[4])", shape=(3, 8, 8))(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)).shape == (2, 3)


@pytest.mark.parametrize(("p", "odd"), [(0.5, 7), (0.2, 4), (0.9, 1)])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_dropout_drops_its_share_and_keeps_the_mean(p, odd, kind):
    layer, values = zoo.Dropout(p), torch.ones(997, 200 + odd, dtype=kind)
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
    layer, values = zoo.Dropout(0.5), torch.randn(50, 40, requires_grad=True)
    seen = layer(values)
    seen.sum().backward()
    assert torch.equal(values.grad, (seen != 0) * 2.0)


def test_initial_weights_depend_on_the_seed_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = made("mlp(hidden=[6])", seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    second, third = made("mlp(hidden=[6])", seed=1), made("mlp(hidden=[6])", seed=2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(next(first.parameters()), next(third.parameters()))


@pytest.mark.parametrize(
    "text",
    [
        "mlp(hidden=5)",
        "mlp(hidden=[0])",
        "mlp(hidden=[2.5])",
        "mlp(hidden=[5], dropout=1)",
        "mlp(hidden=[5], dropout=0.999999)",
        "cnn(channels='x')",
        "mlp(hidden=[5], input_dropout=-0.1)",
    ],
)
def test_bad_settings_are_refused(text):
    with pytest.raises(InputError, match="Correct the model's spec"):
        made(text)


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
    (tmp_path / "nets_of_mine.py").write_text(PLUG_IN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SOFTCACHE_PLUGINS", "nets_of_mine")
    yield tmp_path / "nets_of_mine.py"
    sys.modules.pop("nets_of_mine", None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wide", r"logits of shape \(2, 3\) for two images, found \(2, 4\)"),
        ("frozen", "parameters to train"),
        ("tied", "tied ones"),
        ("breaks", "a net for uint8 pixels"),
        ("loose", "settings by name"),
    ],
)
def test_plug_ins_that_cannot_be_used_are_refused_at_once(plug_in, name, message):
    with pytest.raises(InputError, match=message):
        made(f"nets_of_mine:{name}()")


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


# ---------------------------------------------------------------- prediction


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


# ---------------------------------------------------------------- checkpoints


@dataclass
class Source:
    """What a checkpoint wants of a split."""

    shape: tuple = (1, 5, 4)
    classes: tuple = ("a", "b", "c")
    path: Path = Path("nowhere/train.parquet")
    inputs_digest: str = "inputs"
    labels_digest: str = "labels"


def saved(folder, text="mlp(hidden=[6])"):
    net = made(text, seed=7)
    write_teacher(folder, net, Source(), model=text, seed=7)
    return net


def loaded(folder):
    checkpoint = Checkpoint.teacher(folder)
    return checkpoint.load(checkpoint.nets[0], CPU)


def test_checkpoint_round_trip_is_bitwise_and_deterministic(tmp_path):
    net = saved(tmp_path / "one/a")
    saved(tmp_path / "two/a")
    assert tree(tmp_path / "one/a") == tree(tmp_path / "two/a")
    found = Checkpoint.teacher(tmp_path / "one/a")
    assert (found.shape, found.classes, found.kind, found.name) == ((1, 5, 4), ("a", "b", "c"), "teacher", "a")
    assert [net.seed for net in found.nets] == [7]
    assert found.history()[0]["valid_nll"] == 1.0
    assert (predict(loaded(tmp_path / "one/a"), PIXELS) == predict(net, PIXELS)).all()


@pytest.mark.parametrize("damage", ["missing", "truncated", "other model", "pickle"])
def test_bad_weights_are_refused(tmp_path, damage):
    saved(tmp_path / "a")
    path = tmp_path / "a/model.safetensors"
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-8])
    elif damage == "pickle":
        torch.save({"x": torch.zeros(1)}, path)
    else:
        saved(tmp_path / "other", "mlp(hidden=[9])")
        path.write_bytes((tmp_path / "other/model.safetensors").read_bytes())
    with pytest.raises(IntegrityError, match=r"model.safetensors: expected sha256 .* Run `softcache teach a --data"):
        loaded(tmp_path / "a")


def test_an_unknown_version_an_edit_and_another_role_are_refused(tmp_path):
    saved(tmp_path / "a")
    path = tmp_path / "a/model.json"
    before = path.read_bytes()
    facts = json.loads(before)
    del facts["digest"]
    for change, message in (
        ({"version": 9}, "expected version 4, found version 9"),
        ({"kind": "student"}, "kind: expected teacher, found student"),
        ({"name": "b"}, "name: expected a, found b"),
        ({"classes": "abc"}, "expected facts of the right types, found classes: "),
        ({"nets": []}, "expected nets of different seeds"),
    ):
        path.write_bytes(sealed(facts | change))
        with pytest.raises(IntegrityError, match=message):
            Checkpoint.teacher(tmp_path / "a")
    path.write_bytes(before.replace(b'"seed": 7', b'"seed": 8'))
    with pytest.raises(IntegrityError, match="expected facts with their digest, as they were written"):
        Checkpoint.teacher(tmp_path / "a")
