"""Crews of processes: every task is done however many of them die; what one raises and logs arrives."""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

import crews
from pipeline.base import processes
from pipeline.base.crew import DEATHS, Workers, open_crew
from pipeline.base.errors import InputError, IntegrityError
from pipeline.base.hand import Post

TWO = Workers("processes", 2)


def done(folder: Path, tasks: list[str], workers: Workers = TWO, depth: int = 3) -> dict[str, str]:
    with open_crew(workers, partial(crews.begin, folder), depth=depth) as crew:
        return dict(crew.run(tasks))


def test_every_task_is_done_though_workers_die_and_what_they_log_is_told_once(tmp_path, caplog):
    caplog.set_level(logging.INFO, "pipeline")
    tasks = [f"plain {n}" for n in range(6)] + ["stumble 1", "complain 1", "stumble 2", "complain 2"]
    assert done(tmp_path, tasks) == {task: f"{task} done" for task in tasks}
    assert [(tmp_path / f"stumble {n}").stat().st_size for n in (1, 2)] == [2, 2]
    deaths = sum("was ended by SIGKILL" in text for text in caplog.messages)
    assert deaths in (1, 2)  # one, if a worker had both in hand
    assert 2 < len(list(tmp_path.glob("started-*"))) <= 2 + deaths
    assert all(path.stat().st_size <= 1 + deaths for path in tmp_path.iterdir())  # no task more often than deaths explain
    assert caplog.messages.count("rows are few") == 1
    assert sum("deprecated" in text for text in caplog.messages) == 1
    assert not multiprocessing.active_children()


def test_what_a_worker_raises_arrives_as_it_was(tmp_path):
    with pytest.raises(IntegrityError) as raised:
        done(tmp_path, ["fail 1", *(f"plain {n}" for n in range(100))], Workers("processes", 1))
    expected = IntegrityError("task\n", expected="a\x1b[31m", found="b", fix="Mend it.")
    assert str(raised.value) == str(expected)
    assert vars(raised.value) == vars(expected)
    assert len(list(tmp_path.glob("plain*"))) < 100
    with pytest.raises(RuntimeError, match="Odd: axis 3 of 1") as other:
        done(tmp_path, ["odd 1"], Workers("processes", 1))
    assert "crews.py" in other.value.__notes__[0]


@pytest.mark.soak
def test_a_task_that_kills_every_worker_ends_in_one_message(tmp_path):
    with pytest.raises(InputError, match=f"^die 1: .*found {DEATHS} that died, the last of which was ended by SIGKILL"):
        done(tmp_path, ["die 1"])
    assert (tmp_path / "die 1").stat().st_size == DEATHS
    with (
        pytest.raises(InputError, match=f"expected workers that start, found {DEATHS} .* exit code 3"),
        open_crew(TWO, partial(crews.unable, tmp_path)) as crew,
    ):
        list(crew.run(["plain 1"]))


COORDINATOR = """
import sys, crews
from functools import partial
from pathlib import Path
from pipeline.base.crew import Workers, open_crew
if __name__ == "__main__":
    with open_crew(Workers("processes", 2, device="cpu"), partial(crews.begin, Path(sys.argv[1])), depth=2) as crew:
        for _ in crew.run(f"plain {n}" for n in range(10**6)):
            pass
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to end workers")
def test_workers_die_with_the_coordinator(tmp_path):
    script = tmp_path / "coordinator.py"
    script.write_text(COORDINATOR)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    coordinator = subprocess.Popen([sys.executable, script, tmp_path], env=environment)
    try:
        wait_for(lambda: len(list(tmp_path.glob("started-*"))) == 2)
        coordinator.send_signal(signal.SIGKILL)
        coordinator.wait()
        workers = [int(path.name.partition("-")[2]) for path in tmp_path.glob("started-*")]
        wait_for(lambda: not any(map(crews.alive, workers)))
    finally:
        coordinator.kill()


def test_a_worker_ends_without_its_coordinator_though_it_has_a_task_in_hand(tmp_path, monkeypatch):
    """As on macOS, where the system ends nobody."""
    monkeypatch.setattr("pipeline.base.runtime.die_with_parent", lambda parent: None)
    context = multiprocessing.get_context("fork")
    mine, its = context.Pipe()
    post = Post.here(partial(crews.begin, tmp_path), 1, {})

    def work() -> None:
        mine.close()
        processes._work(its, post, os.getpid(), 2)

    worker = context.Process(target=work, daemon=True)
    worker.start()
    its.close()
    assert mine.recv()[0] is None  # it has started
    mine.send((0, "sleep 1"))
    wait_for((tmp_path / "sleep 1").exists)
    mine.close()
    worker.join(60)
    try:
        assert worker.exitcode == 1
    finally:
        worker.kill()


@pytest.mark.parametrize(("device", "count"), [("auto", 3), ("cuda", 3), ("cuda:1", 1), ("cpu", 5)])
def test_there_is_a_worker_for_each_gpu_or_core_and_one_for_a_gpu_that_is_named(monkeypatch, device, count):
    monkeypatch.setattr(processes, "_gpus", lambda: ["4", "5", "7"])
    monkeypatch.setattr("pipeline.base.runtime.cores", lambda: 5)
    start = partial(crews.begin, Path())
    assert processes.Processes(Workers("processes", device=device), start, 1).wanted() == count
    assert processes.Processes(Workers("processes", 2, device=device), start, 1).wanted() == 2


def wait_for(there, seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < ends
        time.sleep(0.02)
