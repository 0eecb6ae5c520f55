"""Damage to whatever is stored, and what every command makes of it: run by test_damage.py as a process of its own.

python damage.py <folder> <first> <count>     tries number first, first + 1, …

<folder> holds `start`: a project in which every command has run, one training and one capture of it being unfinished. A try
copies it and flips a bit, truncates, removes or swaps one file below data/ or .softcache/. Then every command that reads the
file, by what it opens on the sound project, runs on a copy of its own. It must give what it gives on the sound project, or
name the file, or what it belongs to, and a way out; that way is taken, as the message says it, and the command must give what
it should. Prints one line for every try in which it does not; then counts of what came of the commands.
"""

import contextlib
import importlib
import json
import os
import pkgutil
import random
import re
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import jinja2  # noqa: F401 - all that commands import lazily is imported before the forks, and no thread is started
import torch
import torch._dynamo
import vl_convert  # noqa: F401
from click.testing import CliRunner

from conftest import ROOT, tree
from pipeline.base import facts, files
from pipeline.cache import manifest, provenance
from pipeline.data import ingest, splits
from pipeline.models import modelfile
from pipeline.results import tables
from stages.cli import main as softcache

for room in pkgutil.walk_packages([str(ROOT / "pipeline")], "pipeline."):
    importlib.import_module(room.name)

COMMANDS = {  # command → what it writes
    "teach a": "teachers/a",
    "capture a": "caches/a",
    "verify a b": None,
    "verify a --deep 20": None,
    "inspect a": None,
    "distill s -T 1": "students/s-T1",
    "distill s --hard": "students/s-hard",
    "distill s -T 4 --live": "students/s-T4-live",
    "sweep all": "sweeps/all",
    "evaluate": "plots",
    "report": "report",
    "report data/sweeps/all --out data/page": "page",
    "cost --json": None,
    "distill u -T 1": "students/u-T1",  # goes on
    "capture b --knowledge hidden --dtype int8 --features layer1": "caches/b",  # goes on
}
UNREAD = re.compile(r"data/(source|code|report|page)/|plots/(metrics\.json|.*\.csv)|\.partial")  # by no command of ours
TIMED = re.compile(rb"<div><dt>Stage\s(one, once|two)</dt>.*?</div>", re.DOTALL)  # of a report: what stages took
MADE = ("stage", "command", "name", "live", "done", "students", "epochs")  # of what a command cost
WHAT = {"teachers": "teacher", "caches": "cache", "students": "student"}  # how messages call what lies in these folders
ROUNDS = 6  # of following what messages say


class Outcome:
    """What a command did. out: all that it printed; written: digests of the files that it writes, or what it printed."""

    def __init__(self, folder: Path, command: str):
        where = os.getcwd()
        os.chdir(folder)
        try:
            result = CliRunner().invoke(softcache, shlex.split(command))
        finally:
            os.chdir(where)
        self.code, self.out = result.exit_code, result.output
        self.crashed = result.exception is not None and not isinstance(result.exception, SystemExit)
        self.error = repr(result.exception)
        self.written: object = re.sub(r"in [0-9.]+ s\b", "in so many s", result.stdout)
        if command == "cost --json" and self.code == 0:
            self.written = json.loads(result.stdout)
        if outs := COMMANDS.get(command):
            trees = [tree(folder / "data" / name) for name in outs.split()]
            self.written = [{path: files.sha256(TIMED.sub(b"", data)) for path, data in held.items()} for held in trees]


