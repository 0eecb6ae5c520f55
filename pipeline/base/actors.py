"""Actors: the workers of a crew on a Ray cluster, of one machine or of many."""

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.base.crew import SECONDS, Died, Done, Started, Worker, Workers
from pipeline.base.errors import InputError, first_line
from pipeline.base.hand import Hand, Post, opened
from pipeline.base.libraries import needed

PATIENCE = 30.0  # seconds after which it is said that the cluster has no room for an actor
_STORE_BYTES = 100 << 20  # of a cluster of this machine alone: what actors return is small
_SHARED = "SOFTCACHE_"  # how the names of variables begin that actors shall have
_REPLY_S = 5.0  # within which a cluster has to answer
_PRINTS = "print_to_stdstream"  # what prints, in Ray
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Actor:
    """A worker on the cluster. given: notes a reference to a result that it will give."""

    name: str
    handle: Any
    given: Callable[[Any, "_Actor", int | None], None]

    def give(self, number: int, task: Any) -> None:
        self.given(self.handle.do.remote(task), self, number)


class Actors:
    """A crew.Agency of Ray actors. They are not detached, so they end with this process.

    An actor that died is replaced by a new one, which Ray places on any node that has room, also on one that comes later.
    """

    def __init__(self, workers: Workers, start: Callable[[], Callable[[Any], Any]], depth: int):
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to its makers
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # nor is a user told of a change to come
        self._ray = ray = needed("ray", "--on ray")
        address = workers.address or os.environ.get("RAY_ADDRESS") or "local"
        with contextlib.ExitStack() as ending:
            mine = not ray.is_initialized()
            if mine:
                ending.enter_context(_joined(ray, address))
            there = ray.cluster_resources()
            self._takes = {"CPU": 1.0 if workers.cpus is None else workers.cpus, "GPU": _gpus(workers, there.get("GPU", 0))}
            if mine and address == "local":
                self._require_room(there)
            self._kind = ray.remote(Hand).options(
                num_cpus=self._takes["CPU"], num_gpus=self._takes["GPU"], max_concurrency=depth, scheduling_strategy="SPREAD"
            )
            shared = {name: value for name, value in os.environ.items() if name.startswith(_SHARED)}
            self._post = Post.here(start, max(1, int(self._takes["CPU"])), shared)
            self._ending = ending.pop_all()
        self._count, self._hired = workers.most, 0  # how many were ever hired, which names them
        self._living: set[_Actor] = set()
        self._due: dict[Any, tuple[_Actor, int | None]] = {}  # references to results: whose they are, and of which task
        self._placed = time.monotonic()  # when an actor was last heard of

    def _require_room(self, there: Mapping[str, float]) -> None:
        """Raise InputError where this machine, which is the whole cluster, is too small for an actor; others may grow."""
        for name, size in self._takes.items():
            if size > (most := there.get(name, 0)):
                what, fix = f"--{name.lower()}s-per-worker", "Lower it, or name a cluster with --address."
                raise InputError(what, expected=f"{most:g} at most, which this machine has", found=f"{size:g}", fix=fix)

    def wanted(self) -> int:
        if self._count is not None:
            return self._count
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        takes = {name: size for name, size in self._takes.items() if size}
        rooms = [int(min((node.get(name, 0) / size for name, size in takes.items()), default=1)) for node in nodes]
        return max(1, sum(rooms))

    def hire(self) -> Worker:
        self._hired += 1
        actor = _Actor(f"worker {self._hired}", self._kind.remote(self._post), self._note)
        self._living.add(actor)
        self._note(actor.handle.start.remote(), actor, None)
        return actor

    def _note(self, reference: Any, actor: _Actor, number: int | None) -> None:
        self._due[reference] = (actor, number)

    def events(self) -> list[tuple[Worker, Started | Done | Died]]:
        found: list[tuple[Worker, Started | Done | Died]] = []
        dead: dict[_Actor, str] = {}
        self._ray.wait(list(self._due), timeout=SECONDS)
        ready, _ = self._ray.wait(list(self._due), num_returns=len(self._due), timeout=0)
        for reference in ready:
            actor, number = self._due.pop(reference)
            try:
                outcome = opened(self._ray.get(reference))
            except self._ray.exceptions.RayError as error:
                dead[actor] = f"died: {first_line(error)}"
            else:
                found.append((actor, Started(outcome) if number is None else Done(number, outcome)))
        for actor, how in dead.items():
            self._ray.kill(actor.handle)  # if it is only out of reach, it ends when it is back
            self._living.remove(actor)
            self._due = {reference: due for reference, due in self._due.items() if due[0] is not actor}
            found.append((actor, Died(how)))
        self._tell(bool(found))
        return found

    def _tell(self, heard: bool) -> None:
        """Say once in a while that the cluster has no room, where all that is waited for is an actor that starts."""
        now = time.monotonic()
        if heard or any(number is not None for _, number in self._due.values()):
            self._placed = now
        elif now - self._placed > PATIENCE:
            self._placed = now
            wanted = ", ".join(f"{size:g} {name}" for name, size in self._takes.items() if size)
            _log.warning("waiting for a node of the cluster that has %s free", wanted or "room")

    def close(self) -> None:
        for actor in self._living:
            self._ray.kill(actor.handle)
        self._living, self._due = set(), {}
        self._ending.close()


def _gpus(workers: Workers, there: float) -> float:
    """What an actor takes of the GPUs of a cluster, of which there are so many."""
    if workers.device == "cpu":
        return 0.0
    if workers.gpus is None:
        return float(there > 0 and workers.any_gpu)
    return workers.gpus


@contextlib.contextmanager
def _joined(ray: Any, address: str) -> Iterator[None]:
    """Within the block be connected to a cluster, or to one that is started on this machine."""
    alone = {"object_store_memory": _STORE_BYTES, "include_dashboard": False} if address == "local" else {}
    with _silenced(ray):
        try:
            _require_reply(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **alone)
        except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            fix = "Start one with `ray start --head`, or correct --address."
            raise InputError(f"--address {address}", expected="a Ray cluster", found=first_line(error), fix=fix) from error
        try:
            yield
        finally:
            ray.shutdown()


def _require_reply(address: str) -> None:
    """Raise OSError where nobody answers at an address with a port: Ray itself would try for four minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal() and int(port) < 1 << 16:
        socket.create_connection((host.strip("[]"), int(port)), _REPLY_S).close()


@contextlib.contextmanager
def _silenced(ray: Any) -> Iterator[None]:
    """Within the block Ray prints no page for each actor that died; no setting of it keeps that from the standard output."""
    inner = getattr(getattr(ray, "_private", None), "worker", None)
    if (real := getattr(inner, _PRINTS, None)) is None:  # in another version of it
        yield
        return
    setattr(inner, _PRINTS, lambda *given, **settings: None)
    try:
        yield
    finally:
        setattr(inner, _PRINTS, real)
