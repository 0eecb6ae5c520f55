"""What belongs together is held together; what a message says mends it."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import projects
from conftest import change_teacher, run_capture, tree, write_split, write_stage_one
from pipeline.base import files
from pipeline.data.splits import open_splits
from projects import says

HOLDER = """
import sys
from pathlib import Path
from pipeline.base import files
with files.locked(Path(sys.argv[1]), "it"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    return projects.make(tmp_path, monkeypatch)


def swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def fixes(message: str) -> list[list[str]]:
    """The commands that a message names."""
    return [shlex.split(each) for each in re.findall(r"`softcache ([^`]+)`", message)]


# ---------------------------------------------------------------- of whom something is


@pytest.fixture
def two(project) -> Path:
    """Teachers a and b with their caches."""
    write_stage_one(project / "more", teachers="ab")
    (project / "more/teachers/b").rename(project / "data/teachers/b")
    with (project / "params.yaml").open("a") as file:
        file.write("\n")
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("teachers:\n", 'teachers:\n  b: {model: "mlp(hidden=[5])"}\n'))
    says(0, "capture", "b")
    return project


def test_the_cache_of_another_teacher_is_told_though_no_teacher_is_there(two):
    """Both are whole, of the same data and views; only the names say whose logits are whose."""
    shutil.rmtree(two / "data/teachers")
    says(0, "distill", "s", "-T", "2")
    swap(two / "data/caches/a", two / "data/caches/b")
    message = says(2, "distill", "s", "-T", "2")
    assert "data/caches/a" in message
    assert "found that of b" in message


def test_the_record_of_another_cache_is_never_adopted(two):
    """A record and its bytes, moved together, are whole: only the identity in the record tells them apart."""
    first, second = sorted(path.parent for path in two.glob(".softcache/*/records"))
    for part in ("records/logits-transfer-1-1.json", "spans/logits.zarr/transfer/c/1/1/0"):
        swap(first / part, second / part)
    before = {name: tree(two / f"data/caches/{name}") for name in "ab"}
    for name in "ab":
        assert "1 span computed, 10 kept from before" in says(0, "capture", name)
        says(0, "verify", name, "--deep", "60")
        assert tree(two / f"data/caches/{name}") == before[name]


def test_what_was_noted_of_another_capture_is_told_until_there_is_a_capture(two):
    swap(two / "data/provenance/a.json", two / "data/provenance/b.json")
    message = says(0, "cost")
    for name in "ab":
        assert f"data/caches/{name}: not the cache of the last capture in" in message
    assert "made it: teach a, teach b, capture a, capture b" in message
    for name in "ab":
        says(0, "capture", name)
    assert "not the cache of the last capture" not in says(0, "cost")


def test_students_of_other_labels_are_not_measured_beside_these(project, monkeypatch):
    """The cache knows no labels, so it is whole; the baseline and the teacher learned from others."""
    says(0, "distill", "s", "--hard")
    says(0, "distill", "s", "-T", "2")
    says(0, "evaluate")
    opened = open_splits(project / "data/transfer", ["train", "valid", "test"])
    monkeypatch.setattr("pipeline.data.splits.span_rows", lambda classes, row_bytes: 8)
    for name, split in opened.items():
        labels = (split.labels() + (name == "train")) % 3
        write_split(project / f"data/transfer/{name}.parquet", split.read_all(), labels, 3)
    message = says(2, "evaluate")
    assert "student s-hard, data" in message
    for fix in fixes(message):
        says(0, *fix)
    message = says(2, "evaluate")
    assert "student s-T2, data" in message
    for fix in fixes(message):
        says(0, *fix)
    assert "teacher a: trained on other data than these" in says(0, "evaluate")


# ---------------------------------------------------------------- ways out


def test_without_params_the_fix_gives_the_cache_that_was_there(project):
    """The message says every option that the cache was made with."""
    (project / "params.yaml").unlink()
    before = tree(project / "data/caches/a")
    shutil.rmtree(project / ".softcache")
    span = project / "data/caches/a/logits.zarr/transfer/c/1/1/0"
    span.write_bytes(span.read_bytes()[:-1])
    for command in (("verify", "a"), ("distill", "s", "-T", "2", "--teachers", "a", "--model", "mlp(hidden=[3])", *OPTIONS)):
        message = says(3, *command)
        assert "transfer view 1, rows 8 to 15" in message
    for fix in fixes(message):
        says(0, *fix)
    assert tree(project / "data/caches/a") == before
    says(0, *command)


def test_the_fix_says_what_the_cache_was_made_with_though_the_settings_are_others(project):
    """Options that are the commands' own defaults among them, which params.yaml comes before."""
    says(0, "capture", "a", "--policy", "none()", "--views", 1, "--view-seed", 0, "--tile", 512)
    before = tree(project / "data/caches/a")
    span = project / "data/caches/a/logits.zarr/transfer/c/0/1/0"
    span.write_bytes(span.read_bytes()[:-1])
    (fix,) = (each for each in fixes(says(3, "verify", "a")))
    assert "1 span computed" in says(0, *fix)
    assert tree(project / "data/caches/a") == before


def test_findings_of_one_cache_do_not_hide_what_is_wrong_with_another(two):
    span = two / "data/caches/a/logits.zarr/transfer/c/0/1/0"
    span.write_bytes(span.read_bytes()[:-1])
    (two / "data/teachers/b/model.json").write_text("{}")
    message = says(3, "verify", "a", "b", "--deep", 10)
    assert "transfer view 0, rows 8 to 15" in message
    assert "data/teachers/b/model.json: expected facts with their digest" in message
    for fix in fixes(message):
        says(0, *fix)
    says(0, "capture", "b")
    says(0, "verify", "a", "b", "--deep", 10)


