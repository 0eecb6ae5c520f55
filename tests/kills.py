"""Captures that are killed with SIGKILL, and what is left behind: run by test_kills.py as a process of its own.

python kills.py operations <folder> <first> <step>   at file operation first, first + step, …
python kills.py moments <folder> <first> <count>     at random moments after the first record

Every capture runs in a fork of this process, which has imported all but started no thread. <folder> holds `start`: splits,
teacher, and a cache of other views with its work, which the capture replaces; kept.json beside it says what is kept. Prints one
line per kill that left anything
but a cache that is byte-identical to an uninterrupted one, or a record without its bytes; then the number of kills.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from conftest import run_capture, tree
from pipeline.base import files

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
EVENTS = ("os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir")


def run(folder: Path) -> None:
    run_capture(folder, views=2, **json.loads((folder.parent / "kept.json").read_text()))


def operations(last: int | None, torn: bool = False) -> list[bool]:
    """Watch what changes the file system, and die right before number `last`; torn: with half of what it would have synced.

    Returns the list of operations so far: for each, whether it syncs the bytes of a file.
    """
    seen: list[bool] = []
    fsync = os.fsync

    def step(descriptor: int | None = None) -> None:
        if len(seen) == last:
            if torn:
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        seen.append(descriptor is not None)

    def synced(descriptor: int) -> None:
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        step(descriptor if name.endswith(".partial") and os.path.isfile(name) else None)  # not a link to a span, nor a folder
        fsync(descriptor)

    def hook(event: str, arguments: tuple) -> None:
        if event in EVENTS or (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING):
            step()

    os.fsync = synced
    sys.addaudithook(hook)
    return seen


def forked(job: Callable[[], object]) -> int:
    """Run in a fork; returns its wait status."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        try:
            job()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def unrecorded(work: Path) -> list[str]:
    """Records whose bytes are not there as they say."""
    bad = []
    for path in work.glob("*/records/*.json"):
        facts = json.loads(path.read_bytes())["record"]
        span = (
            path.parent.parent
            / "spans"
            / f"{facts['array']}.zarr"
            / facts["split"]
            / "c"
            / str(facts["view"])
            / str(facts["span"])
            / "0"
        )
        if not span.is_file() or files.sha256_file(span) != facts["sha256"]:
            bad.append(path.name)
    return bad


def judge(folder: Path, expected: dict[str, bytes], what: str) -> None:
    """After a kill: every record is true, and running again gives the expected cache and leaves nothing half done."""
    if bad := unrecorded(folder / "work"):
        print(f"{what}: records without their bytes: {bad}")
    if forked(lambda: run(folder)) != 0:
        print(f"{what}: the next run failed")
    elif tree(folder / "caches") != expected:
        print(f"{what}: another cache than without a kill: {sorted(tree(folder / 'caches').keys() ^ expected.keys())}")


def fresh(root: Path, name: str) -> Path:
    folder = root / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(root / "start", folder)
    return folder


def at_operations(root: Path, name: str, expected: dict[str, bytes], first: int, step: int) -> int:
    listing = root / f"{name}.json"
    folder = fresh(root, name)

    def listed() -> None:
        seen = operations(None)
        run(folder)
        listing.write_text(json.dumps(seen))

    forked(listed)
    plan = []
    for number, syncs in enumerate(json.loads(listing.read_text())):
        plan += [(number, False), (number, True)] if syncs else [(number, False)]
    kills = 0
    for number, torn in plan[first::step]:
        folder = fresh(root, name)
        status = forked(lambda folder=folder, number=number, torn=torn: (operations(number, torn), run(folder)))
        kills += os.WIFSIGNALED(status)
        judge(folder, expected, f"operation {number}{', torn' if torn else ''}")
    return kills


def at_moments(root: Path, name: str, expected: dict[str, bytes], first: int, count: int) -> int:
    kills = 0
    for number in range(first, first + count):
        folder = fresh(root, name)
        before = len(list(folder.glob("work/*/records/*.json")))
        child = os.fork()
        if child == 0:
            torch.set_num_threads(1)
            run(folder)
            os._exit(0)
        while len(list(folder.glob("work/*/records/*.json"))) <= before and os.waitpid(child, os.WNOHANG)[0] == 0:
            time.sleep(0.001)
        time.sleep(random.Random(number).uniform(0, 0.08))
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        judge(folder, expected, f"moment {number}")
    return kills


def main(mode: str, root: Path, first: int, amount: int) -> None:
    name = f"{mode}-{first}"
    forked(lambda: run(fresh(root, name)))
    expected = tree(root / name / "caches")
    kills = {"operations": at_operations, "moments": at_moments}[mode](root, name, expected, first, amount)
    print(kills)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
