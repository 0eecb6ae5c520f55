"""kill -9 at every file operation of a capture, and at random moments: the next run gives the cache that no kill would."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import kills
import pytest
import torch

from conftest import run_capture, write_stage_one

KILLS = Path(kills.__file__)


KEPT = {"logits": {}, "int8": {"knowledge": "hidden", "dtype": "int8", "features": ("layer1",)}}


@pytest.fixture(
    scope="module", params=[each if each == "logits" else pytest.param(each, marks=pytest.mark.soak) for each in KEPT]
)
def folder(tmp_path_factory, request) -> Path:
    """Two spans of the transfer set, a teacher, and its cache of other views."""
    root = tmp_path_factory.mktemp("kills")
    (root / "kept.json").write_text(json.dumps(KEPT[request.param]))
    torch.set_num_threads(1)
    run_capture(write_stage_one(root / "start", rows=12), views=2, view_seed=2)
    return root


def killed(folder: Path, mode: str, runs: list[tuple[int, int]]) -> int:
    """Run kills.py once for each of `runs`, side by side; returns the number of kills, all of which must have ended well."""

    def one(first: int, amount: int) -> list[str]:
        command = [sys.executable, str(KILLS), mode, str(folder), str(first), str(amount)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()

    with ThreadPoolExecutor(len(runs)) as pool:
        printed = list(pool.map(one, *zip(*runs, strict=True)))
    assert [line for lines in printed for line in lines[:-1]] == []
    return sum(int(lines[-1]) for lines in printed)


def test_killed_at_some_file_operations(folder):
    assert killed(folder, "operations", [(0, 32 if "{}" in (folder / "kept.json").read_text() else 144)]) > 4


@pytest.mark.soak
def test_killed_at_every_file_operation(folder):
    assert killed(folder, "operations", [(0, 2), (1, 2)]) > 150


def test_killed_at_random_moments(folder):
    assert killed(folder, "moments", [(0, 2)]) > 0


@pytest.mark.soak
def test_killed_at_two_hundred_random_moments(folder):
    assert killed(folder, "moments", [(1000, 130), (2000, 130)]) >= 200
