"""Commands that error messages suggest: each one writes the artifact in question, in the folder where it lies.

All artifacts lie in one data folder: `data`, or what --data names.
"""

import os
import shlex
from pathlib import Path

from pipeline.base.places import Place, artifact

CACHES = "caches"  # the folder of caches in a data folder
SETTINGS = "params.yaml"


def ingest(splits: Place) -> str:
    """The command that writes the splits in this folder."""
    return _command("ingest", data=artifact(splits).parent)


def teach(teacher: Place) -> str:
    """The command that trains the teacher in this folder."""
    return _command("teach", teacher.name, data=teacher.parent.parent)


def adopt(teacher: Place) -> str:
    """The command that writes the teacher in this folder from files made elsewhere."""
    return _command("adopt", teacher.name, data=teacher.parent.parent)


def capture(cache: Place, *options: str) -> str:
    """The command that captures the cache in this folder. options: those it was captured with, where they are known."""
    return _command("capture", cache.name, *options, data=cache.parent.parent, whole=bool(options))


def capture_again(cache: Place, *options: str) -> str:
    """The sentence that says how to repair a cache. A copy outside of a data folder cannot be captured where it lies."""
    paths: list[Place] = [cache]
    if isinstance(cache, Path):
        whole = Path(os.path.abspath(cache))
        paths += [whole, whole.resolve()]
    paths = [path for path in paths if path.parent.name == CACHES]
    if not paths:
        return f"It lies in no folder {CACHES}/, so it is a copy: copy all of it again."
    return f"Run {capture(paths[0], *options)} to compute the damaged part again."


def distill(student: str, temperature: float | None, folder: Place) -> str:
    """The command that trains this student into a folder. temperature: None for hard labels."""
    words = ("--hard",) if temperature is None else ("-T", short(temperature))
    return _command("distill", student, *words, data=folder.parent.parent)


def sweep(out: Place) -> str:
    """The command that sweeps into this folder."""
    return _command("sweep", out.name, data=out.parent.parent)


def evaluate(plots: Place) -> str:
    """The command that writes the tables in this folder: `evaluate`, or a sweep."""
    folder = artifact(plots.parent)
    return sweep(folder) if folder.parent.name == "sweeps" else _command("evaluate", data=folder)


def footprint(folder: Place) -> str:
    """The command that measures the footprint in this folder."""
    return _command("footprint", data=folder.parent, whole=True)


def short(number: float) -> str:
    """A number as names and commands write it: with every digit, but 4.0 as 4."""
    return f"{number:.0f}" if number.is_integer() and abs(number) < 1e15 else repr(number)


def _command(*words: str, data: Place, whole: bool = False) -> str:
    """whole: whether the words hold all settings. Otherwise params.yaml holds the rest, or the user has to repeat them."""
    usual = isinstance(data, Path) and os.path.abspath(data) == os.path.abspath("data")
    named = f"`{shlex.join(('softcache', *words, *(() if usual else ('--data', str(data)))))}`"
    return named if whole or Path(SETTINGS).exists() else f"{named} with its settings"
