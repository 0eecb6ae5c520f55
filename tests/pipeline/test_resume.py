"""A training that was interrupted anywhere goes on, and ends with the bits of one that was not."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import training_kills
from training_kills import MODEL, RECIPE, VIEWS, jobs

from conftest import run_capture, tree, write_stage_one
from pipeline import checkpoint, fit, runtime
from pipeline.distill import distill
from pipeline.errors import BusyError, InputError, IntegrityError
from pipeline.objective import HARD

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Below `start`: splits, teachers and caches."""
    runtime.prepare("cpu", threads=1)
    root = tmp_path_factory.mktemp("resume")
    write_stage_one(root / "start", teachers="ab")
    for name in "ab":
        run_capture(root / "start", name)
    return root


@pytest.fixture
def data(root, tmp_path) -> Path:
    return training_kills.fresh(root, str(tmp_path.relative_to(tmp_path.parent)))


class Interrupted(Exception):
    pass


def interrupt_after(monkeypatch, saves: int) -> None:
    """The training keeps every epoch, and stops right after it kept so many."""
    real, count = checkpoint.save_state, iter(range(10**6))

    def save(*given):
        real(*given)
        if next(count) == saves:
            raise Interrupted

    monkeypatch.setattr(fit, "SAVING", float("inf"))
    monkeypatch.setattr(checkpoint, "save_state", save)


@pytest.mark.parametrize("what", ["teach", "distill", "sweep"])
def test_interrupted_after_any_epoch(data, monkeypatch, what):
    """Each time a little further; every run ends where one without interruption ended."""
    job = jobs(data)[what]
    job()
    expected = tree(data / "out")
    assert any(name.endswith(".safetensors") for name in expected)
    for saves in (0, 1, 2, 5, 8):
        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            interrupt_after(patch, saves)
            job()
        assert tree(data / "out") == expected  # the former result stays until another is whole
        assert list(data.glob("work/trainings/*/*.safetensors"))
        job()
        assert tree(data / "out") == expected
        assert not list(data.glob("work/trainings/*"))


def test_what_was_kept_is_used(data, monkeypatch):
    """Interrupted after nine epochs, a training shows its rows three more times, not twelve."""
    job, epochs = jobs(data)["teach"], []
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        interrupt_after(patch, 8)
        job()
    real = fit._Training.epoch
    monkeypatch.setattr(fit._Training, "epoch", lambda self, bar: epochs.append(self.done) or real(self, bar))
    job()
    assert epochs[0] == 9


def test_what_other_settings_had_reached_is_given_up(data, monkeypatch, caplog):
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        interrupt_after(patch, 3)
        jobs(data)["distill"]()
    students = {"model": MODEL, "recipe": RECIPE, "views": VIEWS, "rows": "all", "correct": (), "seeds": (0, 1)}
    given = {"splits": data / "transfer", "work": data / "work", "out": data / "out", "device": CPU}
    with caplog.at_level("WARNING", "pipeline"):
        distill(soft=None, weighing=HARD, **students, **given)
    assert "an unfinished training is given up, because these have changed since" in caplog.text
    after = tree(data / "out")
    distill(soft=None, weighing=HARD, **students, **given)
    assert tree(data / "out") == after


def test_states_whose_settings_are_unknown_are_not_used(data, monkeypatch):
    """As after a kill amid the removal of what a finished training had kept."""
    jobs(data)["distill"]()
    expected = tree(data / "out")
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        interrupt_after(patch, 3)
        jobs(data)["teach"]()
    (identity,) = data.glob("work/trainings/*/identity.json")
    for path in identity.parent.glob("model.safetensors"):
        path.rename(path.with_name("seed-0.safetensors"))
    identity.unlink()
    jobs(data)["distill"]()
    assert tree(data / "out") == expected


def test_a_damaged_state_is_told(data, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        interrupt_after(patch, 3)
        jobs(data)["teach"]()
    (path,) = data.glob("work/trainings/*/*.safetensors")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(IntegrityError, match="how far a training was"):
        jobs(data)["teach"]()


def test_two_at_once(data):
    """The second is told that the first is at it."""
    folder = next(iter(data.glob("work/trainings/*")), None)
    assert folder is None
    with checkpoint.resumable(data / "work", data / "out", {"a": 1}), pytest.raises(BusyError, match="training of out"):
        jobs(data)["teach"]()


def test_a_loss_that_is_not_finite_leaves_no_result(data):
    wild = fit.Recipe.parse(optimizer="sgd(lr=1e30)", schedule="constant", epochs=3, batch_size=4)
    with pytest.raises(InputError, match="a finite loss"):
        distill(
            model="mlp(hidden=[5, 5])", recipe=wild, views=VIEWS, rows="all", soft=None, weighing=HARD, correct=(),
            seeds=(0,), splits=data / "transfer", work=data / "work", out=data / "out", device=CPU,
        )  # fmt: skip
    assert not (data / "out").exists()


def killed(root: Path, runs: list[tuple[int, int]]) -> tuple[int, int]:
    """Run training_kills.py for each of `runs`, side by side; returns how many kills, and after how many there was a state."""

    def one(first: int, count: int) -> list[str]:
        command = [sys.executable, training_kills.__file__, str(root), str(first), str(count)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()

    with ThreadPoolExecutor(len(runs)) as pool:
        printed = list(pool.map(one, *zip(*runs, strict=True)))
    assert [line for lines in printed for line in lines[:-1]] == []
    kills, kept = zip(*(map(int, lines[-1].split()) for lines in printed), strict=True)
    return sum(kills), sum(kept)


def test_killed_at_random_moments(root):
    kills, kept = killed(root, [(0, 6), (100, 6)])
    assert kills >= 6
    assert kept >= 3


@pytest.mark.soak
def test_killed_at_fifty_random_moments(root):
    kills, kept = killed(root, [(1000, 40), (2000, 40)])
    assert kills >= 50
    assert kept >= 25
