"""Every kind of knowledge through the commands: growth, interruption, damage and its repair, a deep look, and students."""

import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from conftest import change_teacher, tree, write_split, write_stage_one
from pipeline.base import runtime
from pipeline.cache.reader import Cache
from pipeline.cache.writer import Work
from pipeline.data.splits import Split
from projects import says

KINDS = {  # what `softcache capture` is told → the arrays that come of it
    "float16": (("--dtype", "float16", "--features", "layer1"), ["logits", "feature.layer1"]),
    "hidden": (("--knowledge", "hidden"), ["hidden"]),
    "int8": (
        ("--knowledge", "hidden", "--dtype", "int8", "--features", "layer1"), ["hidden", "hidden_scale", "feature.layer1"],
    ),
}  # fmt: skip
VIEWS = ("--policy", "shift(1)", "--view-seed", "5", "--tile", "4")
DISTILL = (
    "distill", "s", "-T", "2", "--teachers", "a", "--model", "mlp(hidden=[3])", "--optimizer", "sgd(lr=0.1)",
    "--epochs", "2", "--batch-size", "8", "--policy", "shift(1)", "--views", "2", "--view-seed", "5",
)  # fmt: skip


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder with data/transfer, of 17 rows, and data/teachers/a, of nine classes and five hidden numbers."""
    runtime.prepare("cpu")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOFTCACHE_DEVICE", "cpu")
    write_stage_one(tmp_path / "data", rows=17, classes=9)
    return tmp_path


def capture(kind: str, views: int, *more: str) -> str:
    return says(0, "capture", "a", *VIEWS, "--views", str(views), *KINDS[kind][0], *more)


def fresh(project: Path, kind: str, views: int) -> dict[str, bytes]:
    """The cache as a capture gives it that finds no earlier work."""
    for name in ("data/caches", ".softcache"):
        shutil.rmtree(project / name, ignore_errors=True)
    capture(kind, views)
    return tree(project / "data/caches")


@pytest.mark.parametrize("kind", KINDS)
def test_views_and_rows_that_are_added_are_all_that_is_computed(project, kind):
    assert "8 spans computed" in capture(kind, 2)
    assert "3 spans computed, 8 kept from before" in capture(kind, 3)
    grown = tree(project / "data/caches")
    assert grown == fresh(project, kind, 3)
    former = Split.open(project / "data/transfer/train.parquet")
    pixels = np.concatenate([former.read_all(), former.read_all()[:6]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.data.splits.span_rows", lambda classes, row_bytes: 8)
        write_split(project / "data/transfer/train.parquet", pixels, np.arange(23) % 9, 9)
    assert "3 spans computed, 8 kept from before" in capture(kind, 3)  # the last one of each view, which was not full
    appended = tree(project / "data/caches")
    assert appended == fresh(project, kind, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_capture_goes_on_to_the_same_bytes(project, kind, monkeypatch):
    whole = fresh(project, kind, 2)
    for name in ("data/caches", ".softcache"):
        shutil.rmtree(project / name)
    publish, done = Work.publish, []

    def stopping(self, *given):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(publish(self, *given))

    with monkeypatch.context() as patch:
        patch.setattr(Work, "publish", stopping)
        says(1, "capture", "a", *VIEWS, "--views", "2", *KINDS[kind][0])
    assert "3 of 8 spans captured" in says(3, "inspect", "a")
    assert "5 spans computed, 3 kept from before" in capture(kind, 2)
    assert tree(project / "data/caches") == whole


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_anywhere_is_named_and_mended(project, kind):
    capture(kind, 2)
    says(0, *DISTILL)
    sound, cache = tree(project / "data/caches"), project / "data/caches/a"
    assert sorted(path.name for path in cache.glob("*.zarr")) == sorted(f"{name}.zarr" for name in KINDS[kind][1])
    places = [next(path for path in cache.glob(f"{name}.zarr/transfer/c/1/**/0") if path.is_file()) for name in KINDS[kind][1]]
    for path in [*places, *cache.glob("head.safetensors"), *cache.glob("*.zarr/valid/zarr.json")]:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.unlink()  # which is a link to finished work
        path.write_bytes(data)
        said = says(3, "verify", "a")
        assert str(path.relative_to(project)) in said
        if "feature" not in str(path):
            assert str(path.relative_to(project)) in says(3, *DISTILL)
        [fix] = {line for line in said.splitlines() if line.startswith("Run `softcache capture")}
        says(0, *shlex.split(fix.split("`")[1])[1:])
        assert tree(project / "data/caches") == sound


@pytest.mark.parametrize("kind", KINDS)
def test_a_deep_look_passes_on_a_sound_cache_and_finds_another_teacher(project, kind, monkeypatch):
    capture(kind, 2)
    said = says(0, "verify", "a", "--deep", "30")
    assert ("feature layer1, worst difference" in said) == ("--features" in KINDS[kind][0])
    publish = Work.publish

    def off(self, split, view, span, rows, logits, hidden=None, features=()):
        return publish(self, split, view, span, rows, logits, hidden, [each * np.float32(1.1) for each in features])

    if "--features" in KINDS[kind][0]:
        with monkeypatch.context() as patch:
            patch.setattr(Work, "publish", off)
            capture(kind, 2, "--anew")
        says(0, "verify", "a")
        assert "30 sampled rows, feature layer1: expected what its teacher gives" in says(3, "verify", "a", "--deep", "30")
    change_teacher(project / "data/teachers/a", lambda net: net[2].weight.mul_(1.01))
    assert "teacher.weights_sha256" in says(2, "verify", "a", "--deep", "30")


def test_inspect_says_what_each_kind_costs_and_how_far_it_is_off(project):
    capture("float16", 2)
    said = says(0, "inspect", "a")
    assert "keeps logits" in said
    assert "9 float16" in said
    assert "off the teacher" in said
    assert "KL " in said
    capture("int8", 2)
    said = says(0, "inspect", "a")
    for text in (
        "keeps hidden ",
        "5 int8",
        "keeps hidden_scale",
        "1 float32",
        "keeps feature.layer1",
        "at T = 20",
        "would take",
    ):
        assert text in said
    says(0, "capture", "a", *VIEWS, "--views", "2")
    assert "by nothing: its logits, bit for bit" in says(0, "inspect", "a")


@pytest.mark.parametrize("memory", ["1", "2.1e-6"])  # in memory, and streamed: four spans fit
def test_students_of_hidden_states_are_those_of_the_logits_they_give(project, memory):
    """Both read the same numbers in the same order; the cache of logits holds what the head makes of the hidden states."""
    capture("hidden", 2)
    cache = Cache.open(project / "data/caches/a")
    given = {record.part: cache.span(record) for record in cache.records}
    says(0, *DISTILL, "--memory", memory)
    weights = (project / "data/students/s-T2/seed-0.safetensors").read_bytes()
    publish = Work.publish
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Work, "publish", lambda self, *place: publish(self, *place[:4], given[place[:3]]))
        says(0, "capture", "a", *VIEWS, "--views", "2")
    says(0, *DISTILL, "--memory", memory)
    assert (project / "data/students/s-T2/seed-0.safetensors").read_bytes() == weights


def test_an_ensemble_of_two_kinds(project):
    write_stage_one(project / "other", rows=17, classes=9, teachers="ab")
    shutil.copytree(project / "other/teachers/b", project / "data/teachers/b")
    capture("int8", 2)
    says(0, "capture", "b", *VIEWS, "--views", "2")
    assert "wrote data/students/s-T2" in says(0, *DISTILL, "--teachers", "b")
