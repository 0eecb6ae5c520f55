"""Cost: what stage one and stage two took, and after how many students a cache has paid for itself.

Times are those that commands left in times.csv, whole commands with all their loading. What made an output is taken to be
the last commands of its name that ended well: an output that came from elsewhere since, as out of DVC's cache, is not told
apart, and one that no command of the file made has no time.
"""

import csv
import logging
import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.base import commands
from pipeline.base.commands import short
from pipeline.base.errors import InputError, IntegrityError
from pipeline.cache.manifest import Manifest
from pipeline.cache.provenance import Provenance
from pipeline.models import runname
from pipeline.models.modelfile import Kind, ModelFile
from pipeline.results import times

STUDENTS: tuple[Kind, ...] = ("student", "baseline", "live")
STAGES = {"teach": 1, "capture": 1, "distill": 2, "sweep": 2, "evaluate": 2}
Key = tuple[str, str]  # command, run
_log = logging.getLogger(__name__)


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
        """Whether teachers ran in the loop, also where nothing came of it but this line, which says no more than the name."""
        return self.command == "distill" and self.run.endswith(runname.LIVE)


@dataclass(frozen=True)
class _Kind:
    """What decides, besides the device and its threads, how long an epoch of a student takes. teachers: none for a baseline."""

    model: str
    rows: int
    policy: str
    views: int | None
    batch_size: int
    precision: str
    memory: float
    teachers: tuple[str, ...]

    @classmethod
    def of(cls, model: ModelFile) -> "_Kind":
        """By what model.json says."""
        recipe, views = model.recipe, model.views
        way = (recipe.batch_size, recipe.precision, recipe.memory)
        return cls(
            model.model,
            model.rows.count if model.rows else 0,
            views.policy,
            views.count,
            *way,
            tuple(sorted(model.soft.teachers if model.soft else ())),
        )

    @property
    def pace(self) -> "_Kind":
        """What is equal for students of one command whose time can be told apart by the rows that they were shown."""
        return replace(self, rows=0, teachers=())


@dataclass(frozen=True)
class _Trained:
    """What lies in a folder with a model.json. count: its models, one per seed. epochs: of all of them together.

    name: of the student in its sweep. options: of `softcache distill`, for a live student of the same kind. A teacher has
    none of these, and no kind.
    """

    run: str
    count: int
    epochs: int
    kind: _Kind | None = None
    live: bool = False
    name: str = ""
    options: tuple[str, ...] = ()

    @classmethod
    def open(cls, folder: Path, command: str, student: str | None) -> "_Trained":
        """What `command` left in a folder; student: whose it is, where times tell.

        Raises InputError or IntegrityError where it is damaged, or where it is something else.
        """
        if command == "teach":
            taught = ModelFile.teacher(folder)
            return cls(folder.name, 1, len(taught.history()))
        name, fix = folder.name, f"Remove {folder}, which no command in {times.FILE} has made."
        if command == "sweep":
            sweep = folder.parents[1]
            name, fix = f"{sweep.name}/{name}", f"Run {commands.sweep(sweep)}."
        elif student is not None:
            fix = f"Train it again with `softcache distill {student}`, or remove {folder}."
        model = ModelFile.open(folder, kinds=STUDENTS, name=name, fix=fix)
        kind = _Kind.of(model)
        known = runname.setting(*((model.soft.temperature, model.soft.alpha) if model.soft else (None,)))
        name, live = folder.name.removesuffix(f"-{known}"), model.kind == "live"
        return cls(folder.name, len(model.nets), len(model.history()), kind, live, name, _options(model, kind))

    @property
    def work(self) -> int:
        """Rows that were shown to these students, over all epochs."""
        return self.epochs * self.kind.rows if self.kind else 0


