"""Running a net for a cache: what is kept of a teacher, of every kind, is what the net gives."""

import logging
import shutil

import numpy as np
import pytest
import torch

from conftest import run_capture, write_stage_one
from pipeline.base.errors import InputError, IntegrityError
from pipeline.cache.reader import Cache
from pipeline.data.splits import open_splits
from pipeline.data.views import Policy
from pipeline.models.checkpoint import Checkpoint

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Teachers of 3 classes, a, and of 9, many: more than the five hidden numbers that give them."""
    root = tmp_path_factory.mktemp("running")
    write_stage_one(root / "few")
    return write_stage_one(root / "many", classes=9)


def outputs(folder, split: str) -> dict[str, np.ndarray]:
    """By plain torch, logits and the layers before: (views, rows, …)."""
    checkpoint = Checkpoint.teacher(folder / "teachers/a")
    net, held = checkpoint.load(checkpoint.nets[0], CPU), open_splits(folder / "transfer", [split])[split]
    policy, rows = Policy.parse("shift(1)", 5), np.arange(held.rows)
    found = {"logits": [], "hidden": [], "layer1": []}
    for view in range(3 if split == "transfer" else 1):
        shown = policy.apply(torch.from_numpy(held.read_all()), rows, np.full(len(rows), view))
        with torch.no_grad():
            hidden = torch.relu(net[2](net[1](net[0](shown))))
            found["logits"].append(net[4](hidden).numpy())
        found["hidden"].append(hidden.numpy())
        found["layer1"].append(hidden.numpy())
    return {name: np.stack(each) for name, each in found.items()}


def cached(folder, split: str, text: str) -> np.ndarray:
    cache = Cache.open(folder / "caches/a")
    extent = cache.manifest.extents[split]
    spans = range(-(-extent.rows // 8))
    return np.stack([np.concatenate([cache.feature(text, split, view, s) for s in spans]) for view in range(extent.views)])


@pytest.mark.parametrize(("dtype", "share"), [("float32", 1e-6), ("float16", 1e-3), ("int8", 2e-2)])
def test_hidden_states_and_features_of_every_split(folder, dtype, share):
    """The share of the range that numbers may be off by."""
    run_capture(folder, knowledge="hidden", dtype=dtype, features=("layer1",))
    cache = Cache.open(folder / "caches/a")
    assert (cache.knowledge.main.name, cache.layout.shape, cache.layout.dtype, cache.dtype) == (
        "hidden",
        (5,),
        dtype,
        "float32",
    )
    for split in ("transfer", "valid", "test"):
        wanted = outputs(folder, split)
        extent = wanted["logits"].max() - wanted["logits"].min()
        np.testing.assert_allclose(cache.read(split), wanted["logits"], rtol=0, atol=share * extent)
        extent = wanted["layer1"].max() - wanted["layer1"].min()
        np.testing.assert_allclose(cached(folder, split, "layer1"), wanted["layer1"], rtol=0, atol=min(share, 1e-3) * extent)
    low, high = min(each.low for each in cache.records), max(each.high for each in cache.records)
    every = np.concatenate([outputs(folder, split)["logits"].ravel() for split in ("transfer", "valid", "test")])
    assert (low, high) == pytest.approx((every.min(), every.max()), rel=1e-5)
    assert all(max(each.kl) < (1e-12, 1e-6, 1e-2)[("float32", "float16", "int8").index(dtype)] for each in cache.records)


def test_features_beside_logits_change_no_logit(folder):
    run_capture(folder)
    plain = Cache.open(folder / "caches/a").read("transfer")
    run_capture(folder, features=("layer1", "2"))
    assert (Cache.open(folder / "caches/a").read("transfer") == plain).all()
    assert (cached(folder, "transfer", "layer1") == np.maximum(cached(folder, "transfer", "2"), 0)).all()


@pytest.mark.parametrize(("name", "kept"), [("few", "logits"), ("many", "hidden")])
def test_auto_keeps_what_is_smaller_and_says_so(folder, caplog, name, kept):
    here = folder.parent / name
    with caplog.at_level(logging.INFO, logger="pipeline"):
        run_capture(here, knowledge="auto")
    classes = 9 if name == "many" else 3
    assert f"a: keeps {kept}: 5 hidden numbers give {classes} logits" in caplog.text
    assert Cache.open(here / "caches/a").knowledge.main.name == kept


def test_what_a_net_does_not_have_is_refused(folder):
    for settings, message in (
        ({"features": ("layer7",)}, "feature layer7: expected one of the layers layer1"),
        ({"features": ("layer1 | pool",)}, r"feature layer1 \| pool: expected an output with 3 axes or more"),
        ({"features": ("layer1", " layer1 ")}, "features: expected each feature once"),
        ({"features": ("layer1 | mean",)}, "feature: expected a layer"),
        ({"dtype": "int8"}, "dtype: expected float32 or float16, for logits"),
    ):
        with pytest.raises(InputError, match=message):
            run_capture(folder, **settings)
    assert "layer7" not in "".join(str(path) for path in folder.rglob("*"))


def test_numbers_that_are_too_large_name_row_and_array(folder, tmp_path):
    from conftest import change_teacher

    here = write_stage_one(tmp_path)
    change_teacher(here / "teachers/a", lambda net: net[2].weight.fill_(1e5))
    for settings, place in (
        ({"knowledge": "hidden", "dtype": "float16"}, r"hidden, number \d"),
        ({"features": ("layer1",), "dtype": "float16"}, r"class \d|feature.layer1, number \d"),
    ):
        with pytest.raises(IntegrityError, match=rf"transfer view 0, row 0 \(id row-0\), ({place}): expected a finite"):
            run_capture(here, **settings)
    assert not (here / "caches/a").exists()


def test_a_teacher_of_other_data_is_refused_before_its_net_is_tried(folder, tmp_path):
    here = write_stage_one(tmp_path, classes=4)
    shutil.copytree(folder / "teachers", here / "teachers", dirs_exist_ok=True)
    for settings in ({"knowledge": "hidden"}, {"features": ("layer1",)}):
        with pytest.raises(InputError, match="teacher a, classes: expected .*'3'.* as in the transfer set"):
            run_capture(here, **settings)


def test_the_order_of_features_makes_no_other_cache(folder):
    digests = set()
    for features in (("layer1", "2"), ("2", "layer1")):
        shutil.rmtree(folder / "work", ignore_errors=True)
        digests.add(run_capture(folder, features=features).manifest.digest)
    assert len(digests) == 1


class Cutting(torch.nn.Module):
    """A net that cuts its logits off, which changes none of rows that are 0 or 1."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, rows):
        logits = self.net(rows)
        return logits if rows.max() < 128 else logits.clamp(-0.01, 0.01)


def test_a_head_that_fails_on_real_rows_is_refused(folder, monkeypatch):
    load = Checkpoint.load
    monkeypatch.setattr(Checkpoint, "load", lambda *given: Cutting(load(*given)))
    with pytest.raises(InputError, match=r"teacher a, transfer view 0, span 0, knowledge: .* Set `knowledge: logits`"):
        run_capture(folder, knowledge="hidden", anew=True)


def test_auto_takes_hidden_states_where_they_alone_can_be_int8(folder):
    here = folder.parent / "few"
    run_capture(here, knowledge="auto", dtype="int8")
    assert Cache.open(here / "caches/a").layout.dtype == "int8"
