"""Files are whole or absent; locks are real."""

import json
import math
import os
import subprocess
import sys

import pytest

from conftest import tree
from pipeline.base import files
from pipeline.base.errors import BusyError, IntegrityError
from pipeline.base.places import place

HOLDER = """
import sys, time
from pathlib import Path
from pipeline.base import files
with files.locked(Path(sys.argv[1]), "it"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_canonical_json():
    assert files.canonical_json({"b": [1, 2.5], "a": "é"}) == '{"a":"é","b":[1,2.5]}'.encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.canonical_json(math.nan)


@pytest.mark.parametrize(
    "value",
    [
        {
            "é": [],
            "b": {},
            "flat": [1, 2.5e-7, "a, b: [c]", None],
            "deep": [{"x": 1, "y": [0.1, 1e16]}, [], [[True]]],
            7: {8: "\n"},
        },
        [{"one": 1}, {"two": (2, {"three": '"}, {'})}],
        "alone",
        [],
    ],
)
def test_readable_json_is_what_json_writes(value):
    assert files.readable_json(value) == (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.readable_json([value, [math.inf]])


def test_write_leaves_nothing_else(tmp_path):
    files.write(tmp_path / "deep/file", b"one")
    files.write(tmp_path / "deep/file", b"two")
    assert (tmp_path / "deep/file").read_bytes() == b"two"
    assert os.listdir(tmp_path / "deep") == ["file"]


def test_a_failed_write_keeps_the_former_file(tmp_path, monkeypatch):
    files.write(tmp_path / "file", b"one")
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        files.write(tmp_path / "file", b"two")
    assert (tmp_path / "file").read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["file"]


def test_bytes_that_are_bound(tmp_path):
    files.write(tmp_path / "file", b"one")
    digest = files.sha256(b"one")
    assert files.read_bound(tmp_path / "file", digest, "Mend it.") == b"one"
    files.write(tmp_path / "file", b"two")
    (tmp_path / "folder").mkdir()
    for name, found in (("file", "found sha256 3fc4ccfe74587"), ("none", "found no file"), ("folder", "found a folder")):
        with pytest.raises(IntegrityError, match=found):
            files.read_bound(tmp_path / name, digest, "Mend it.")


def test_what_was_read_is_the_same_or_nothing_is_written(tmp_path):
    files.write(tmp_path / "in", b"one")
    read = [files.Witness.of_file(tmp_path / "in", files.sha256(b"one"))]
    for content, change in (
        ("one", lambda: None),
        ("two", lambda: files.write(tmp_path / "in", b"two")),
        ("two", (tmp_path / "in").unlink),
    ):
        if content == "one":
            with files.replaced_folder(tmp_path / "out", read=read) as folder:
                (folder / content).touch()
            continue
        with pytest.raises(BusyError, match="run this again"), files.replaced_folder(tmp_path / "out", read=read) as folder:
            (folder / content).touch()
            change()
        assert os.listdir(tmp_path / "out") == ["one"]


def test_a_link_in_the_place_of_a_folder_stays_and_is_followed(tmp_path):
    """Twice: what the first time leaves behind must not be in the way of the second."""
    (tmp_path / "elsewhere/deep").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere/deep")
    for content in ("one", "two", "three"):
        with files.replaced_folder(tmp_path / "out") as folder:
            (folder / content).touch()
        assert (tmp_path / "out").is_symlink()
        assert os.listdir(tmp_path / "elsewhere/deep") == [content]
        assert (os.listdir(tmp_path / "elsewhere"), sorted(os.listdir(tmp_path))) == (["deep"], ["elsewhere", "out"])


@pytest.mark.parametrize("killed", [False, True])
def test_other_entries_can_be_kept(tmp_path, killed):
    """Also by the next call, where a process was killed between the two renames and what follows."""
    out, former = tmp_path / "out", tmp_path / ".out.former.partial"
    for name in ("made", "other"):
        files.write(out / name, b"before")
    if killed:
        out.rename(former)
        files.write(out / "made", b"between")
    with files.replaced_folder(out, keep_others=True) as folder:
        (folder / "made").write_text("after")
    assert tree(tmp_path) == {"out/made": b"after", "out/other": b"before"}


def test_replaced_folder_swaps_whole_folders(tmp_path):
    for content in ("one", "two"):
        with files.replaced_folder(tmp_path / "out") as folder:
            (folder / content).write_text(content)
    assert os.listdir(tmp_path / "out") == ["two"]
    assert os.listdir(tmp_path) == ["out"]


def test_replaced_folder_changes_nothing_on_failure(tmp_path):
    with files.replaced_folder(tmp_path / "out") as folder:
        (folder / "one").write_text("1")
    with pytest.raises(ZeroDivisionError), files.replaced_folder(tmp_path / "out") as folder:
        (folder / "two").write_text("2")
        raise ZeroDivisionError
    assert os.listdir(tmp_path / "out") == ["one"]
    assert os.listdir(tmp_path) == ["out"]


def test_replaced_folder_starts_empty_after_a_kill(tmp_path):
    left = tmp_path / ".out.partial"
    (left / "deep").mkdir(parents=True)
    (left / "deep/stale").write_text("stale")
    with files.replaced_folder(tmp_path / "out") as folder:
        assert os.listdir(folder) == []


MARKED = """
import os, sys, time
from pathlib import Path
from pipeline.base import files
from pipeline.base.errors import BusyError
folder, end, done = Path(sys.argv[1]), time.monotonic() + 2, 0
while time.monotonic() < end:
    try:
        with files.locked_folder(folder, "it"):
            mark = os.open(folder / "mark", os.O_CREAT | os.O_EXCL)
            os.close(mark)
            (folder / "work").mkdir()
            files.clear(folder)
            done += 1
    except BusyError:
        pass
