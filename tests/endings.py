"""Captures during which `teach` ends, and what they leave: run by test_endings.py as a process of its own.

python endings.py <folder> <name> <start> <step>     at file operation start, start + step, …; name: of a folder to work in

<folder> holds `start`: splits, teacher a, and another teacher a in `other`, perhaps also the work of a capture that was stopped
half-way. Every capture runs in a fork of this process. At the chosen operation, an open, a rename, a removal or a listing of
anything in its folder, the other teacher takes the place of the first, as `teach` does it. Prints one line for every capture
that left what its teacher does not say, or after which other ones do not give the new teacher's cache and then, that one being
put back, the former one's; then how many captures there were, and how many of them were refused.
"""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from kills import fresh

from conftest import run_capture, tree
from pipeline.base.errors import BusyError, IntegrityError
from pipeline.cache.reader import Cache
from pipeline.cache.verify import probe
from pipeline.models.modelfile import ModelFile

EVENTS = ("open", "os.rename", "os.link", "os.remove", "os.rmdir", "os.listdir", "os.scandir")
REFUSED = 17  # exit code of a capture that says that what it reads has changed


def at_operation(folder: Path, number: int | None, job: Callable[[], object]) -> list[str]:
    """Call `job` right before an operation on something in `folder`; returns the list of operations so far."""
    seen: list[str] = []

    def hook(event: str, arguments: tuple) -> None:
        if event not in EVENTS or not str(arguments[0]).startswith(str(folder)):
            return
        seen.append(event)
        if len(seen) - 1 == number:
            job()

    sys.addaudithook(hook)
    return seen


def replace(folder: Path) -> None:
    """What `teach` does at its end."""
    (folder / "teachers/a").rename(folder / "teachers/.a.former.partial")
    (folder / "other/a").rename(folder / "teachers/a")


def ended(folder: Path, number: int | None) -> tuple[int, int]:
    """Capture in a fork, the teacher being replaced at an operation; returns the exit code and the number of operations."""
    count = folder.with_name(f"{folder.name}.count")
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        seen = at_operation(folder, number, lambda: replace(folder))
        try:
            run_capture(folder, views=2)
            code = 0
        except (BusyError, IntegrityError):
            code = REFUSED
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            code = 1
        count.write_text(str(len(seen)))
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), int(count.read_text())


def true(folder: Path) -> bool:
    """Whether the cache, if there is one, holds what the teacher says to which it is bound."""
    if not (folder / "caches/a").exists():
        return True
    bound = Cache.open(folder / "caches/a").manifest.identity["teacher"]["weights_sha256"]
    teachers = [
        path for path in (folder / "teachers/a", folder / "teachers/.a.former.partial", folder / "other/a") if path.exists()
    ]
    for path in teachers:
        named = folder / "named/a"
        shutil.rmtree(named.parent, ignore_errors=True)
        shutil.copytree(path, named)
        if ModelFile.teacher(named).nets[0].sha256 == bound:
            found = probe(folder / "caches/a", 10**6, teacher=named, splits=folder / "transfer", device=torch.device("cpu"))
            return not found.findings(folder)
    return False


def main(root: Path, kind: str, start: int, step: int) -> None:
    name = f"{kind}-{start}"
    folder = fresh(root, name)
    replace(folder)
    run_capture(folder, views=2)
    expected = tree(folder / "caches")
    _, operations = ended(fresh(root, name), None)
    captures = refused = 0
    for number in range(start, operations, step):
        folder = fresh(root, name)
        code, _ = ended(folder, number)
        captures += 1
        refused += code == REFUSED
        if code not in (0, REFUSED):
            print(f"operation {number}: neither done nor refused")
        if not true(folder):
            print(f"operation {number}: a cache of another teacher than it says")
        if not (folder / "other/a").exists():
            run_capture(folder, views=2)
            if tree(folder / "caches") != expected:
                print(f"operation {number}: the next capture gives another cache than the new teacher's")
            (folder / "teachers/a").rename(folder / "other/a")
            (folder / "teachers/.a.former.partial").rename(folder / "teachers/a")
            run_capture(folder, views=2)
            if not true(folder):
                print(f"operation {number}: the former teacher's spans are not its own")
    print(captures, refused)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
