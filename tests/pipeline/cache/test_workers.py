"""Captures by several workers: whoever dies, and however many there are, the bytes are those of one process."""

from pathlib import Path

import pytest

import crews
from conftest import run_capture, tree
from pipeline.base import runtime
from pipeline.base.crew import Workers
from pipeline.cache import workers
from pipeline.cache.provenance import Provenance

ONE = Workers("processes", 1, device="cpu", threads=1)
TILES = 4 * 3 * 2 + 2 * 2 * 2  # of 4 rows: spans × views × 2 of the transfer set, and of the others
ONCE = workers.IN_HAND * 3 * 2  # that are lost with a worker, at most


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    runtime.prepare("cpu")
    crews.stage(tmp_path, monkeypatch)
    return tmp_path


def test_a_process_that_dies_is_replaced_and_the_bytes_are_those_of_this_process(folder, caplog):
    (folder / "notes/die").mkdir()
    done = run_capture(folder, workers=ONE)
    assert (done.computed, done.kept) == (4 * 3 + 2 + 2, 0)
    assert tree(folder / "caches/a") == tree(folder / "here")
    assert len([text for text in caplog.messages if "was ended by SIGKILL" in text]) == 1
    assert sum(crews.seen(folder).values()) <= TILES + ONCE
    found = Provenance.open(folder / "provenance/a.json")
    assert found is not None
    assert found.workers == 1


def test_actors_one_of_which_dies_give_the_bytes_of_this_process(folder):
    pytest.importorskip("ray")
    (folder / "notes/die").mkdir()
    capture = crews.capturing(folder, *crews.alone(), on="ray", count=2)
    told, _ = capture.communicate(timeout=300)
    assert capture.returncode == 0, told
    assert tree(folder / "caches/a") == tree(folder / "here")
    assert told.count("what it had in hand") == 1
    assert "raylet" not in told  # what Ray would print of that
    assert sum(crews.seen(folder).values()) <= TILES + ONCE