print(done)
"""


def test_of_four_that_want_a_folder_again_and_again_one_has_it_at_a_time(tmp_path):
    """And it is gone in between, lock and all: whoever comes next makes it."""
    command = [sys.executable, "-c", MARKED, str(tmp_path / "work")]
    several = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for each in several:
        printed, errors = each.communicate()
        assert errors == ""
        assert int(printed) > 0
    assert os.listdir(tmp_path) == []


def test_a_lock_that_was_removed_under_its_holder_is_not_another_s(tmp_path):
    with files.locked(tmp_path / "lock", "it"):
        (tmp_path / "lock").unlink()
        with files.locked(tmp_path / "lock", "it"):
            pass
    first, second = (files.locked(tmp_path / "lock", "it") for _ in range(2))
    with first:
        (tmp_path / "lock").unlink()
        second.__enter__()
    assert (tmp_path / "lock").exists()
    second.__exit__(None, None, None)
    assert os.listdir(tmp_path) == []


def test_a_lock_is_exclusive_between_processes_and_dies_with_its_holder(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "lock")], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BusyError, match="Wait for it"), files.locked(tmp_path / "lock", "it"):
            pass
    finally:
        holder.kill()
        holder.wait()
    with files.locked(tmp_path / "lock", "it"):
        pass
    assert os.listdir(tmp_path) == []


def test_what_exists_is_not_created_again(tmp_path):
    path = tmp_path / "deep/file"
    assert files.create(path, b"one")
    assert files.create(path, b"one")
    assert not files.create(path, b"two")
    assert (path.read_bytes(), os.listdir(path.parent)) == (b"one", ["file"])


def test_a_folder_in_a_store_is_replaced_as_a_whole(bucket):
    """The former generation is there until the new one is; a block that fails changes nothing."""
    folder = place(bucket) / "students/tiny"
    assert files.current(folder) == folder

    def put(content: bytes, **how) -> None:
        with files.replaced_folder(folder, **how) as local:
            (local / "deep").mkdir()
            (local / "deep/weights").write_bytes(content)
            (local / content.decode()).write_bytes(b"named")
            if content == b"bad":
                raise RuntimeError("no")

    put(b"one")
    first = files.current(folder)
    assert files.sizes(first) == {"deep/weights": 3, "one": 5}
    with pytest.raises(RuntimeError):
        put(b"bad")
    assert files.current(folder) == first
    put(b"two", keep_others=True)
    second = files.current(folder)
    assert (second / "deep" / "weights").read_bytes() == b"two"
    assert sorted(files.sizes(second)) == ["deep/weights", "one", "two"]
    assert (first / "deep" / "weights").read_bytes() == b"one", "who reads it can go on"
    put(b"two")
    assert [files.holds(folder, name) for name in ("one", "two", "deep")] == [False, True, False]
    put(b"two")  # the same bytes are the same generation
    assert files.holds(folder, "two")
    files.write(folder / "current.json", b'{"folder": "../x", "digest": ""}')
    with pytest.raises(IntegrityError, match="expected the name of a folder, found something else"):
        files.current(folder)


def test_digests_of_objects(bucket, tmp_path):
    for path in (place(bucket) / "x", tmp_path / "x"):
        files.write(path, b"abc")
        assert files.sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of FIPS 180-2
        files.remove(path)
        assert not path.exists()
