"""Signals: caches, teachers in the loop, and no teacher at all have one interface, and say what they must."""

import inspect
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from conftest import run_capture, write_stage_one
from pipeline.base import files, runtime
from pipeline.cache.reader import Cache
from pipeline.data.splits import Split, open_splits
from pipeline.data.views import Policy
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.modelfile import Kind
from pipeline.training.live import Live
from pipeline.training.signal import NoTeacher, Signal
from pipeline.training.targets import Targets

CPU = torch.device("cpu")
ROWS, SPAN, CLASSES = 20, 8, 3
HOW = {"temperatures": [4.0, 1.0], "rule": "probabilities", "weights": [1, 3]}
POLICY = Policy.parse("shift(1)", 5)
MEMBERS = [name for name in vars(Signal) if not name.startswith("_")]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """20 rows in spans of 8, and the caches of two teachers in three views."""
    runtime.prepare("cpu")
    folder = write_stage_one(tmp_path_factory.mktemp("signal"), teachers="ab", rows=ROWS)
    for name in "ab":
        run_capture(folder, name)
    return folder


def transfer(data: Path) -> Split:
    return open_splits(data / "transfer", ["transfer"])["transfer"]


def made(data: Path, kind: str) -> Signal:
    if kind == "student":
        return Targets.of({name: Cache.open(data / "caches" / name) for name in "ab"}, **HOW)
    if kind == "live":
        return Live.open({name: data / "teachers" / name for name in "ab"}, transfer(data), POLICY, CPU, **HOW)
    return NoTeacher()


def stored(signal: Signal, view: int) -> torch.Tensor:
    """What it stores of all rows in a view, read span by span."""
    out = torch.empty((ROWS, *signal.shape), dtype=signal.dtype)
    for span, start in enumerate(range(0, ROWS, SPAN)):
        signal.read(view, span, out[start : start + SPAN])
    return out


def pixels(data: Path, view: int) -> torch.Tensor:
    return POLICY.apply(torch.from_numpy(transfer(data).read_all()), np.arange(ROWS), np.full(ROWS, view))


@pytest.mark.parametrize("kind", ["student", "live", "baseline"])
def test_a_signal_has_all_that_the_protocol_names(data, kind):
    signal = made(data, kind)
    assert len(MEMBERS) == 10
    for name in MEMBERS:
        wanted, found = getattr(Signal, name), getattr(signal, name)
        if not isinstance(wanted, property):
            parameters = list(inspect.signature(wanted).parameters.values())[1:]  # without self
            assert list(inspect.signature(found).parameters.values()) == parameters
    assert signal.kind == kind
    assert kind in get_args(Kind)
    assert isinstance(signal.dtype, torch.dtype)
    assert all(isinstance(each, files.Witness) for each in signal.witnesses)


@pytest.mark.parametrize(("kind", "layers"), [("student", 2), ("live", 2)])
def test_targets_are_the_weighted_mean_of_probabilities_at_each_temperature(data, kind, layers):
    signal = made(data, kind)
    for view in range(3):
        members = [Cache.open(data / "caches" / name).read("transfer")[view].astype(np.float64) for name in "ab"]
        targets = signal.targets(stored(signal, view), pixels(data, view))
        assert (targets.shape, targets.dtype) == ((ROWS, layers, CLASSES), torch.float32)
        for temperature in HOW["temperatures"]:
            soft = [np.exp(each / temperature) for each in members]
            soft = [each / each.sum(-1, keepdims=True) for each in soft]
            found = torch.softmax(targets[:, signal.ensemble.layer(temperature)].double() / temperature, dim=-1)
            np.testing.assert_allclose(found, 0.25 * soft[0] + 0.75 * soft[1], rtol=1e-4)


def test_what_is_stored(data):
    assert made(data, "student").shape == (2, CLASSES)
    for kind in ("live", "baseline"):
        assert stored(made(data, kind), 0).numel() == 0


def test_digests_are_of_caches_or_of_teachers(data):
    """Of a teacher: its spec, what that does, and its weights."""
    assert made(data, "student").digests == {name: Cache.open(data / "caches" / name).manifest.digest for name in "ab"}
    for name, digest in made(data, "live").digests.items():
        weights = files.sha256((data / "teachers" / name / "model.safetensors").read_bytes())
        said = f'["{Checkpoint.teacher(data / "teachers" / name).model}","version 1","{weights}"]'
        assert digest == files.sha256(said.encode())
    assert [len(made(data, kind).witnesses) for kind in ("student", "live", "baseline")] == [2, 2, 0]


def test_no_teacher_has_no_targets(data):
    signal = made(data, "baseline")
    assert signal.targets(torch.empty(5, 0), pixels(data, 0)[:5]).shape == (5, 0)
    assert (dict(signal.digests), signal.ensemble.weights, signal.ensemble.layer(7.0)) == ({}, (), 0)