def forked(job: Callable[[], object]) -> object:
    """Call a function in a fork, and return what it returned, by JSON."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        with os.fdopen(write, "w") as pipe:
            try:
                torch.set_num_threads(1)
                json.dump(job(), pipe)
            except BaseException as error:
                json.dump([f"the test itself failed: {type(error).__name__}: {error}", {}], pipe)
            finally:
                pipe.flush()
                os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else ["the process died", {}]


def opened(folder: Path, command: str) -> list[str]:
    """The files below data/ and .softcache/ that a command opens."""
    seen = set()

    def hook(event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[0], str | Path):
            path = Path(folder, arguments[0])
            if path.is_relative_to(folder) and path.is_file():
                seen.add(str(path.relative_to(folder)))

    sys.addaudithook(hook)
    outcome = Outcome(folder, command)
    assert outcome.code == 0, outcome.out
    return sorted(seen)


def damage(folder: Path, path: str, chance: random.Random) -> str:
    """Damage a file; returns how."""
    kind = chance.choice(("flip", "flip", "flip", "truncate", "remove", "swap"))
    file = folder / path
    data = bytearray(file.read_bytes())
    if kind == "swap":
        others = sorted(
            other
            for other in folder.rglob(f"*{file.suffix}")
            if other.is_file() and other != file and other.read_bytes() != data
        )
        if others:
            other = chance.choice(others)
            file.unlink()  # a hardlink would be changed in both places
            file.write_bytes(other.read_bytes())
            other.unlink()
            other.write_bytes(data)
            return f"swapped with {other.relative_to(folder)}"
        kind = "remove"
    if kind == "remove" or not data:
        file.unlink()
        return "removed"
    if kind == "truncate":
        size = chance.randrange(len(data))
        data = data[:size]
        how = f"cut to {size} bytes"
    else:
        bit = chance.randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
        how = f"bit {bit} flipped"
    if chance.random() < 0.5:  # as a copy that went wrong
        file.unlink()
    file.write_bytes(data)  # as a disk that rots, through every link to the file
    return how


def follow(folder: Path, message: str, depth: int = 3) -> list[str]:
    """Do what a message says, and what the messages of that say; returns what that was."""
    done = []
    fix = message.strip()
    for command in dict.fromkeys(re.findall(r"`softcache ([^`]+)`", fix)):
        found = Outcome(folder, command)
        if found.code in (2, 3) and not found.crashed and depth:  # two files were damaged
            follow(folder, found.out, depth - 1)
            Outcome(folder, command)
        done.append(command)
    if done:
        return done
    if found := re.search(r"(\S+times\.csv), line (\d+): .*(Remove the line|Put that line there)", fix):
        path = folder / found[1]
        lines = path.read_bytes().split(b"\n")
        if found[3] == "Remove the line":
            del lines[int(found[2]) - 1]
        else:
            lines[0] = re.search(r"line 1: expected (\S+),", fix)[1].encode()
        path.write_bytes(b"\n".join(lines))
        return [found[3]]
    if found := re.search(r"Remove (data/\S+?)[:,]", fix):
        path = folder / found[1]
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return [f"remove {found[1]}"]
    return []


def named(message: str, path: str, how: str) -> bool:
    """Whether a message says what is damaged: the file, the folder of one thing in which it is, or the thing by its name."""
    places = [place for each in (path, *re.findall(r"swapped with (\S+)", how)) for place in (Path(each), *Path(each).parents)]
    said = [str(place) for place in places if len(place.parts) > 2 or place.name in ("transfer", "plots", "times.csv")]
    said += [f"{WHAT[place.parts[-2]]} {place.name}" for place in places if place.parts[-2:-1] and place.parts[-2] in WHAT]
    return any(re.search(rf"(?<![\w./-]){re.escape(each)}(?![\w-])", message) for each in said)


def figures(written: object) -> object:
    """What a command gave that is the same when commands before it have run again: of what it cost, all but the time."""
    if not isinstance(written, dict):
        return written
    return [[row[key] for key in MADE] for row in written["rows"]]


def judge(folder: Path, command: str, expected: object, path: str, how: str) -> tuple[str, dict[str, int]]:
    """Run a command on a damaged project; returns what is wrong with what came of it, if anything, and what came of it."""
    first = found = Outcome(folder, command)
    for round in range(ROUNDS):
        if found.crashed:
            return f"a traceback in round {round}: {found.error}", {}
        if found.code == 0:
            same = found.written == expected if round == 0 else figures(found.written) == figures(expected)
            lost = path == "data/times.csv"  # where lines are gone, the outputs are listed that none has made
            told = any(words in found.out for words in ("not trained yet and left out", "its time is not known")) or (
                lost and '"untimed": []' not in found.out
            )
            if not same and not (told and (round == 0 or lost)):
                return f"other figures without a word in round {round}: {found.out[-300:]}", {}
            return "", {"as ever" if round == 0 and same else "told" if round == 0 else f"mended in {round}": 1}
        if found.code not in (2, 3, 4):
            return f"exit code {found.code}: {found.out[-300:]}", {}
        if round == 0 and not named(found.out, path, how):
            return f"not named: {found.out[-300:]}", {}
        if not follow(folder, found.out):
            return f"no way out in round {round}: {found.out[-300:]}", {}
        again = Outcome(folder, command)
        if again.out == found.out and again.code == found.code:
            return f"a way out that leads nowhere: {found.out[-300:]}", {}
        found = again
    return f"never mended: {first.out[-300:]}", {}


def main(root: Path, first: int, count: int) -> None:
    for kind in (manifest.Manifest, manifest._Identity, manifest.Record, modelfile.Facts, provenance.Provenance):
        facts._adapter(kind)
    for kind in (tables._Facts, splits.Facts, splits._Binding):
        facts._adapter(kind)
    ingest.span_rows = lambda classes, row_bytes: 16
    start, place = root / "start", root / f"tries-{first}"
    expected, readers = {}, {}
    for command in COMMANDS:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(start, place)
        found = forked(lambda command=command: opened(place, command))
        assert all(isinstance(path, str) for path in found), found
        for path in found:
            readers.setdefault(path, []).append(command)
        shutil.rmtree(place)
        shutil.copytree(start, place)
        expected[command] = forked(lambda command=command: Outcome(place, command).written)
    stored = [str(path.relative_to(start)) for top in ("data", ".softcache") for path in sorted((start / top).rglob("*"))
              if path.is_file()]  # fmt: skip
    stored = [path for path in stored if not UNREAD.search(path) and Path(path).name != "lock"]
    counts: Counter[str] = Counter()
    for number in range(first, first + count):
        chance = random.Random(number)
        path = chance.choice(stored)
        for command in readers.get(path, []):
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(start, place)
            how = damage(place, path, random.Random(number))
            wrong, came = forked(lambda c=command, h=how, p=path: judge(place, c, expected[c], p, h))
            counts.update(came)
            if wrong:
                print(f"{number}: {path}, {how}: softcache {command}: {wrong}".replace("\n", " "), flush=True)
        counts["tries"] += 1
        counts["of files that no command opens"] += path not in readers
    print(json.dumps(counts))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
