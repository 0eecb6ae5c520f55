"""Sweeps by a crew: the bytes of one process, whatever happens to the workers."""

import multiprocessing
import os
import pickle
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from conftest import run_capture, tree, write_stage_one
from pipeline.base import nearby, runtime
from pipeline.base.crew import HERE, Workers
from pipeline.base.errors import InputError, IntegrityError
from pipeline.data.settings import Views
from pipeline.studies.groups import Plan
from pipeline.studies.sweep import sweep
from pipeline.studies.workers import Start
from pipeline.training import fit
from pipeline.training.lesson import Soft
from pipeline.training.losses import SoftLoss
from pipeline.training.objective import LossWeights
from pipeline.training.recipe import Recipe

TWO = Workers("processes", 2)
EPOCHS = 5
RECIPE = Recipe.parse(optimizer="sgd(lr=0.1, momentum=0.9)", schedule="cosine", epochs=EPOCHS, batch_size=7)
WEIGHTINGS = [LossWeights(1.0, 0.5), LossWeights(8.0, 1e30, 0.5), LossWeights(4.0, 0.9, mutual=0.5)]  # one diverges
STACKS = 2 * 2 + 2  # of two architectures: one for each seed, with the baseline in it, and a cohort


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("workers")
    runtime.prepare("cpu", threads=1)
    write_stage_one(folder, teachers="a")
    run_capture(folder, "a")
    return folder


def swept(data: Path, out: Path, workers: Workers, models=("mlp(hidden=[6])", "mlp(hidden=[3], dropout=0.2)"), recipe=RECIPE):
    """The folder of a sweep, which has a working folder of its own beside it."""
    soft = Soft({"a": data / "caches/a"}, "logits", SoftLoss.parse("kl"))
    plans = {
        f"s{number}": Plan(
            model=model, recipe=recipe, views=Views("shift(1)", 3, 5), rows="all", soft=soft, correct=(0,), seeds=(0, 3)
        )
        for number, model in enumerate(models)
    }
    sweep(
        plans=plans, weightings=WEIGHTINGS, baseline=True, together=64, teachers={"a": data / "teachers/a"},
        splits=data / "transfer", work=out.parent / "work", out=out, device=torch.device("cpu"), workers=workers,
    )  # fmt: skip
    return tree(out)


@pytest.fixture(scope="module")
def expected(data) -> dict[str, bytes]:
    return swept(data, data / "here/sweep", HERE)


@pytest.fixture
def epochs(monkeypatch, tmp_path):
    """Workers are forked, which takes no time, and save every epoch; what happens before an epoch of theirs can be set.

    Returns a function that counts the epochs of all workers together.
    """
    context, log = multiprocessing.get_context("fork"), tmp_path / "epochs"
    monkeypatch.setattr("pipeline.base.processes.multiprocessing.get_context", lambda kind: context)
    monkeypatch.setattr(fit, "SAVING", float("inf"))
    real = fit._Training.epoch

    def epoch(self, bar):
        EVENTS.get(self.done, lambda: None)()
        real(self, bar)
        with log.open("ab") as file:
            file.write(b".")

    monkeypatch.setattr(fit._Training, "epoch", epoch)
    yield lambda: log.stat().st_size
    EVENTS.clear()


EVENTS: dict = {}


def test_workers_that_are_killed_are_replaced_and_no_epoch_is_trained_twice(data, expected, epochs, tmp_path, caplog):
    def die():
        (tmp_path / f"died-{len(list(tmp_path.glob('died-*')))}").touch()
        os.kill(os.getpid(), signal.SIGKILL)

    EVENTS[3] = lambda: die() if len(list(tmp_path.glob("died-*"))) < 3 else None
    found = swept(data, tmp_path / "sweep", TWO)
    assert found.keys() == expected.keys()
    assert [path for path in found if found[path] != expected[path]] == []
    assert sum("was ended by SIGKILL" in text for text in caplog.messages) >= 3
    assert epochs() == STACKS * EPOCHS
    assert sum("s0-T8-alpha1e+30, seed 3: diverged" in text for text in caplog.messages) == 1


def test_an_error_of_a_worker_is_one_message_and_another_crew_goes_on(data, expected, epochs, tmp_path):
    def fail():
        raise InputError("memory", expected="more of it", found="less", fix="Take fewer workers.")

    EVENTS[3] = fail
    with pytest.raises(InputError, match="memory: expected more of it, found less. Take fewer workers."):
        swept(data, tmp_path / "sweep", TWO)
    assert not (tmp_path / "sweep").exists()
    assert not multiprocessing.active_children()
    before = epochs()
    assert before >= 3
    EVENTS.clear()
    assert swept(data, tmp_path / "sweep", HERE) == expected
    assert abs(epochs() - STACKS * EPOCHS) <= 1  # the other worker may have been ended within an epoch


