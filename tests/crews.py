"""Crews in tests: what workers do, in a module that they can import, and a capture whose teacher notes what it is shown.

python crews.py <folder> <workers as JSON>     captures in a process of its own what `stage` wrote to the folder
"""

import contextlib
import itertools
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pipeline.base.errors import IntegrityError

_STAGED = itertools.count()
# Every sum is exact. Where workers run it, it notes every tile that it sees, and dies if there is a folder that says so.
NET = """
import hashlib
import os
import signal
import threading
import time
import torch

class Noting(torch.nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        size = shape[0] * shape[1] * shape[2]
        self.weight = torch.nn.Parameter(((torch.arange(classes * size) * 7919) % 5 - 2.0).reshape(classes, size))

    def forward(self, pixels):
        if "NOTES" in os.environ and threading.current_thread().name.startswith("net"):
            self.note(hashlib.sha256(pixels.numpy().tobytes()).hexdigest()[:16])
        return pixels.flatten(1).float() @ self.weight.T / 256

    def note(self, tile):
        with open(os.path.join(os.environ["NOTES"], tile), "ab") as file:
            file.write(b"%d\\n" % os.getpid())
        time.sleep(float(os.environ.get("PAUSE", "0")))
        try:
            os.rmdir(os.path.join(os.environ["NOTES"], "die"))
        except OSError:
            return
        os.kill(os.getpid(), signal.SIGKILL)
"""


class Odd(Exception):
    """It cannot be unpickled: its constructor's arguments are others than it keeps."""

    def __init__(self, axis: int, axes: int):
        super().__init__(f"axis {axis} of {axes}")


def note(folder: Path, what: str) -> int:
    """Note that something happened; returns how often it has."""
    with open(folder / what, "ab") as file:
        file.write(b".")
    return (folder / what).stat().st_size


def begin(folder: Path) -> Callable[[str], str]:
    note(folder, f"started-{os.getpid()}")
    return partial(work, folder)


def work(folder: Path, task: str) -> str:
    """Do what the task says: its word, then a number that tells it from others."""
    word, _, _ = task.partition(" ")
    times = note(folder, task)
    if word == "die" or (word == "stumble" and times == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "complain":
        logging.getLogger("pipeline.base.crews").info("rows are few")
        warnings.warn("deprecated", stacklevel=1)
    if word == "sleep":
        time.sleep(600)
    if word == "fail":
        raise IntegrityError("task\n", expected="a\x1b[31m", found="b", fix="Mend it.")
    if word == "odd":
        raise Odd(3, 1)
    return f"{task} done"


def unable(folder: Path) -> Callable[[str], str]:
    note(folder, "unable")
    os._exit(3)


def alive(process: int) -> bool:
    """Whether it runs: one that waits to be buried does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


# ---------------------------------------------------------------- captures


def stage(folder: Path, patch: pytest.MonkeyPatch, rows: int = 48) -> None:
    """Splits of images in spans of 8 rows, and a teacher that notes, below `folder`; and a cache that this process made."""
    from conftest import images, run_capture, write_parquet, write_teacher
    from pipeline.data.ingest import ingest
    from pipeline.data.inputs.image import Images
    from pipeline.data.splits import open_splits
    from pipeline.models.build import build, parse_model

    name = f"noting{next(_STAGED)}"  # of a module that was never imported
    (folder / f"{name}.py").write_text(NET)
    patch.syspath_prepend(folder)
    patch.setenv("SOFTCACHE_PLUGINS", name)
    patch.setattr("pipeline.data.ingest.span_rows", lambda classes, row_bytes: 8)
    source = write_parquet(folder / "source.parquet", *images(rows))
    ingest(train=str(source), valid=0.25, test=0.25, transfer_set=(), damaged="fail", seed=0, out=folder / "transfer")
    net = build(parse_model(f"{name}:Noting()"), Images("L", (1, 6, 6)), 3)
    split = open_splits(folder / "transfer", ["train"])["train"]
    write_teacher(folder / "teachers/a", net, split, model=f"{name}:Noting()")
    run_capture(folder)
    shutil.move(folder / "caches/a", folder / "here")
    shutil.rmtree(folder / "work")
    (folder / "notes").mkdir()
    patch.setenv("NOTES", str(folder / "notes"))


def alone() -> list[str]:
    """What to put before a command so that it has a network of its own, where that is allowed."""
    command = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    tried = shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True)
    return command if tried and tried.returncode == 0 else []


def capturing(folder: Path, *before: str, **workers: object) -> "subprocess.Popen[str]":
    """Start a capture in a process of its own. before: see `alone`. workers: see crew.Workers."""
    command = [*before, sys.executable, __file__, str(folder), json.dumps(workers)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def seen(folder: Path) -> dict[str, int]:
    """How often each tile was run by a worker."""
    return {path.name: len(path.read_bytes().splitlines()) for path in (folder / "notes").iterdir() if path.is_file()}


def main(folder: Path, workers: dict[str, object]) -> None:
    from conftest import run_capture
    from pipeline.base import runtime
    from pipeline.base.crew import Workers

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    runtime.prepare("cpu", threads=1)
    done = run_capture(folder, workers=Workers(**workers, device="cpu"))
    print(f"computed {done.computed}, kept {done.kept}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
