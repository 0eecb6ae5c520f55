"""Files are whole or absent; locks are real."""

import math
import os
import subprocess
import sys

import pytest

from pipeline import files
from pipeline.errors import BusyError, InputError

HOLDER = """
import sys, time
from pathlib import Path
from pipeline import files
with files.locked(Path(sys.argv[1]), "it"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_canonical_json():
    assert files.canonical_json({"b": [1, 2.5], "a": "é"}) == '{"a":"é","b":[1,2.5]}'.encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.canonical_json(math.nan)


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


def test_read_json_says_what_is_wrong(tmp_path):
    with pytest.raises(InputError, match="found none"):
        files.read_json(tmp_path / "none")
    (tmp_path / "bad").write_text("{")
    with pytest.raises(InputError, match="expected JSON"):
        files.read_json(tmp_path / "bad")


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
        assert os.listdir(folder) == [files.LOCK]


def test_a_lock_is_exclusive_between_processes_and_dies_with_its_holder(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BusyError, match="Wait for it"), files.locked(tmp_path, "it"):
            pass
    finally:
        holder.kill()
        holder.wait()
    with files.locked(tmp_path, "it"):
        pass