@pytest.mark.parametrize(("place", "name"), [("data/caches", "./a"), ("data/caches/a", "./"), (".", "./short")])
def test_the_fix_is_the_same_from_wherever_a_cache_is_named(project, monkeypatch, place, name):
    (project / "short").symlink_to("data/caches/a")
    span = project / "data/caches/a/logits.zarr/transfer/c/0/1/0"
    span.write_bytes(span.read_bytes()[:-1])
    before = tree(project / "data/caches/a").keys()
    monkeypatch.setenv("SOFTCACHE_WORK", str(project / ".softcache"))
    with monkeypatch.context() as patch:
        patch.chdir(place)
        (fix,) = fixes(says(3, "verify", name))
        says(0, *fix)
    says(0, "verify", "a")
    assert tree(project / "data/caches/a").keys() == before


OPTIONS = shlex.split("--policy 'shift(pixels=1)' --views 3 --view-seed 5 --optimizer 'sgd(lr=0.1)' --epochs 1 --batch-size 8")


def test_a_damaged_teacher_stops_what_is_done_anew_before_anything_is_lost(project):
    weights = project / "data/teachers/a/model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    before = tree(project / "data/caches"), tree(project / ".softcache")
    assert "model.safetensors: expected sha256" in says(3, "capture", "a", "--anew")
    after = tree(project / ".softcache")
    assert (tree(project / "data/caches"), after.keys() & before[1].keys()) == (before[0], before[1].keys())
    weights.write_bytes(whole)
    assert "0 spans computed, 11 kept" in says(0, "capture", "a")


def test_a_deep_look_shows_what_it_found_though_it_cannot_go_on(project):
    span = project / "data/caches/a/logits.zarr/valid/c/0/0/0"
    span.write_bytes(span.read_bytes()[:-1])
    shutil.rmtree(project / "data/teachers")
    message = says(3, "verify", "a", "--deep", "10")
    assert "valid view 0, rows 0 to 4" in message


def test_former_work_that_is_half_removed_is_cleared_by_the_next_capture(project, monkeypatch):
    """Another dtype, killed right after the first folder of the former work has gone."""
    before = tree(project / "data/caches/a")
    remove, removed = files.remove, []

    def killed(path):
        remove(path)
        if path.name == "spans":
            removed.append(path)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files, "remove", killed)
        says(1, "capture", "a", "--dtype", "float16")
    assert len(removed) == 1
    says(0, "verify", "a")
    says(0, "capture", "a", "--dtype", "float16")
    assert len(list(project.glob(".softcache/*/records"))) == 1
    says(0, "capture", "a")
    assert tree(project / "data/caches/a") == before


def test_links_that_lead_in_a_circle_are_a_message(project):
    shutil.rmtree(project / "data/caches")
    (project / "data/caches").symlink_to(project / "data/loop")
    (project / "data/loop").symlink_to(project / "data/caches")
    for command in (("capture", "a"), ("distill", "s", "-T", "2"), ("verify", "a")):
        assert "Error: " in says(2, *command)


@pytest.mark.parametrize(
    ("place", "command"),
    [
        ("data/students/.s-T2.lock.partial", ("distill", "s", "-T", "2")),
        ("data/sweeps/.all.lock.partial", ("sweep", "all")),
        ("data/caches/.a.lock.partial", ("capture", "a")),
        ("data/teachers/.a.lock.partial", ("teach", "a")),
    ],
)
def test_two_that_write_one_output_do_not_meet(project, place, command):
    """The second is told who is at it, and what is there stays; when the first is gone, the way is free."""
    (project / place).parent.mkdir(exist_ok=True)
    held = [sys.executable, "-c", HOLDER, place]
    holder = subprocess.Popen(held, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PYTHONPATH": str(Path.cwd().parent)})
    before = tree(project / "data")
    try:
        assert holder.stdout.readline() == b"held\n"
        message = says(4, *command)
        assert f"found pid {holder.pid} on " in message
    finally:
        holder.kill()
        holder.wait()
    times = project / "data/times.csv"
    assert {name: held for name, held in tree(project / "data").items() if name != times.name and "partial" not in name} == {
        name: held for name, held in before.items() if name != times.name and "partial" not in name
    }
    says(0, *command)
    assert not list(project.glob("data/**/*.partial"))


def test_what_a_capture_reads_may_not_change_while_it_runs(project, monkeypatch):
    """A teacher that is trained anew meanwhile: nothing is written, and the next capture is of the new one."""
    from pipeline.cache.writer import Work

    seal = Work.seal

    def meanwhile(self, *given):
        change_teacher(project / "data/teachers/a", lambda net: next(net.parameters()).add_(1))
        return seal(self, *given)

    before = tree(project / "data/caches/a")
    with monkeypatch.context() as patch:
        patch.setattr(Work, "seal", meanwhile)
        message = says(4, "capture", "a", "--anew")
    assert "expected what it was when this started" in message
    assert tree(project / "data/caches/a") == before
    says(0, "capture", "a")
    says(0, "verify", "a", "--deep", "60")
    assert json.loads((project / "data/caches/a/manifest.json").read_text())["identity"]["teacher"]["name"] == "a"
    assert tree(project / "data/caches/a") != before


def test_a_cache_that_lies_elsewhere_is_to_be_copied_again(project):
    """No command writes to such a place."""
    run_capture(project / "data", "a")
    shutil.copytree(project / "data/caches/a", project / "copies/a")
    span = project / "copies/a/logits.zarr/transfer/c/1/1/0"
    span.write_bytes(span.read_bytes()[:-1])
    message = says(3, "verify", str(project / "copies/a"))
    assert "so it is a copy: copy all of it again" in message