def cost(data: Path) -> dict[str, Any]:
    """What the commands that worked in folder `data` took, as plain values that JSON can hold.

    rows: seconds, students and epochs of every stage, of every command in it, and of every name of that command; done:
    whether any of these commands ended well, and made what is there. student_epochs: for nets of one spec that learned from
    the same teachers, on equally many rows and views of one policy, in equal batches, precision and memory and on the same
    device and threads, the seconds of one epoch of one student, from caches and live; break_even: after how many students
    the captures of the caches have been saved again. A cache that is not of the last capture here, out of DVC's cache, say,
    counts as not made. Sweeps of students of more than one model, or trained in more than one of these ways, are left out of
    them: whose time is whose cannot be told. untimed: outputs that no command in times.csv made. others: folders in this one
    that have times of their own, which are not counted.
    Raises InputError where there are no times, IntegrityError where they, a model.json or a provenance are damaged.
    """
    lines = [line for line in _read(data / times.FILE) if line.ended != times.FAILED]  # nothing came of those
    spent = _spent(lines, lambda name: _kept(data, name))
    trained = _trained(data, {line.run: line.name for line in lines if line.command == "distill"})
    caches = [("capture", path.parent.name) for path in _visible(data, "caches/*/manifest.json")]
    made = {line.key for line in spent if line.ended == times.DONE} - {key for key in caches if _is_strange(data, key[1])}
    return {
        "seconds": round(sum(line.seconds for line in spent), 1),
        "rows": list(_rows(spent, trained, made)),
        "student_epochs": _student_epochs(spent, trained, data, made),
        "untimed": [" ".join(key) for key in (*trained, *caches) if key not in made],
        "others": [str(path.parent) for path in _visible(data, f"*/{times.FILE}")],
    }


# ---------------------------------------------------------------- what was spent


def _read(path: Path) -> list[_Line]:
    if not path.is_file():
        command = commands.evaluate(path.parent / "plots")
        fix = f"Every command that trains, captures or evaluates notes its own when it runs, such as {command}."
        raise InputError(str(path), expected="times of commands", found="no file", fix=fix)
    head, *lines = path.read_bytes().splitlines() or [b""]
    if lines and head.decode(errors="replace").split(",") != list(times.COLUMNS):
        found = head.decode(errors="backslashreplace")
        fix = "Put that line there, or move the file aside."
        raise IntegrityError(f"{path}, line 1", expected=",".join(times.COLUMNS), found=found, fix=fix)
    return [_line(path, number, line) for number, line in enumerate(lines, 2) if line]


def _line(path: Path, number: int, line: bytes) -> _Line:
    try:
        if not times.is_whole(line):
            raise ValueError
        ((command, name, run, _, seconds, ended, device, threads, _),) = csv.reader([line.decode()])
        if command not in STAGES or not 0 <= float(seconds) < math.inf:
            raise ValueError
        return _Line(command, name, run, float(seconds), ended, device, int(threads))
    except (ValueError, csv.Error) as error:
        found, expected = line.decode(errors="backslashreplace"), f"{', '.join(times.COLUMNS)}, as they were noted"
        raise IntegrityError(f"{path}, line {number}", expected=expected, found=found, fix="Remove the line.") from error


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
            last = [number for number in numbers if taught.get(run, -1) < number <= last[-1]] or last
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
    return replace(lines[-1], seconds=sum(line.seconds for line in lines))


def _kept(data: Path, name: str) -> bool:
    """Whether the last capture kept spans of one before, to which nothing in times.csv need point: views were added, say."""
    found = Provenance.open(data / "provenance" / f"{name}.json")
    return found is not None and found.spans_kept > 0


def _is_strange(data: Path, name: str) -> bool:
    """Whether a cache is another than the last capture here has made; says so."""
    cache, path = data / "caches" / name, data / "provenance" / f"{name}.json"
    found, manifest = Provenance.open(path), Manifest.read(cache)
    if found is not None and found.manifest == manifest.digest:
        return False
    _log.warning(
        "%s: not what was captured here last, by %s, so what it took is not known; %s makes it, or links it, again",
        cache, path, commands.capture(cache, *manifest.options),
    )  # fmt: skip
    return True


# ---------------------------------------------------------------- what was trained


