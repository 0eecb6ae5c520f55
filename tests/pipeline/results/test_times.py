"""Times: a whole line for every command that ends, from several processes at once, and never a failure of their own."""

import csv
import errno
import hashlib
import os
import re
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from pipeline.results import times

ROOT = Path(__file__).resolve().parents[3]
WHAT = {"command": "teach", "name": "a", "run": "a", "device": "cpu", "threads": 3}


def lines(folder: Path) -> list[dict[str, str]]:
    with (folder / times.FILE).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_command_that_is_done_leaves_a_line(tmp_path):
    with times.noted(tmp_path, **WHAT):
        pass
    header, line = (tmp_path / "times.csv").read_text().splitlines()
    assert header == "command,name,run,started,seconds,ended,device,threads,check"
    found = re.fullmatch(r"(teach,a,a,\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ,0\.[0-9],done,cpu,(\d+)),([0-9a-f]{16})", line)
    assert found[2] == str(WHAT["threads"])
    assert found[3] == hashlib.sha256(found[1].encode()).hexdigest()[:16]


def test_a_changed_line_is_told_from_a_whole_one():
    line = times.checked(b"teach,a,a,2026-01-01T00:00:00Z,1.0,done,cpu,2")
    assert times.is_whole(line.rstrip(b"\n"))
    for place in range(len(line) - 1):
        assert not times.is_whole((line[:place] + bytes([line[place] ^ 1]) + line[place + 1 :]).rstrip(b"\n"))


@pytest.mark.parametrize(
    ("raised", "ended"), [(ValueError, "failed"), (SystemExit, "failed"), (KeyboardInterrupt, "interrupted")]
)
def test_a_command_that_does_not_end_well_leaves_a_line(tmp_path, raised, ended):
    with pytest.raises(raised), times.noted(tmp_path, **WHAT):
        raise raised
    assert [line["ended"] for line in lines(tmp_path)] == [ended]


def test_what_might_be_used_is_noted_where_nothing_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with times.noted(tmp_path, **WHAT | {"device": "auto", "threads": None}):
        pass
    assert (lines(tmp_path)[0]["device"], lines(tmp_path)[0]["threads"]) == ("cuda", "7")
    monkeypatch.delitem(sys.modules, "torch")
    with times.noted(tmp_path, **WHAT | {"device": "auto"}):
        pass
    assert (lines(tmp_path)[1]["device"], lines(tmp_path)[1]["threads"]) == ("auto", "3")


def test_no_folder_is_made(tmp_path):
    with times.noted(tmp_path / "data", **WHAT):
        pass
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_a_warning(tmp_path, caplog):
    (tmp_path / "times.csv").mkdir()
    with times.noted(tmp_path, **WHAT):
        pass
    assert "times.csv: the time of this command was not recorded: " in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_is_read_only(tmp_path, caplog):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with times.noted(tmp_path, **WHAT):
        pass
    tmp_path.chmod(stat.S_IRWXU)
    assert "Permission denied" in caplog.text
    assert not list(tmp_path.iterdir())


def test_half_a_line_is_taken_back(tmp_path, monkeypatch):
    """A disk that is full in the middle of a line, or at its start."""
    path, write = tmp_path / "times.csv", os.write
    times.append(path, ("teach",))
    before = path.read_bytes()
    monkeypatch.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:3]))
    with pytest.raises(OSError, match="no room left"):
        times.append(path, ("capture",))
    assert path.read_bytes() == before

    def full(descriptor: int, line: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        times.append(path, ("capture",))
    assert path.read_bytes() == before


def test_several_processes_at_once(tmp_path):
    path = tmp_path / "times.csv"
    code = """
import pathlib, sys
from pipeline.results import times
for each in range(50):
    times.append(pathlib.Path(sys.argv[1]), (sys.argv[2], each, "x" * 200))
"""
    processes = [subprocess.Popen([sys.executable, "-c", code, str(path), str(number)], cwd=ROOT) for number in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    header, *found = path.read_text().splitlines()
    assert header == ",".join(times.COLUMNS)
    assert all(times.is_whole(line.encode()) for line in found)
    expected = sorted(f"{number},{each},{'x' * 200}" for number in range(4) for each in range(50))
    assert sorted(line.rpartition(",")[0] for line in found) == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_signals(tmp_path, number):
    """The process ends of the signal as it would have; all but SIGKILL leave a line."""
    code = f"""
        import pathlib, signal, time
        from pipeline.results import times
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with times.noted(pathlib.Path({str(tmp_path)!r}), **{WHAT!r}):
            print("at work", flush=True)
            time.sleep(60)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert child.stdout.readline() == b"at work\n"
    child.send_signal(number)
    child.communicate(timeout=30)
    assert child.returncode == -number
    if number == signal.SIGKILL:
        assert not list(tmp_path.iterdir())
    else:
        assert [line["ended"] for line in lines(tmp_path)] == ["interrupted"]


def test_signals_are_given_back_and_ignored_ones_stay_ignored(tmp_path):
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with times.noted(tmp_path, **WHAT):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, former)
