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


def read(targets: Targets, view: int, span: int, rows: int) -> torch.Tensor:
    out = torch.empty((rows, *targets.shape), dtype=targets.dtype)
    targets.read("transfer", view, span, out)
    return out


def logits(folder: Path, name: str) -> torch.Tensor:
    return torch.from_numpy(Cache.open(folder / "caches" / name).read("transfer"))


def test_one_cache_is_its_logits(folder):
    found = Targets.of(caches(folder, "a"), 4.0, "probabilities")
    assert (found.shape, found.rows, found.span_rows, found.dtype) == ((3,), 20, 8, torch.float32)
    assert torch.equal(read(found, 2, 1, 8), logits(folder, "a")[2, 8:16])
    assert torch.equal(read(found, 1, 2, 4), logits(folder, "a")[1, 16:])  # the last span is shorter
    assert Targets.of(caches(folder, "half/a"), 4.0, "logits").dtype == torch.float16


@pytest.mark.parametrize("rule", ["probabilities", "logits"])
def test_several_are_combined_at_every_temperature(folder, rule):
    members = [logits(folder, name)[1, 8:16] for name in "ab"]
    one = Targets.of(caches(folder, "a", "b"), 4.0, rule, [1, 3])
    assert torch.equal(read(one, 1, 1, 8), combine(members, 4.0, rule, [0.25, 0.75]))
    several = Targets.of(caches(folder, "a", "b"), (1.0, 4.0), rule, [1, 3])
    assert several.shape == (2, 3)
    assert torch.equal(read(several, 1, 1, 8), torch.stack([combine(members, t, rule, [0.25, 0.75]) for t in (1.0, 4.0)], 1))


def test_what_does_not_fit(folder):
    with pytest.raises(InputError, match="teachers: expected at least one, found none"):
        Targets.of({}, 4.0, "logits")
    with pytest.raises(InputError, match="ensemble, rows of cache more/a: expected .* as in cache a, found"):
        Targets.of(caches(folder, "a", "more/a"), 4.0, "logits")
    for temperature, rule, weights in (((4.0, 0.0), "logits", None), (4.0, "mean", None), (4.0, "logits", [1])):
        with pytest.raises(InputError):
            Targets.of(caches(folder, "a", "b"), temperature, rule, weights)
