"""Targets: the logits of caches as one teacher's, span by span."""

from pathlib import Path

import pytest
import torch

from conftest import run_capture, write_stage_one
from pipeline.base.errors import InputError
from pipeline.cache.reader import Cache
from pipeline.models.ensemble import combine
from pipeline.training.targets import Targets


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """20 rows in spans of 8, three views, of two teachers; and the first one's in float16, and of 21 rows."""
    folder = write_stage_one(tmp_path_factory.mktemp("targets"), teachers="ab")
    for name in "ab":
        run_capture(folder, name)
    run_capture(write_stage_one(folder / "half"), dtype="float16")
    run_capture(write_stage_one(folder / "more", rows=21))
    return folder


def caches(folder: Path, *names: str) -> dict[str, Cache]:
    """Called after where they lie: a, or half/a for that in another folder."""
    return {name: Cache.open(folder / Path(name).parent / "caches" / Path(name).name) for name in names}


def targets(folder: Path, *names: str, rule: str = "logits", temperatures=(4.0,), weights=None) -> Targets:
    return Targets.of(caches(folder, *names), temperatures=temperatures, rule=rule, weights=weights)


def read(found: Targets, view: int, span: int, rows: int) -> torch.Tensor:
    out = torch.empty((rows, *found.shape), dtype=found.dtype)
    found.read(view, span, out)
    return out


def logits(folder: Path, name: str) -> torch.Tensor:
    return torch.from_numpy(Cache.open(folder / "caches" / name).read("transfer"))


def test_one_cache_is_its_logits_at_any_temperature(folder):
    found = targets(folder, "a", rule="probabilities", temperatures=(4.0, 1.0))
    assert (found.shape, found.rows, found.span, found.dtype) == ((1, 3), 20, 8, torch.float32)
    assert torch.equal(read(found, 2, 1, 8)[:, 0], logits(folder, "a")[2, 8:16])
    assert torch.equal(read(found, 1, 2, 4)[:, 0], logits(folder, "a")[1, 16:])  # the last span is shorter
    assert found.ensemble.layer(4.0) == found.ensemble.layer(1.0) == 0
    assert targets(folder, "half/a").dtype == torch.float16


def test_probabilities_have_a_layer_for_each_temperature(folder):
    members = [logits(folder, name)[1, 8:16] for name in "ab"]
    found = targets(folder, "a", "b", rule="probabilities", temperatures=(4.0, 1.0, 4.0), weights=[1, 3])
    assert found.shape == (2, 3)
    for temperature in (1.0, 4.0):
        expected = combine(members, temperature, "probabilities", [0.25, 0.75])
        assert torch.equal(read(found, 1, 1, 8)[:, found.ensemble.layer(temperature)], expected)


def test_logits_have_one_layer_for_all_temperatures(folder):
    found = targets(folder, "a", "b", temperatures=(4.0, 1.0), weights=[1, 3])
    expected = combine([logits(folder, name)[1, 8:16] for name in "ab"], 9.0, "logits", [0.25, 0.75])
    assert torch.equal(read(found, 1, 1, 8)[:, found.ensemble.layer(1.0)], expected)
    assert found.shape == (1, 3)


def test_what_does_not_fit(folder):
    with pytest.raises(InputError, match="teachers: expected at least one, found none"):
        targets(folder)
    with pytest.raises(InputError, match="ensemble, rows of cache more/a: expected .* as in cache a, found"):
        targets(folder, "a", "more/a")
    for wrong in ({"temperatures": (4.0, 0.0)}, {"rule": "mean"}, {"weights": [1]}):
        with pytest.raises(InputError):
            targets(folder, "a", "b", **wrong)
