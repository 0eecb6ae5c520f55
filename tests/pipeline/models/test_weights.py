"""Weights that another program wrote: read without unpickling, and all of a net or none."""

import pickle

import pytest
import safetensors.torch
import torch
from torch import nn

from foreign import pictures, refused
from pipeline.base.errors import InputError
from pipeline.models.weights import read


class Whole:
    """What torch.save pickles whole."""


def test_weights_that_do_not_fit(mine, tmp_path):
    pictures(tmp_path, 8)
    net = "nets_of_theirs:build()"
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(Whole()))
    torch.save(nn.Linear(3, 3), tmp_path / "whole.pt")
    torch.save({"epoch": 3, "optimizer": {}}, tmp_path / "other.pt")
    torch.save(nn.Linear(3, 3).state_dict(), tmp_path / "linear.pt")
    state = mine.state_dict()
    torch.save({name: value for name, value in state.items() if "bias" not in name}, tmp_path / "partly.pt")
    torch.save(state | {"inside.bias": torch.zeros(9)}, tmp_path / "shape.pt")
    torch.save(state | {"out.weight": torch.zeros(1000, 8), "out.bias": torch.zeros(1000)}, tmp_path / "thousand.pt")
    torch.save(state | {"offset": torch.full((8,), torch.nan)}, tmp_path / "nan.pt")
    (tmp_path / "cut.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    for file, message in (
        ("none.pt", "none.pt: expected a file, found none. Correct `weights`"),
        ("pickle.pt", r"pickle.pt: expected tensors that load without running code \(weights_only\), found a pickle"),
        ("whole.pt", r"whole.pt: expected tensors that load without running code .* Save its state_dict alone"),
        ("other.pt", "other.pt: expected a state_dict: tensors by name, found a dict with epoch, optimizer"),
        ("linear.pt", "found 12 missing: offset, inside.weight, .*; 2 unexpected: weight, bias"),
        ("partly.pt", "4 missing: inside.bias, again.bias, norm.bias, out.bias"),
        ("shape.pt", r"1 of another shape: inside.bias \(9,\) for \(8,\)"),
        ("thousand.pt", "teacher big, classes: expected 3, as in the transfer set, found 1,000 outputs. Say which"),
        ("nan.pt", "teacher big, valid row 0, class cat: expected a finite logit, found nan"),
        ("cut.safetensors", "cut.safetensors: expected a safetensors file"),
    ):
        refused(tmp_path, message, net, tmp_path / file)
    torch.save({f"0.{name}": value for name, value in state.items()}, tmp_path / "mine.pt")
    refused(tmp_path, "expected logits, found probabilities", "nets_of_theirs:softmaxed()", tmp_path / "mine.pt")
    refused(tmp_path, "weights: expected a file with the weights of nets_of_theirs:build", net, None)


def test_safetensors_by_any_name(tmp_path):
    (tmp_path / "weights.bin").write_bytes(safetensors.torch.save({"a": torch.ones(2)}))
    tensors, witness = read(tmp_path / "weights.bin")
    assert tensors["a"].tolist() == [1, 1]
    assert witness.now() == witness.digest
    with pytest.raises(InputError, match="expected a file, found a folder"):
        read(tmp_path)
