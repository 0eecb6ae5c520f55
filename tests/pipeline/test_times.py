"""Times: a whole line for every command that ends, from several processes at once, and never a failure of their own."""

import csv
import errno
import os
import re
import signal
import stat
import subprocess
import sys
import textwrap
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from pipeline import runtime, times

ROOT = Path(__file__).resolve().parents[2]
WHAT = {"command": "teach", "name": "a", "run": "a", "device": "cpu", "threads": 3}


def lines(folder: Path) -> list[dict[str, str]]:
    with (folder / times.FILE).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_command_that_is_done_leaves_a_line(tmp_path):
    with times.noted(tmp_path, **WHAT):
        pass
    header, line = (tmp_path / "times.csv").read_text().splitlines()
    assert header == "command,name,run,started,seconds,ended,device,threads"
    assert re.fullmatch(r"teach,a,a,\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ,0\.[0-9],done,cpu,3", line)


@pytest.mark.parametrize(
    ("raised", "ended"), [(ValueError, "failed"), (SystemExit, "failed"), (KeyboardInterrupt, "interrupted")]
)
def test_a_command_that_does_not_end_well_leaves_a_line(tmp_path, raised, ended):
    with pytest.raises(raised), times.noted(tmp_path, **WHAT):
        raise raised
    assert [line["ended"] for line in lines(tmp_path)] == [ended]


def test_every_core_is_the_default_and_auto_is_resolved(tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with times.noted(tmp_path, **WHAT | {"device": "auto", "threads": None}):
        pass
    assert (lines(tmp_path)[0]["device"], lines(tmp_path)[0]["threads"]) == ("cuda", str(runtime.cores()))
    monkeypatch.delitem(sys.modules, "torch")
    with times.noted(tmp_path, **WHAT | {"device": "auto"}):
        pass
    assert lines(tmp_path)[1]["device"] == "auto"


def test_no_folder_is_made(tmp_path):
    with times.noted(tmp_path / "data", **WHAT):
        pass
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_a_warning(tmp_path, caplog):
    (tmp_path / "times.csv").mkdir()
    with times.noted(tmp_path, **WHAT):
        pass
    assert "times.csv: the time of this command is not noted: " in caplog.text


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


def _append_many(path: Path, number: int) -> None:
    for each in range(50):
        times.append(path, (number, each, "x" * 200))


def test_several_processes_at_once(tmp_path):
    path = tmp_path / "times.csv"
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        list(pool.map(_append_many, [path] * 4, range(4)))
    header, *found = path.read_text().splitlines()
    assert header == ",".join(times.COLUMNS)
    assert sorted(found) == sorted(f"{number},{each},{'x' * 200}" for number in range(4) for each in range(50))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_signals(tmp_path, number):
    """The process ends of the signal as it would have; all but SIGKILL leave a line."""
    code = f"""
        import pathlib, signal, time
        from pipeline import times
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
