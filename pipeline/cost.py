"""Cost: what stage one and stage two took, and after how many students a cache has paid for itself.

Times are those that commands left in times.csv, whole commands with all their loading. What made an output is taken to be
the last commands of its name that ended well: an output that came from elsewhere since, as out of DVC's cache, is not told
apart, and one that no command of the file made has no time.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import files, table, times
from pipeline.errors import InputError

STAGES = {"teach": 1, "capture": 1, "distill": 2, "sweep": 2, "evaluate": 2}
_LIVE = "-live"  # how the run of a live student ends, and no other
_SWEPT = re.compile(r"(.+)-T[0-9.e+-]+-alpha[0-9.e+-]+")  # a run of a sweep: which student it is
Key = tuple[str, str]  # command, run


@dataclass(frozen=True)
class _Line:
    """What commands took: one line of times.csv, or several lines of the same command and run, added up."""

    command: str
    name: str
    run: str
    seconds: float
    ended: str
    device: str
    threads: int

    @property
    def key(self) -> Key:
        """What the command wrote."""
        return self.command, self.run

    @property
    def live(self) -> bool:
        """Whether teachers ran in the loop."""
        return self.command == "distill" and self.run.endswith(_LIVE)


@dataclass(frozen=True)
class _Trained:
    """What lies in a folder with a model.json. count: its models, one per seed. epochs: of all of them together."""

    run: str
    facts: Mapping[str, Any]
    count: int
    epochs: int

    @classmethod
    def open(cls, folder: Path) -> "_Trained":
        facts = files.read_json(folder / "model.json")
        count = len(facts.get("seeds", [facts.get("seed")]))
        history = folder / "history.csv"
        rows = len(table.from_csv(history, "distill")) if history.exists() else count * facts["recipe"]["epochs"]
        return cls(folder.name, facts, count, rows)

    @property
    def work(self) -> int:
        """Rows that were shown to these students, over all epochs."""
        return self.epochs * self.facts["rows"]["count"]

    @property
    def teachers(self) -> tuple[str, ...] | None:
        """Teachers of these students by name; None for a baseline."""
        soft = self.facts["soft"]
        return None if soft is None else tuple(sorted(soft.get("live") or soft["caches"]))


def cost(data: Path) -> dict[str, Any]:
    """What the commands that worked in folder `data` took, as plain values that JSON can hold.

    rows: seconds, students and epochs of every stage, of every command in it, and of every name of that command.
    student_epochs: for nets of one spec that learned from the same teachers, on equally many rows and on the same device
    and threads, the seconds of one epoch of one student, from caches and live; break_even: after how many students
    the captures of the caches have been saved again. untimed: outputs that no command in times.csv made.
    Raises InputError where there are no times, or one that cannot be read.
    """
    lines = _read(data / times.FILE)
    spent = _spent(lines, lambda name: _kept(data, name))
    trained = _trained(data)
    made = {line.key for line in spent if line.ended == times.DONE}
    caches = [("capture", path.parent.name) for path in _visible(data, "caches/*/manifest.json")]
    return {
        "seconds": round(sum(line.seconds for line in spent), 1),
        "rows": list(_rows(spent, trained, made)),
        "student_epochs": _student_epochs(spent, trained),
        "untimed": [" ".join(key) for key in (*trained, *caches) if key not in made],
    }


# ---------------------------------------------------------------- what was spent


def _read(path: Path) -> list[_Line]:
    if not path.exists():
        fix = "Every command that trains, captures or evaluates writes its own; run one, such as `softcache teach`."
        raise InputError(str(path), expected="times of commands", found="no file", fix=fix)
    return [_line(path, number, row) for number, row in enumerate(table.from_csv(path, "teach"), 2)]


def _line(path: Path, number: int, row: Mapping[str, str]) -> _Line:
    try:
        command, name, run, _, seconds, ended, device, threads = (row[column] for column in times.COLUMNS)
        if command not in STAGES:
            raise ValueError
        return _Line(command, name, run, float(seconds), ended, device, int(threads))
    except (KeyError, TypeError, ValueError) as error:
        found, expected = ",".join(map(str, row.values())), ", ".join(times.COLUMNS)
        raise InputError(f"{path}, line {number}", expected=expected, found=found, fix="Remove the line.") from error


def _spent(lines: Sequence[_Line], kept: Callable[[str], bool]) -> list[_Line]:
    """One line for each output, in the order in which they were first made. kept: whether a cache is of several captures."""
    groups: dict[Key, list[int]] = {}
    taught: dict[str, int] = {}
    for number, line in enumerate(lines):
        groups.setdefault(line.key, []).append(number)
        if line.command == "teach" and line.ended == times.DONE:
            taught[line.run] = number
    found = []
    for (command, run), numbers in groups.items():
        last = _last(lines, numbers)
        if command == "capture" and all(lines[number].ended == times.DONE for number in last) and kept(run):
            last = [number for number in numbers if number > taught.get(run, -1)] or last
        found.append(_added([lines[number] for number in last]))
    return found


def _last(lines: Sequence[_Line], numbers: Sequence[int]) -> Sequence[int]:
    """The last that ended well, and the unfinished ones which it went on from: earlier ones are of what was replaced since.

    All, where none ended well.
    """
    done = [place for place, number in enumerate(numbers) if lines[number].ended == times.DONE]
    if not done:
        return numbers
    return numbers[done[-2] + 1 if len(done) > 1 else 0 : done[-1] + 1]


def _added(lines: Sequence[_Line]) -> _Line:
    last = lines[-1]
    seconds = sum(line.seconds for line in lines)
    return _Line(last.command, last.name, last.run, seconds, last.ended, last.device, last.threads)


def _kept(data: Path, name: str) -> bool:
    """Whether the last capture kept spans of one before, to which nothing in times.csv need point: views were added, say."""
    try:
        return json.loads((data / "provenance" / f"{name}.json").read_bytes())["spans_kept"] > 0
    except (OSError, ValueError, LookupError, TypeError):
        return False


# ---------------------------------------------------------------- what was trained


def _trained(data: Path) -> dict[Key, list[_Trained]]:
    """What lies in the folders that commands wrote: a sweep has many models, others have one folder of them."""
    found: dict[Key, list[_Trained]] = {}
    for command, pattern in (("teach", "teachers/*"), ("distill", "students/*"), ("sweep", "sweeps/*/students/*")):
        for path in _visible(data, f"{pattern}/model.json"):
            run = path.parents[2].name if command == "sweep" else path.parent.name
            found.setdefault((command, run), []).append(_Trained.open(path.parent))
    return found


def _visible(data: Path, pattern: str) -> list[Path]:
    """Files that fit; none in folders that are not finished."""
    return [
        path for path in sorted(data.glob(pattern)) if not any(part.startswith(".") for part in path.relative_to(data).parts)
    ]


# ---------------------------------------------------------------- tables


def _rows(spent: Sequence[_Line], trained: Mapping[Key, Sequence[_Trained]], made: set[Key]) -> Iterator[dict[str, Any]]:
    """A row for each stage, below it one for each command, and below that one for each name: each the sum of what follows."""
    total = sum(line.seconds for line in spent)

    def row(lines: Sequence[_Line], stage: int, **place: Any) -> dict[str, Any]:
        models = [each for line in lines if line.key in made for each in trained.get(line.key, ())]
        seconds = sum(line.seconds for line in lines)
        return {
            "stage": stage,
            "command": None,
            "name": None,
            "live": False,
            **place,
            "students": sum(each.count for each in models) if stage == 2 else 0,
            "epochs": sum(each.epochs for each in models),
            "seconds": round(seconds, 1),
            "share": seconds / total if total else 0.0,
        }

    for stage in (1, 2):
        if not (within := [line for line in spent if STAGES[line.command] == stage]):
            continue
        yield row(within, stage)
        for command in [each for each in STAGES if any(line.command == each for line in within)]:
            of_command = [line for line in within if line.command == command]
            yield row(of_command, stage, command=command)
            for name, live in dict.fromkeys((line.name, line.live) for line in of_command if line.name):
                lines = [line for line in of_command if (line.name, line.live) == (name, live)]
                yield row(lines, stage, command=command, name=name, live=live)


# ---------------------------------------------------------------- break-even


@dataclass
class _Rate:
    """Students of one kind: how many, of how many epochs together, in how many seconds."""

    students: int = 0
    epochs: int = 0
    seconds: float = 0.0

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        seconds = {"seconds": self.seconds, "seconds_per_epoch": self.seconds / self.epochs}
        return {"students": self.students, "epochs": self.epochs, **seconds}


def _student_epochs(spent: Sequence[_Line], trained: Mapping[Key, Sequence[_Trained]]) -> list[dict[str, Any]]:
    """Seconds of a student-epoch, from caches and live, wherever students learned from caches."""
    captures = {line.run: line.seconds for line in spent if line.command == "capture" and line.ended == times.DONE}
    rates: dict[tuple, dict[bool, _Rate]] = {}
    examples: dict[tuple, str] = {}
    for line, each, seconds in _shares(spent, trained):
        if each.teachers is None:
            continue
        what = (each.facts["model"], each.facts["rows"]["count"], each.teachers, line.device, line.threads)
        rate = rates.setdefault(what, {}).setdefault("live" in each.facts["soft"], _Rate())
        rate.students += each.count
        rate.epochs += each.epochs
        rate.seconds += seconds
        examples.setdefault(what, _live_command(line, each))
    return [
        dict(zip(("model", "rows", "teachers", "device", "threads"), what, strict=True))
        | _compared(found[False], found.get(True), [captures.get(name) for name in what[2]])
        | {"live_command": examples[what]}
        for what, found in rates.items()
        if False in found
    ]


def _shares(spent: Sequence[_Line], trained: Mapping[Key, Sequence[_Trained]]) -> Iterator[tuple[_Line, _Trained, float]]:
    """(line, students of a folder, their seconds): a command's time goes to its students by the rows that they were shown."""
    for line in spent:
        if STAGES[line.command] == 2 and line.ended == times.DONE:
            among = trained.get(line.key, ())
            work = sum(each.work for each in among)
            yield from ((line, each, line.seconds * each.work / work) for each in among if each.work)


def _compared(cached: _Rate, live: _Rate | None, captures: Sequence[float | None]) -> dict[str, Any]:
    """What students cost from caches and live, and after how many of them the captures are paid for; null where unknown."""
    capture = None if None in captures else sum(captures)
    epochs = cached.epochs / cached.students
    saved = live.seconds / live.epochs - cached.seconds / cached.epochs if live else 0.0
    return {
        "cached": cached.facts(),
        "live": live.facts() if live else None,
        "capture_seconds": capture,
        "break_even": {"epochs": epochs, "students": capture / (epochs * saved)} if capture is not None and saved > 0 else None,
    }


def _live_command(line: _Line, student: _Trained) -> str:
    """How to train a live student to compare with."""
    swept = _SWEPT.fullmatch(student.run)
    name = swept[1] if line.command == "sweep" and swept else line.name
    return f"softcache distill {name} -T {student.facts['soft']['temperature']:g} --live --epochs 2"