def _trained(data: Path, students: Mapping[str, str]) -> dict[Key, list[_Trained]]:
    """What lies in the folders that commands wrote: a sweep has many of them, others have one. students: whose runs are."""
    found: dict[Key, list[_Trained]] = {}
    for command, pattern in (("teach", "teachers/*"), ("distill", "students/*"), ("sweep", "sweeps/*/students/*")):
        for folder in (path for path in _visible(data, pattern) if path.is_dir()):
            run = folder.parents[1].name if command == "sweep" else folder.name
            found.setdefault((command, run), []).append(_Trained.open(folder, command, students.get(run)))
    return found


def _visible(data: Path, pattern: str) -> list[Path]:
    """Files and folders that fit; none in folders that are not finished."""
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
            "done": any(line.key in made for line in lines),
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


def _student_epochs(
    spent: Sequence[_Line], trained: Mapping[Key, Sequence[_Trained]], data: Path, made: set[Key]
) -> list[dict[str, Any]]:
    """Seconds of a student-epoch, from caches and live, wherever students learned from caches."""
    captures = {line.run: line.seconds for line in spent if line.command == "capture" and line.key in made}
    rates: dict[tuple[_Kind, str, int], dict[bool, _Rate]] = {}
    examples: dict[tuple[_Kind, str, int], str] = {}
    for line, each, seconds in _shares(spent, trained):
        if each.kind is None or not each.kind.teachers:
            continue
        what = (each.kind, line.device, line.threads)
        rate = rates.setdefault(what, {}).setdefault(each.live, _Rate())
        rate.students += each.count
        rate.epochs += each.epochs
        rate.seconds += seconds
        examples.setdefault(what, _live_command(line, each, data))
    return [
        asdict(what[0])
        | dict(zip(("device", "threads"), what[1:], strict=True))
        | _compared(found[False], found.get(True), [captures.get(name) for name in what[0].teachers])
        | {"live_command": examples[what]}
        for what, found in rates.items()
        if False in found
    ]


def _shares(spent: Sequence[_Line], trained: Mapping[Key, Sequence[_Trained]]) -> Iterator[tuple[_Line, _Trained, float]]:
    """(line, students of a folder, their seconds): a command's time goes to its students by the rows that they were shown.

    Only where all of them are of one model and trained in one way: a wide net and a narrow one that are shown equally many
    rows take different times, and what each took is not known.
    """
    for line in spent:
        if STAGES[line.command] == 2 and line.ended == times.DONE:
            among = trained.get(line.key, ())
            work = sum(each.work for each in among)
            if work and len({each.kind and each.kind.pace for each in among}) == 1:
                yield from ((line, each, line.seconds * each.work / work) for each in among if each.work)


def _compared(cached: _Rate, live: _Rate | None, captures: Sequence[float | None]) -> dict[str, Any]:
    """What students cost from caches and live, and after how many of them the captures are paid for; null where unknown."""
    known = [each for each in captures if each is not None]
    capture = sum(known) if len(known) == len(captures) else None
    epochs = cached.epochs / cached.students
    saved = live.seconds / live.epochs - cached.seconds / cached.epochs if live else 0.0
    return {
        "cached": cached.facts(),
        "live": live.facts() if live else None,
        "capture_seconds": capture,
        "break_even": {"epochs": epochs, "students": capture / (epochs * saved)} if capture is not None and saved > 0 else None,
    }


def _live_command(line: _Line, student: _Trained, data: Path) -> str:
    """How to train a live student to compare with."""
    name = student.name if line.command == "sweep" else line.name
    place = () if data == Path("data") else ("--data", str(data))
    return shlex.join(("softcache", "distill", name, *student.options, *place))


def _options(model: ModelFile, kind: _Kind) -> tuple[str, ...]:
    """All that a sweep, or a command line, may have set otherwise than params.yaml does; none for a baseline."""
    if model.soft is None or model.rows is None:
        return ()
    chosen = (("--rows", model.rows.selection, "all()"), ("--policy", model.views.policy, "none()"))
    return (
        *("-T", short(model.soft.temperature), "--live"),
        *(word for teacher in model.soft.teachers for word in ("--teachers", teacher)),
        *(word for option, value, usual in chosen if value != usual for word in (option, value)),
        *("--views", str(kind.views), "--batch-size", str(kind.batch_size)),
        *("--precision", kind.precision, "--memory", short(kind.memory)),
    )
