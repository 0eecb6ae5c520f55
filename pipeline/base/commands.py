"""Commands, as messages name them: such that they mend what the message is about, where it lies; and numbers in names.

Everything lies in a data folder, which is `data` unless --data names another.
"""

import os
import shlex
from pathlib import Path

CACHES = "caches"  # the folder of caches in a data folder
SETTINGS = "params.yaml"


def ingest(splits: Path) -> str:
    """What writes the splits in this folder."""
    return _command("ingest", data=splits.parent)


def teach(teacher: Path) -> str:
    """What trains the teacher in this folder."""
    return _command("teach", teacher.name, data=teacher.parent.parent)


def capture(cache: Path, *options: str) -> str:
    """What captures the cache in this folder. options: those that were given, where they are known."""
    return _command("capture", cache.name, *options, data=cache.parent.parent, whole=bool(options))


def capture_again(cache: Path, *options: str) -> str:
    """The sentence that says how to mend a cache; one that was taken elsewhere cannot be captured where it lies."""
    whole = Path(os.path.abspath(cache))
    places = [place for place in (cache, whole, whole.resolve()) if place.parent.name == CACHES]
    if not places:
        return f"It lies in no folder {CACHES}/, so it is a copy: copy it again, whole."
    return f"Run {capture(places[0], *options)} to compute what is damaged again."


def distill(student: str, temperature: float | None, folder: Path) -> str:
    """What trains this student, at a temperature or on hard labels, into a folder."""
    words = ("--hard",) if temperature is None else ("-T", short(temperature))
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


def _command(*words: str, data: Path, whole: bool = False) -> str:
    """whole: with all its settings. Others come from params.yaml, or have to be given again."""
    usual = os.path.abspath(data) == os.path.abspath("data")
    named = f"`{shlex.join(('softcache', *words, *(() if usual else ('--data', str(data)))))}`"
    return named if whole or Path(SETTINGS).exists() else f"{named} with its settings"
