"""A cache whose spans are kept apart: two small files say all that DVC has to know, and whoever reads finds the spans."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

import projects
import servers
from conftest import run_capture, tree, write_stage_one
from pipeline.base import files
from pipeline.base.errors import InputError
from pipeline.base.places import Place, place

DISTILL = ("distill", "s", "-T", "2")
FOLDER, STUDENTS = Path("data/caches/a"), Path("data/students/s-T2")


@pytest.fixture(params=["disk", "s3"])
def store(request, tmp_path, monkeypatch) -> str:
    """Where spans are kept, by a project that is the present folder: elsewhere on this machine, or in an object store."""
    projects.make(tmp_path / "project", monkeypatch)
    if request.param == "disk":
        return str(tmp_path / "store")
    request.getfixturevalue("bucket")
    return servers.folder()


def spans_of(store: str) -> list[Place]:
    """Every file of transfer logits in a store, in order."""
    base = place(store) / "a"
    found = base.rglob("*") if isinstance(base, Path) else (each for each, _ in base.objects())
    return sorted(each for each in found if "logits.zarr/transfer/c/" in str(each) and each.is_file())


def test_the_manifest_alone_stands_for_a_cache(store):
    """Students have the bytes that they have of an ordinary cache; a manifest of before finds its own spans."""
    projects.says(0, *DISTILL)
    ordinary, student = (FOLDER / "manifest.json").read_bytes(), tree(STUDENTS)
    shutil.rmtree(FOLDER)
    projects.says(0, "capture", "a", "--store", store)
    exact = tree(FOLDER)
    assert set(exact) == {"manifest.json", "address.json"}
    assert exact["manifest.json"] == ordinary
    assert "as sealed" in projects.says(0, "verify", "a")
    said = projects.says(0, "inspect", "a")
    assert "3 × 20 × 3 (views, rows, classes)" in said
    assert f"data/caches/a, its spans in {store}/a/" in said
    projects.says(0, *DISTILL)
    assert tree(STUDENTS) == student

    projects.says(0, "capture", "a", "--store", store, "--dtype", "float16")
    rounded = tree(FOLDER)
    projects.says(0, *DISTILL)
    assert tree(STUDENTS) != student
    for name, data in exact.items():
        (FOLDER / name).write_bytes(data)
    projects.says(0, *DISTILL)
    assert tree(STUDENTS) == student

    for name in (".softcache", FOLDER):  # as on another machine
        shutil.rmtree(name)
    assert "0 spans computed" in projects.says(0, "capture", "a", "--store", store)
    assert tree(FOLDER) == exact
    projects.says(0, "capture", "a", "--store", store, "--dtype", "float16")
    assert tree(FOLDER) == rounded


def test_damage_is_found_and_mended(store):
    projects.says(0, "capture", "a", "--store", store)
    sound, (first, *others) = tree(FOLDER), spans_of(store)
    data = bytearray(first.read_bytes())
    data[5] ^= 1
    files.write(first, bytes(data))
    said = projects.says(3, "verify", "a")
    assert "1 finding" in said
    assert f"{first} (transfer view 0, rows 0 to 7): expected sha256" in said
    assert "transfer view 0, rows 0 to 7" in projects.says(3, *DISTILL)
    [again] = re.findall(r"Run `softcache (.*?)` to compute the damaged part again", said)
    projects.says(0, *shlex.split(again))
    assert "as sealed" in projects.says(0, "verify", "a")
    for each in others:
        files.remove(each)
    assert f"({len(others)} of " in projects.says(3, *DISTILL)
    shutil.rmtree(".softcache")
    projects.says(0, "capture", "a", "--store", store)
    assert tree(FOLDER) == sound
    projects.says(0, *DISTILL)


def test_what_is_refused(tmp_path, monkeypatch):
    projects.make(tmp_path / "project", monkeypatch)
    said = projects.says(2, "capture", "a", "--store", tmp_path, "--data", "s3://bucket/data")
    assert "store: expected a cache whose manifest is on this machine, found s3://bucket/data/caches/a" in said
    projects.says(0, "capture", "a", "--store", tmp_path / "store")
    address = FOLDER / "address.json"
    address.write_bytes(address.read_bytes().replace(b"store/a", b"stone/a"))
    for command in (("verify", "a"), DISTILL):
        assert "address.json: expected facts with their digest" in projects.says(3, *command)


@pytest.mark.parametrize("inside", ["caches", "caches/a", "caches/a/deeper", "link"])
def test_spans_are_not_kept_where_the_cache_is_replaced(tmp_path, inside):
    """They would go with the folder that they lie in."""
    folder = write_stage_one(tmp_path)
    run_capture(folder)
    before = tree(folder / "caches")
    (folder / "link").symlink_to(folder / "caches")
    with pytest.raises(InputError, match="store: expected a folder apart from"):
        run_capture(folder, store=folder / inside)
    assert tree(folder / "caches") == before
