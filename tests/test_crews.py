"""Captures on Ray whose workers are killed, and whose network is cut."""

import contextlib
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import crews
from conftest import tree
from pipeline.base import runtime
from pipeline.cache import workers

pytestmark = pytest.mark.soak
KILLS = 20
VIEWS, TILES = 3, 2  # of a span


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    pytest.importorskip("ray")
    runtime.prepare("cpu")
    crews.stage(tmp_path, monkeypatch, rows=400)
    monkeypatch.setenv("PAUSE", "0.3")
    return tmp_path


def test_actors_that_are_killed_at_random_change_no_byte_and_no_work_is_lost(folder):
    capture, killed = crews.capturing(folder, *crews.alone(), on="ray", count=2), []
    with ended(capture):
        while len(killed) < KILLS:
            victim = wait_for(lambda: next(iter(noted(folder) - set(killed)), None), capture)
            time.sleep(random.random())
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            killed.append(victim)
        told, _ = capture.communicate(timeout=600)
    assert capture.returncode == 0, told
    assert tree(folder / "caches/a") == tree(folder / "here")
    assert told.count(" died: ") == KILLS
    bytes_of_spans = sum(path.stat().st_size > 0 for path in (folder / "here").rglob("c/*/*/*/*"))
    assert sum(crews.seen(folder).values()) <= bytes_of_spans * TILES + KILLS * workers.IN_HAND * VIEWS * TILES


def test_a_host_that_is_cut_off_delays_a_capture_and_comes_back(folder, hosts):
    head, node = hosts
    head.start("--head", f"--port={PORT}")
    node.start(f"--address={head.address}:{PORT}")
    capture = crews.capturing(folder, *head.inside, on="ray", address=f"{head.address}:{PORT}", cpus=1)
    with ended(capture):
        wait_for(lambda: head.has(noted(folder)) and node.has(noted(folder)), capture)
        head.link("down")
        before = crews.seen(folder)
        lost = noted(folder)
        wait_for(lambda: sum(crews.seen(folder).values()) > sum(before.values()) + 60, capture)  # the other one goes on
        head.link("up")
        node.restart(f"--address={head.address}:{PORT}")
        wait_for(lambda: node.has(noted(folder) - lost), capture)
        told, _ = capture.communicate(timeout=600)
    assert capture.returncode == 0, told
    assert " died: " in told
    assert tree(folder / "caches/a") == tree(folder / "here")


# ---------------------------------------------------------------- helpers


def noted(folder: Path) -> set[int]:
    """The living workers that have run a tile."""
    said = {int(line) for path in (folder / "notes").iterdir() if path.is_file() for line in path.read_text().split()}
    return {process for process in said if Path(f"/proc/{process}/ns/net").exists() and crews.alive(process)}


def wait_for(there: Callable[[], object], capture: "subprocess.Popen[str]", seconds: float = 300):
    """What `there` gives, as soon as it is something, unless the capture ends before."""
    ends = time.monotonic() + seconds
    while not (found := there()):
        assert time.monotonic() < ends
        assert capture.poll() is None, capture.communicate()[0]
        time.sleep(0.05)
    return found


@contextlib.contextmanager
def ended(process: "subprocess.Popen[str]") -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()
        process.wait()


# ---------------------------------------------------------------- hosts

PORT = 6399
_CHECKS = {"initial_delay_ms": "1000", "period_ms": "1000", "timeout_ms": "1000", "failure_threshold": "4"}
_QUICK = {f"RAY_health_check_{name}": number for name, number in _CHECKS.items()}  # else it takes a minute to be missed


class Host:
    """A network namespace with an address of its own. number: 1 or 2, of two that see each other."""

    def __init__(self, number: int, room: Path):
        self.name, self.address, self.device = f"softcache-{number}", f"10.213.97.{number}", f"softcache{number}"
        self.inside = ("ip", "netns", "exec", self.name)
        self.room = room
        self.ray: subprocess.Popen[bytes] | None = None

    def link(self, state: str) -> None:
        ip("-n", self.name, "link", "set", self.device, state)

    def start(self, *options: str) -> None:
        command = [*self.inside, sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1"]
        command += [f"--node-ip-address={self.address}", *options]
        if "--head" in options:
            command += ["--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={self.room}"]
        log = self.room / f"{self.name}.log"
        with open(log, "wb") as file:
            self.ray = subprocess.Popen(command, env=os.environ | _QUICK, stdout=file, stderr=file)
        wait_for(lambda: b"Ray runtime started" in log.read_bytes() or self.ray.poll() is not None, self.ray)

    def restart(self, *options: str) -> None:
        """Start Ray again once it has found out that it was cut off and has ended, as whoever runs a cluster lets it."""
        assert self.ray is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.ray.wait(60)
        self.end()
        self.start(*options)

    def has(self, processes: set[int]) -> bool:
        return any(process in self.processes() for process in processes)

    def processes(self) -> set[int]:
        return set(map(int, ip("netns", "pids", self.name).split()))

    def end(self) -> None:
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if self.ray is not None:
            self.ray.wait()


@pytest.fixture
def hosts(monkeypatch) -> Iterator[tuple[Host, Host]]:
    if os.geteuid() != 0 or not shutil.which("ip") or subprocess.run(["unshare", "--net", "true"]).returncode:
        pytest.skip("needs root, to make network namespaces")
    room = Path(tempfile.mkdtemp(prefix="ray-"))  # its sockets' paths must be short
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    both = Host(1, room), Host(2, room)
    try:
        for host in both:
            ip("netns", "add", host.name)
        ip("link", "add", both[0].device, "netns", both[0].name, "type", "veth", "peer", both[1].device, "netns", both[1].name)
        for host in both:
            ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", host.device)
            ip("-n", host.name, "link", "set", "lo", "up")
            host.link("up")
        yield both
    finally:
        for host in both:
            with contextlib.suppress(subprocess.CalledProcessError):
                host.end()
                ip("netns", "del", host.name)  # and its end of the cable, so the other one
        shutil.rmtree(room, ignore_errors=True)


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout
