"""Checkpoints: weights come back bit for bit, or not at all."""

import json

import pytest
import safetensors.torch
import torch

from conftest import RECIPE, tree
from pipeline.base.errors import BusyError, IntegrityError
from pipeline.base.facts import sealed
from pipeline.base.files import sha256
from pipeline.models.build import parse_model
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.modelfile import Data, Net, Shown
from pipeline.models.predict import predict
from pipeline.models.zoo import table as nets
from small_nets import PIXELS, Source, loaded, made, saved

CPU = torch.device("cpu")


def test_checkpoint_round_trip_is_bitwise_and_deterministic(tmp_path):
    net = saved(tmp_path / "one/a")
    saved(tmp_path / "two/a")
    assert tree(tmp_path / "one/a") == tree(tmp_path / "two/a")
    found = Checkpoint.teacher(tmp_path / "one/a")
    assert (found.inputs, found.classes, found.kind, found.name) == (Source().inputs, ("a", "b", "c"), "teacher", "a")
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


def test_any_changed_byte_is_found(tmp_path):
    saved(tmp_path / "a")
    path = tmp_path / "a/model.safetensors"
    whole = path.read_bytes()
    for place in range(0, len(whole), 17):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(IntegrityError, match="expected sha256"):
            loaded(tmp_path / "a")


@pytest.mark.parametrize("change", ["missing", "more", "shape"])
def test_weights_of_another_net_are_refused_though_they_are_bound(tmp_path, change):
    """model.json as someone would write it who knows how it is sealed."""
    saved(tmp_path / "a")
    weights = safetensors.torch.load_file(tmp_path / "a/model.safetensors")
    first = next(iter(weights))
    if change == "missing":
        del weights[first]
    elif change == "more":
        weights["other"] = torch.zeros(1)
    else:
        weights[first] = weights[first][:1].clone()
    data = safetensors.torch.save(weights)
    (tmp_path / "a/model.safetensors").write_bytes(data)
    facts = json.loads((tmp_path / "a/model.json").read_text())
    del facts["digest"]
    facts["nets"][0]["sha256"] = sha256(data)
    (tmp_path / "a/model.json").write_bytes(sealed(facts))
    with pytest.raises(
        IntegrityError,
        match=r"expected weights of mlp\(hidden=\[6\], .*\), found 1 (missing: |unexpected: |of another shape: )",
    ):
        loaded(tmp_path / "a")


def test_the_file_holds_the_state_as_it_is(tmp_path):
    """Read by safetensors alone, in the net's own order; buffers too, and what is not contiguous."""
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    with torch.no_grad():
        net[0].weight = torch.nn.Parameter(torch.arange(6.0).reshape(3, 2).T)
        net[1].running_mean += 0.5
    (tmp_path / "a").mkdir()
    Checkpoint.write(
        tmp_path / "a", kind="student", name="a", model=parse_model("mlp(hidden=[6])"), split=Source(),
        data=Data("i", "l", "vi", "vl"), nets={Net(3, None, 1): net, Net(4, None, 2, diverged=2): None}, history=[],
        recipe=RECIPE, views=Shown("none()", 0, ("version 1",), 1),
    )  # fmt: skip
    held = safetensors.torch.load_file(tmp_path / "a/seed-3.safetensors")
    assert held.keys() == net.state_dict().keys()
    assert all(torch.equal(held[name], value) for name, value in net.state_dict().items())
    found = Checkpoint.open(tmp_path / "a", kinds=["student"], name="a", fix="Mend it.")
    data = (tmp_path / "a/seed-3.safetensors").read_bytes()
    assert found.nets == (Net(3, sha256(data), 1), Net(4, None, 2, diverged=2))
    assert [net.seed for net in found.trained] == [3]
    assert sorted(tree(tmp_path / "a")) == ["history.parquet", "model.json", "seed-3.safetensors"]


def test_what_is_loaded_is_ready_to_be_asked(tmp_path):
    saved(tmp_path / "a", "mlp(hidden=[6], dropout=0.9)")
    assert not loaded(tmp_path / "a").training


def test_another_version_of_the_net_refuses_the_weights(tmp_path, monkeypatch):
    saved(tmp_path / "a")
    monkeypatch.setitem(nets.VERSIONS, "mlp", 2)
    with pytest.raises(IntegrityError, match="expected version 1, with which it was trained, found version 2. Run `softcache"):
        loaded(tmp_path / "a")


def test_a_folder_that_is_replaced_meanwhile_is_busy_and_not_damaged(tmp_path):
    saved(tmp_path / "a")
    opened = Checkpoint.teacher(tmp_path / "a")
    other = made("mlp(hidden=[6])", seed=8)
    (tmp_path / "a/model.safetensors").write_bytes(safetensors.torch.save(other.state_dict()))
    with pytest.raises(IntegrityError):
        opened.load(opened.nets[0], CPU)
    facts = json.loads((tmp_path / "a/model.json").read_text())
    del facts["digest"]
    (tmp_path / "a/model.json").write_bytes(sealed(facts | {"history_sha256": "0"}))
    with pytest.raises(BusyError, match="expected what it was when this started"):
        opened.load(opened.nets[0], CPU)
