"""Verify: every kind of damage is found and named; a deep look tells logits of other rows, weights and code."""

import dataclasses
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import change_teacher, run_capture, tree, write_stage_one, write_teacher
from pipeline.base import runtime
from pipeline.base.errors import InputError, IntegrityError
from pipeline.cache.reader import Cache
from pipeline.cache.verify import Probe, Verified, _sample, probe, verify
from pipeline.cache.writer import Work
from pipeline.data.settings import Views
from pipeline.models import predict
from pipeline.models.build import build, parse_model
from pipeline.models.checkpoint import Checkpoint
from pipeline.training.distill import distill
from pipeline.training.lesson import Soft
from pipeline.training.losses import SoftLoss
from pipeline.training.objective import LossWeights
from pipeline.training.recipe import Recipe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def sealed(tmp_path_factory) -> Path:
    """Splits, a teacher and its cache: 3 spans in 3 views, and two of the untouched splits."""
    runtime.prepare("cpu")
    folder = write_stage_one(tmp_path_factory.mktemp("sealed"))
    run_capture(folder)
    return folder


@pytest.fixture
def folder(sealed, tmp_path) -> Path:
    """A copy to damage."""
    shutil.copytree(sealed, tmp_path / "copy")
    return tmp_path / "copy"


def look(folder: Path) -> Verified:
    return verify(folder / "caches/a", work=folder / "work")


def span(folder: Path, split="transfer", view=1, number=1) -> Path:
    return folder / "caches/a/logits.zarr" / split / "c" / str(view) / str(number) / "0"


def flip(path: Path, chance: random.Random) -> int:
    """Flip one bit in place and return its number."""
    bit = chance.randrange(path.stat().st_size * 8)
    turn(path, bit)
    return bit


