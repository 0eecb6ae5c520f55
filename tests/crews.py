"""What workers of a crew do in tests: in a module of its own, so that a worker can import it."""

import logging
import os
import signal
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipeline.base.errors import IntegrityError


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
    if word == "fail":
        raise IntegrityError("task\n", expected="a\x1b[31m", found="b", fix="Mend it.")
    if word == "odd":
        raise Odd(3, 1)
    return f"{task} done"


def unable(folder: Path) -> Callable[[str], str]:
    note(folder, "unable")
    os._exit(3)