@pytest.fixture
def start(data, tmp_path, monkeypatch) -> Start:
    """What workers start with, out of a sweep that ends there."""
    held: list[Start] = []

    def stop(workers, start):
        assert workers == replace(TWO, device="cpu")  # so none of them takes a GPU
        held.append(pickle.loads(pickle.dumps(start)))
        raise KeyboardInterrupt

    for name, value in (("_share", None), ("_silent", False)):  # put back afterwards
        monkeypatch.setattr(runtime, name, value)
    monkeypatch.setattr("pipeline.studies.workers.open_crew", stop)
    with pytest.raises(KeyboardInterrupt):
        swept(data, tmp_path / "sweep", TWO)
    held[0].states.mkdir(parents=True)
    return held[0]


def test_a_worker_on_another_processor_is_refused(start, monkeypatch):
    start()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "Z80")
    with pytest.raises(IntegrityError, match=r"worker on .*, machine.processor: expected .*, found Z80"):
        start()


def test_a_worker_that_does_not_see_the_states_is_refused(start):
    with pytest.raises(
        InputError, match="worker on .*: expected nowhere, .* found no such folder. Give all workers the same files"
    ):
        replace(start, states=Path("nowhere"))()


def test_a_worker_that_forms_other_groups_is_refused(start):
    with pytest.raises(IntegrityError, match="worker on .*, groups: expected 5, found 4. Give all workers the same data"):
        replace(start, expected=(*start.expected, start.expected[0]))()


def test_a_worker_keeps_what_stores_give_where_the_sweep_does(start, monkeypatch):
    monkeypatch.setattr(nearby, "_room", None)  # put back afterwards
    monkeypatch.setenv(nearby.NEARBY, "1")
    start()
    nearby.data("piece", lambda: b"x")
    assert (start.work / "nearby/piece").exists()


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1"])
def test_workers_take_the_gpu_that_is_named(device):
    ground = SimpleNamespace(device=torch.device(device), work=Path("work"))
    group = SimpleNamespace(lesson=SimpleNamespace(ground=ground), stacks=[(0,)], members_of=lambda seeds: ["identity"])
    bench = SimpleNamespace(groups=[group], kept=SimpleNamespace(folder=Path("states")))
    assert Start.of(bench, lambda ground: [], Path("splits")).device == device


@pytest.mark.parametrize("threads", [None, 3])
def test_a_worker_has_the_threads_of_the_sweep_whatever_ray_says(start, monkeypatch, threads):
    """And none of its own: bits depend on their number."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(runtime, "_asked", None)
    with pytest.raises(IntegrityError, match="machine.threads: expected 1, found"):  # the sweep has one thread
        replace(start, threads=threads, cores=7)()
    assert runtime.shaping(torch.device("cpu"))["threads"] == (threads or "as suits the work, of 7")


@pytest.mark.soak
@pytest.mark.parametrize("on", ["processes", "ray"])
def test_real_workers_that_are_killed(data, tmp_path, monkeypatch, caplog, on):
    """With a plug-in, which each worker imports itself."""
    if on == "ray":
        pytest.importorskip("ray")
    (tmp_path / f"own_net_{on}.py").write_text(
        "from torch import nn\nfrom pipeline.models.zoo.layers import Pixels\n"
        "def build(shape, classes, layer=nn.Linear):\n    return nn.Sequential(Pixels(), nn.Flatten(), layer(16, classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOFTCACHE_PLUGINS", f"own_net_{on}")
    given = {
        "models": (f"own_net_{on}:build()", "mlp(hidden=[6])"),
        "recipe": Recipe.parse(optimizer="adam(lr=0.01)", epochs=60, batch_size=5),
    }
    here = swept(data, tmp_path / "here/sweep", HERE, **given)

    def kill():
        while not list(tmp_path.glob("there/work/trainings/*/*.state")):
            time.sleep(0.01)
        for process in workers():
            os.kill(process, signal.SIGKILL)

    def workers() -> list[int]:
        if on == "processes":  # both, as the other one may still have nothing in hand
            return [each.pid for each in multiprocessing.active_children()]
        import psutil

        return [each.pid for each in psutil.Process().children(recursive=True) if each.cmdline()[:1] == ["ray::Hand.do"]][:1]

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    there = swept(data, tmp_path / "there/sweep", Workers(on, 2), **given)
    killer.join()
    assert there == here
    assert any("is done again" in text for text in caplog.messages)
