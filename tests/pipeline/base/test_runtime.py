"""The machine: whose child a process still is, what randomness it leaves, and how many threads suit."""

import os
import platform
import subprocess
import sys
import threading

import pytest
import torch

from pipeline.base import runtime

OWN = 500  # the process


@pytest.mark.parametrize(
    ("parent", "group", "groups", "first", "orphan"),
    [
        (400, 400, {400: 400}, b"init", False),  # of the group that a shell, or DVC, started it in
        (1, 400, {}, b"/sbin/init", True),
        (1, 1, {1: 1}, b"python3\0-m\0dvc\0repro", False),  # in a container whose first process is DVC
        (300, 400, {300: 300}, b"init", True),  # a session's manager took it up
        (300, OWN, {300: 300}, b"init", False),  # leads a group of its own, under setsid: nothing can be told
        (1, OWN, {}, b"init", True),
        (300, 400, {}, b"init", True),  # which has gone too, meanwhile
    ],
)
def test_who_is_an_orphan(monkeypatch, tmp_path, parent, group, groups, first, orphan):
    def of(pid: int) -> int:
        if pid not in groups:
            raise ProcessLookupError
        return groups[pid]

    for name, found in (("getppid", parent), ("getpgrp", group), ("getpid", OWN)):
        monkeypatch.setattr(os, name, lambda found=found: found)
    monkeypatch.setattr(os, "getpgid", of)
    monkeypatch.setattr("pipeline.base.runtime.Path", lambda path: tmp_path / path.strip("/").replace("/", "-"))
    (tmp_path / "proc-1-cmdline").write_bytes(first)
    assert runtime._is_orphan() == orphan


def test_randomness_is_given_back():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    with runtime.own_randomness():
        torch.manual_seed(6)
        torch.rand(3)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_progress_in_a_log_starts_no_thread():
    """However many bars there are, left or not: a thread of tqdm's own waits for ever where another bar is closed meanwhile."""
    before = threading.active_count()
    left = [runtime.progress(range(3), "it") for _ in range(5)]
    assert [next(iter(bar)) for bar in left] == [0] * 5
    assert threading.active_count() == before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="wants the memory of glibc")
def test_memory_that_is_freed_is_not_mapped_anew():
    """Of a net whose values take 34 MB a layer: ten passes touch fewer new pages than the first, and not ten times as many."""
    code = (
        "import resource, torch; from pipeline.base import runtime; runtime.prepare('cpu', threads=1)\n"
        "net, given = torch.nn.Conv2d(16, 16, 3, padding=1), torch.rand(512, 16, 32, 32)\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def used():\n    before = faults()\n"
        "    with torch.no_grad(): net(torch.relu(net(given)))\n"
        "    return faults() - before\n"
        "print(used(), sum(used() for _ in range(10)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, others = map(int, done.stdout.split())
    assert others < first