def turn(path: Path, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(bit // 8)
        value = file.read(1)[0] ^ 1 << bit % 8
        file.seek(bit // 8)
        file.write(bytes([value]))


def test_a_sound_cache_has_no_findings(sealed):
    read = []
    done = verify(sealed / "caches/a", work=sealed / "work", progress=read.append)
    assert (done.findings, done.spans) == ([], 11)
    assert done.size_bytes == sum(read) == sum(record.size_bytes for record in Cache.open(sealed / "caches/a").manifest.records)


def test_three_hundred_flipped_bits_are_all_found(folder):
    chance = random.Random(0)
    paths = sorted(path for path in (folder / "caches/a").rglob("*") if path.is_file())
    assert len(paths) == 11 + 3 + 1
    missed = []
    for _ in range(300):
        path = chance.choice(paths)
        bit = flip(path, chance)
        findings = look(folder).findings
        if not (findings and any(path.name in finding.where for finding in findings)):
            missed.append((path.name, bit))
        turn(path, bit)
    assert missed == []
    assert look(folder).findings == []


@pytest.mark.parametrize("count", [1, 2, 30, 59, 60, 61, 10**6])
def test_as_many_pairs_are_looked_at_as_were_asked_for(count):
    rows, views = _sample(count, 20, 3)
    pairs = set(zip(rows.tolist(), views.tolist(), strict=True))
    assert len(pairs) == len(rows) == min(count, 60)
    assert (np.diff(rows) >= 0).all()
    assert pairs <= {(row, view) for row in range(20) for view in range(3)}


def test_distill_stops_at_each_of_a_hundred_flipped_bits(folder):
    chance = random.Random(1)
    cache = folder / "caches/a"
    read = [cache / "manifest.json", *cache.glob("logits.zarr/*/zarr.json"), *cache.glob("logits.zarr/transfer/c/[01]/*/0")]
    recipe = Recipe.parse(optimizer="sgd(lr=0.1)", schedule="constant", epochs=1, batch_size=8)

    def student() -> None:
        distill(
            model="mlp(hidden=[3])", recipe=recipe, views=Views("shift(1)", 2, 5), rows="all", correct=(), seeds=(0,),
            soft=Soft({"a": cache}, "logits", SoftLoss.parse("kl")), weighting=LossWeights(2.0, 1.0),
            splits=folder / "transfer", work=folder / "work", out=folder / "s", device=CPU,
        )  # fmt: skip

    student()
    before = tree(folder / "s")
    for _ in range(100):
        path = chance.choice(read)
        bit = flip(path, chance)
        with pytest.raises(IntegrityError):
            student()
        turn(path, bit)
        assert tree(folder / "s") == before
    student()
    assert tree(folder / "s") == before


def damage_swap(folder):
    first, second = span(folder, number=0), span(folder, number=1)
    first.rename(folder / "aside")
    second.rename(first)
    (folder / "aside").rename(second)
    return {"transfer view 1, rows 0 to 7": "sha256", "transfer view 1, rows 8 to 15": "sha256"}


def damage_truncate(folder):
    os.truncate(span(folder), 100)
    return {"transfer view 1, rows 8 to 15": "100 bytes"}


def damage_empty(folder):
    os.truncate(span(folder, number=2), 0)
    return {"transfer view 1, rows 16 to 19": "0 bytes"}


def damage_missing(folder):
    span(folder, "valid", 0, 0).unlink()
    return {"valid view 0, rows 0 to 4": "no such file"}


def damage_folder(folder):
    span(folder).unlink()
    span(folder).mkdir()
    (span(folder) / "inside").write_text("x")
    return {"transfer view 1, rows 8 to 15": "a folder"}


def damage_metadata(folder):
    path = folder / "caches/a/logits.zarr/test/zarr.json"
    path.write_text(path.read_text().replace("float32", "int32"))
    return {"test/zarr.json": "sha256"}


def damage_no_metadata(folder):
    (folder / "caches/a/logits.zarr/test/zarr.json").unlink()
    return {"test/zarr.json": "no such file"}


def damage_manifest(folder):
    path = folder / "caches/a/manifest.json"
    path.write_text(path.read_text().replace('"tile": 4', '"tile": 8'))
    return {"manifest.json": "one edited since"}


def damage_spelling(folder):
    """The same facts in other bytes."""
    path = folder / "caches/a/manifest.json"
    path.write_text(path.read_text().replace("  ", " "))
    return {"manifest.json": "one edited since"}


def damage_no_manifest(folder):
    (folder / "caches/a/manifest.json").unlink()
    return {"caches/a": "no manifest.json"}


def damage_stray(folder):
    (folder / "caches/a/logits.zarr/transfer/c/0/9").mkdir()
    (folder / "caches/a/logits.zarr/transfer/c/0/9/0").write_text("x")
    (folder / "caches/a/.DS_Store").write_text("x")
    return {"c/0/9": "a stray folder", "c/0/9/0": "a stray file", ".DS_Store": "a stray file"}


@pytest.mark.parametrize("damage", [value for name, value in sorted(globals().items()) if name.startswith("damage_")])
def test_damage_is_found_and_named(folder, damage):
    expected = damage(folder)
    findings = look(folder).findings
    assert len(findings) == len(expected)
    for (where, found), finding in zip(
        sorted(expected.items()), sorted(findings, key=lambda f: f.where.split("/a/")[-1]), strict=True
    ):
        assert where in finding.where
        assert found in finding.found


def test_a_manifest_that_tells_of_too_few_spans_is_refused(folder):
    """A digest that fits is not enough: the records must cover the extents."""
    cache = Cache.open(folder / "caches/a")
    short = dataclasses.replace(cache.manifest, records=cache.manifest.records[:-1])
    (folder / "caches/a/manifest.json").write_bytes(short.to_json())
    (finding,) = look(folder).findings
    assert (finding.expected, finding.found) == ("a record of each of 11 spans", "10 records")


def test_spans_that_are_links_are_fine(folder):
    """As DVC makes them with cache.type symlink."""
    for path in list((folder / "caches/a/logits.zarr").rglob("0")):
        if path.is_file():
            path.rename(folder / f"kept-{'-'.join(path.parts[-5:])}")
            path.symlink_to(folder / f"kept-{'-'.join(path.parts[-5:])}")
    assert look(folder).findings == []


# ---------------------------------------------------------------- deep


def deep(folder: Path, count: int = 40, **changes) -> Probe:
    return probe(
        folder / "caches/a",
        count,
        **({"teacher": folder / "teachers/a", "splits": folder / "transfer", "device": CPU} | changes),
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_deep_look_at_a_sound_cache(folder, dtype):
    run_capture(folder, dtype=dtype)
    found = deep(folder)
    assert found.findings(Path("a")) == []
    assert 25 < found.pairs <= 40
    assert found.logits.difference <= found.logits.limit
    assert (found.logits.difference > 1e-6) == (dtype == "float16")
    assert found.shifted > 1000 * found.aligned
    assert deep(folder, 10**9).pairs == 60
    assert deep(folder) == found


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_logits_of_the_wrong_rows_are_found_although_every_hash_fits(folder, dtype, monkeypatch):
    shutil.rmtree(folder / "work")
    publish = Work.publish

    def rolled(self, split, view, number, rows, logits, *others):
        return publish(self, split, view, number, rows, np.roll(logits, 1, axis=0))

    monkeypatch.setattr(Work, "publish", rolled)
    run_capture(folder, dtype=dtype)
    assert look(folder).findings == []
    found = deep(folder)
    assert found.shifted < found.aligned
    places = [finding.where for finding in found.findings(Path("a"))]
    assert places == [f"a, {found.pairs} sampled rows, logits", "a, alignment of rows"]


def test_logits_that_are_a_little_off_are_found(folder, monkeypatch):
    shutil.rmtree(folder / "work")
    publish = Work.publish
    monkeypatch.setattr(Work, "publish", lambda self, *place: publish(self, *place[:4], place[4] * np.float32(1.001)))
    run_capture(folder)
    found = deep(folder)
    (finding,) = found.findings(Path("a"))
    assert "sampled rows, logits" in finding.where
    assert found.logits.difference > found.logits.limit > found.logits.control


def test_a_teacher_that_says_the_same_of_every_row_cannot_be_probed_for_alignment(folder):
    change_teacher(folder / "teachers/a", lambda net: [parameter.zero_() for parameter in net.parameters()])
    run_capture(folder)
    assert deep(folder).shifted is None
    assert deep(folder).findings(Path("a")) == []


def test_a_deep_look_refuses_another_teacher_other_data_and_other_code(folder, sealed, monkeypatch):
    change_teacher(folder / "teachers/a", lambda net: next(net.parameters())[0, 0].add_(1))
    with pytest.raises(InputError, match=r"caches/a, teacher.weights_sha256: expected [0-9a-f]+ as in the cache"):
        deep(folder)
    write_stage_one(folder, rows=21)
    with pytest.raises(InputError, match=r"cache a, rows.transfer: expected 21 as in the data, found 20"):
        deep(folder)
    monkeypatch.setattr(predict, "VERSION", 7)
    with pytest.raises(InputError, match=r"inference: expected 2 as in the cache, found 7 now"):
        deep(sealed)


def test_hidden_states_that_are_off_where_no_logit_shows_it_are_found(folder, monkeypatch):
    """The head has three rows of five numbers: hidden states may move along what all three are at right angles to."""
    weight = Checkpoint.teacher(folder / "teachers/a").load(Checkpoint.teacher(folder / "teachers/a").nets[0], CPU)[4].weight
    unseen = torch.linalg.svd(weight.detach())[2][-1].numpy()
    publish = Work.publish
    run_capture(folder, knowledge="hidden")
    assert deep(folder).findings(Path("a")) == []
    monkeypatch.setattr(
        Work, "publish", lambda self, *place: publish(self, *place[:5], place[5] + np.float32(0.1) * unseen, *place[6:])
    )
    run_capture(folder, knowledge="hidden", anew=True)
    (finding,) = deep(folder).findings(Path("a"))
    assert "sampled rows, hidden states" in finding.where


def test_another_net_is_named_before_it_is_asked_for_layers(folder):
    run_capture(folder, knowledge="hidden", features=("layer1",))
    old = Checkpoint.teacher(folder / "teachers/a")
    write_teacher(
        folder / "teachers/a", build(parse_model("mlp(hidden=[])"), old.inputs, 3, seed=0), old, model="mlp(hidden=[])"
    )
    with pytest.raises(InputError, match=r"teacher.model: expected mlp\(hidden=\[5\]"):
        deep(folder)
