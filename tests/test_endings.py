"""`teach` ends at every file operation of a capture: no cache is left that its own teacher would not have given."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import endings
import pytest
import torch

from conftest import run_capture, write_stage_one
from pipeline.cache.writer import Work


@pytest.fixture(scope="module", params=["resumed", pytest.param("first", marks=pytest.mark.soak)])
def folder(request, tmp_path_factory) -> Path:
    """Three spans of rows in two views, and two teachers; for a resumed capture, half of the first one's spans."""
    root = tmp_path_factory.mktemp(request.param)
    torch.set_num_threads(1)
    start = write_stage_one(root / "start", teachers="a")
    write_stage_one(root / "more", teachers="xa")  # the second one has other weights
    (start / "other").mkdir()
    (root / "more/teachers/a").rename(start / "other/a")
    if request.param == "resumed":
        publish, done = Work.publish, []

        def stopping(self, *given):
            if len(done) == 3:
                raise KeyboardInterrupt
            done.append(publish(self, *given))

        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Work, "publish", stopping)
            run_capture(start, views=2)
        assert len(list(start.glob("work/*/records/*"))) == 3
    return root


def ended(folder: Path, starts: list[int], step: int) -> tuple[int, int]:
    """Run endings.py once for each start, side by side; returns how many captures there were, and how many were refused."""

    def one(start: int) -> list[str]:
        command = [sys.executable, endings.__file__, str(folder), "run", str(start), str(step)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()

    with ThreadPoolExecutor(len(starts)) as pool:
        printed = list(pool.map(one, starts))
    assert [line for lines in printed for line in lines[:-1]] == []
    captures, refused = zip(*(map(int, lines[-1].split()) for lines in printed), strict=True)
    return sum(captures), sum(refused)


def test_teach_ends_during_a_capture(folder):
    captures, refused = ended(folder, [0], 12)
    assert captures > 8
    assert 2 < refused < captures  # before it is read, and after it is sealed, nothing is to be refused


@pytest.mark.soak
def test_teach_ends_at_every_operation_of_a_capture(folder):
    captures, _ = ended(folder, [0, 1], 2)
    assert captures > 100
