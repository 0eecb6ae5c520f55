"""Commands, as messages name them: such that they mend what the message is about, where it lies; and numbers in names.

Everything lies in a data folder, which is `data` unless --data names another.
"""

import os
import shlex
from pathlib import Path


def ingest(splits: Path) -> str:
    """What writes the splits in this folder."""
    return _command("ingest", data=splits.parent)


def teach(teacher: Path) -> str:
    """What trains the teacher in this folder."""
    return _command("teach", teacher.name, data=teacher.parent.parent)


def capture(cache: Path, *options: str) -> str:
    """What captures the cache in this folder."""
    return _command("capture", cache.name, *options, data=cache.parent.parent)


def distill(student: str, temperature: str | None, folder: Path) -> str:
    """What trains this student, at a temperature or on hard labels, into a folder."""
    return _command(
        "distill", student, *(("--hard",) if temperature is None else ("-T", temperature)), data=folder.parent.parent
    )


def run(student: str, folder: Path) -> str:
    """What trained the run of a student that lies in a folder, by the folder's name."""
    setting = folder.name.removeprefix(f"{student}-")
    live = ("--live",) if setting.endswith("-live") else ()
    words = ("--hard",) if setting == "hard" else ("-T", setting.removesuffix("-live").removeprefix("T"), *live)
    return _command("distill", student, *words, data=folder.parent.parent)


def sweep(out: Path) -> str:
    """What sweeps into this folder."""
    return _command("sweep", out.name, data=out.parent.parent)


def evaluate(plots: Path) -> str:
    """What writes the tables in this folder: `evaluate`, or the sweep whose they are."""
    return sweep(plots.parent) if plots.parent.parent.name == "sweeps" else _command("evaluate", data=plots.parent)


def short(number: float) -> str:
    """How a number is written in names and commands: every digit, but 4.0 as 4."""
    return f"{number:.0f}" if number.is_integer() and abs(number) < 1e15 else repr(number)


def _command(*words: str, data: Path) -> str:
    usual = os.path.abspath(data) == os.path.abspath("data")
    return f"`{shlex.join(('softcache', *words, *(() if usual else ('--data', str(data)))))}`"
