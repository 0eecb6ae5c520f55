"""Processes: the workers of a crew on this machine. Each has its share of the cores, and a GPU where there are several."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from pipeline.base import runtime
from pipeline.base.crew import SECONDS, Died, Done, Started, Worker, Workers
from pipeline.base.hand import Hand, Post, opened

_GPUS = "CUDA_VISIBLE_DEVICES"


@dataclass(eq=False)
class _Process:
    """A worker process. place: which of the crew's workers it is, from 0. wire: brings its tasks and takes its results."""

    place: int
    process: BaseProcess
    wire: "Connection[Any, Any]"

    @property
    def name(self) -> str:
        return f"worker {self.place + 1} (process {self.process.pid})"

    def give(self, number: int, task: Any) -> None:
        with contextlib.suppress(OSError):  # it has died
            self.wire.send((number, task))


class Processes:
    """A crew.Agency of processes. They are spawned, not forked: torch's threads, and CUDA, do not survive a fork."""

    def __init__(self, workers: Workers, start: Callable[[], Callable[[Any], Any]], depth: int):
        self._start, self._depth = start, depth
        self._gpus = _gpus() if workers.any_gpu else []
        self._count = workers.most or len(self._gpus) or runtime.cores()
        self._hired: list[_Process] = []

    def wanted(self) -> int:
        return self._count

    def hire(self) -> Worker:
        place = min(set(range(len(self._hired) + 1)) - {each.place for each in self._hired})
        environment = {_GPUS: self._gpus[place % len(self._gpus)]} if len(self._gpus) > 1 else {}
        post = Post.here(self._start, max(1, runtime.cores() // self._count), environment)
        context = multiprocessing.get_context("spawn")
        mine, its = context.Pipe()
        process = context.Process(target=_work, args=(its, post, os.getpid(), self._depth), daemon=True)
        process.start()
        its.close()
        self._hired.append(_Process(place, process, mine))
        return self._hired[-1]

    def events(self) -> list[tuple[Worker, Started | Done | Died]]:
        found: list[tuple[Worker, Started | Done | Died]] = []
        ready = wait([watched for each in self._hired for watched in (each.wire, each.process.sentinel)], SECONDS)
        for each in [each for each in self._hired if each.wire in ready or each.process.sentinel in ready]:
            try:
                while each.wire.poll():
                    number, data = each.wire.recv()
                    outcome = opened(data)
                    found.append((each, Started(outcome) if number is None else Done(number, outcome)))
                if each.process.exitcode is None:
                    continue
            except (EOFError, OSError):  # it died, if within a message, then that is lost
                each.process.kill()
            each.process.join()
            each.wire.close()
            self._hired.remove(each)
            found.append((each, Died(_how(each.process.exitcode))))
        return found

    def close(self) -> None:
        for each in self._hired:
            each.process.kill()
        for each in self._hired:
            each.process.join()
            each.wire.close()
        self._hired = []


def _gpus() -> list[str]:
    """The GPUs that this process may use, as the variable names them."""
    import torch

    count = torch.cuda.device_count()
    named = [name for name in os.environ.get(_GPUS, "").split(",") if name]
    return named[:count] if named else [str(number) for number in range(count)]


def _how(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"


def _work(wire: "Connection[Any, Any]", post: Post, parent: int, depth: int) -> None:
    """What a worker process does: all its tasks, until the coordinator ends it or has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the coordinator ends its own
    runtime.die_with_parent(parent)
    hand, sending = Hand(post), threading.Lock()

    def do(number: int, task: Any) -> None:
        data = hand.do(task)
        with sending:
            wire.send((number, data))

    try:
        wire.send((None, hand.start()))
        pool = ThreadPoolExecutor(depth, thread_name_prefix="task")  # as a context it would wait for what is in hand
        while True:
            pool.submit(do, *wire.recv())
    except (EOFError, OSError):  # where Linux is not there to end it
        os._exit(1)
