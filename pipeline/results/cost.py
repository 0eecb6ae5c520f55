"""Cost: the time that stage one and stage two took, and after how many students a cache has paid for itself.

Times come from times.csv, and are those of whole commands, loading included. The time of an output is that of the last
command of its name that succeeded. If the output was replaced since by a copy from elsewhere, such as DVC's cache, this is
not noticed. An output that no command in the file made has no time.
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
from pipeline.base.files import visible
from pipeline.cache.manifest import Manifest
from pipeline.cache.provenance import Provenance
from pipeline.models import runname
from pipeline.models.modelfile import FILE_NAME, Kind, ModelFile
from pipeline.results import times

STUDENTS: tuple[Kind, ...] = ("student", "baseline", "live")
STAGES = {"teach": 1, "capture": 1, "distill": 2, "sweep": 2, "evaluate": 2}
Key = tuple[str, str]  # command, run
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Line:
    """The time of a command: one line of times.csv, or the sum of several lines of the same command and run."""

    command: str
    name: str
    run: str
    seconds: float
    ended: str
    device: str
    threads: int

    @property
    def key(self) -> Key:
        """The command and its output."""
        return self.command, self.run

    @property
    def live(self) -> bool:
        """Whether teachers ran in the loop. The name says so, even if the output is missing."""
        return self.command == "distill" and self.run.endswith(runname.LIVE)


@dataclass(frozen=True)
class _Kind:
    """What decides how long an epoch of a student takes, except device and threads. teachers: empty for a baseline."""

    model: str
    rows: int
    policy: str
    views: int | None
    batch_size: int
    precision: str
    memory: float
    draws: int
    teachers: tuple[str, ...]
    features: tuple[str, ...]

    @classmethod
    def of(cls, model: ModelFile) -> "_Kind":
        """The kind of the students in a model.json."""
        recipe, views = model.training
        rows = model.rows.count if model.rows else 0
        teachers, features = (tuple(sorted(model.soft.teachers)), model.soft.features) if model.soft else ((), ())
        way = (recipe.batch_size, recipe.precision, recipe.memory, recipe.draws)
        return cls(model.model, rows, views.policy, views.count, *way, teachers, features)

    @property
    def pace(self) -> "_Kind":
        """What must be equal for all students of a command, so that its time can be divided by the rows they were shown."""
        return replace(self, rows=0, teachers=())


@dataclass(frozen=True)
class _Trained:
    """The content of a folder with a model.json. count: the number of nets, one per seed. epochs: their sum over all nets.

    name: of the student in its sweep. options: of the `softcache distill` that trains a live student of the same kind. For a
    teacher these are empty, and kind is None.
    """

    run: str
    count: int
    epochs: int
    kind: _Kind | None = None
    live: bool = False
    name: str = ""
    options: tuple[str, ...] = ()

    @classmethod
    def open(cls, folder: Path, command: str, student: str | None) -> "_Trained | None":
        """The output of `command` in a folder; None for a teacher made elsewhere. student: its name, if times.csv has it.

        Raises InputError or IntegrityError if the folder is damaged or holds something else.
        """
        if command == "teach":
            taught = ModelFile.teacher(folder)
            return cls(folder.name, 1, len(taught.history())) if taught.kind == "teacher" else None
        name, fix = folder.name, f"Remove {folder}, which no command in {times.FILE} made."
        if command == "sweep":
            sweep = folder.parents[1]
            name, fix = f"{sweep.name}/{name}", f"Run {commands.sweep(sweep)}."
        elif student is not None:
            setting = folder.name.removeprefix(f"{student}-").removesuffix(runname.LIVE)
            how = "--hard" if setting == "hard" else f"-T {setting.removeprefix('T')}"
            how += " --live" if folder.name.endswith(runname.LIVE) else ""
            fix = f"Train it again with `softcache distill {student} {how}`, or remove {folder}."
        model = ModelFile.open(folder, kinds=STUDENTS, name=name, fix=fix)
        kind = _Kind.of(model)
        known = runname.setting(*((model.soft.temperature, model.soft.alpha) if model.soft else (None,)))
        name, live = folder.name.removesuffix(f"-{known}"), model.kind == "live"
        return cls(folder.name, len(model.nets), len(model.history()), kind, live, name, _options(model, kind))

    @property
    def work(self) -> int:
        """The number of rows that these students were shown, over all epochs."""
        return self.epochs * self.kind.rows if self.kind else 0


def cost(data: Path) -> dict[str, Any]:
    """The time that the commands in folder `data` took, as plain values that JSON can hold.

    Args:
        data: The data folder, with times.csv.

    Returns:
        By name: `seconds`, the total. `rows`: seconds, students and epochs of each stage, of each command in it, and of each
        name of that command; `done` says whether one of these commands succeeded and made the present output.
        `student_epochs`: the seconds of one epoch of one student, from caches and live, for students with the same model,
        teachers, number of rows, views, batch size, precision, memory, draws, device and threads; its `break_even` is the
        number of students after which the time of the captures is saved. Sweeps that mix models or ways of training are left
        out of it, because the time of each student is unknown. `untimed`: the outputs that no command in times.csv made; a
        cache counts as one if it is not from the last capture here. `others`: folders within `data` with their own times.csv,
        which is not counted.

    Raises:
        InputError: There is no times.csv.
        IntegrityError: times.csv, a model.json or a provenance file is damaged.
    """
    lines = [line for line in _read(data / times.FILE) if line.ended != times.FAILED]  # these made nothing
    spent = _spent(lines, lambda name: _kept(data, name))
    trained = _trained(data, {line.run: line.name for line in lines if line.command == "distill"})
    caches = [("capture", path.parent.name) for path in visible(data, "caches/*/manifest.json")]
    made = {line.key for line in spent if line.ended == times.DONE} - {key for key in caches if _is_strange(data, key[1])}
    return {
        "seconds": round(sum(line.seconds for line in spent), 1),
        "rows": list(_rows(spent, trained, made)),
        "student_epochs": _student_epochs(spent, trained, data, made),
        "untimed": [" ".join(key) for key in (*trained, *caches) if key not in made],
        "others": [str(path.parent) for path in visible(data, f"*/{times.FILE}")],
    }


# ---------------------------------------------------------------- times


def _read(path: Path) -> list[_Line]:
    if not path.is_file():
        command = commands.evaluate(path.parent / "plots")
        fix = f"Every command that trains, captures or evaluates records its time, such as {command}."
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
        found, expected = line.decode(errors="backslashreplace"), f"{', '.join(times.COLUMNS)}, as they were written"
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
    """The last line that succeeded, with the unfinished ones that it continued. Earlier ones belong to a replaced output.

    All lines, if none succeeded.
    """
    done = [index for index, number in enumerate(numbers) if lines[number].ended == times.DONE]
    if not done:
        return numbers
    return numbers[done[-2] + 1 if len(done) > 1 else 0 : done[-1] + 1]


def _added(lines: Sequence[_Line]) -> _Line:
    return replace(lines[-1], seconds=sum(line.seconds for line in lines))


def _kept(data: Path, name: str) -> bool:
    """Whether the last capture kept spans of an earlier one, for example because it added views."""
    found = Provenance.open(data / "provenance" / f"{name}.json")
    return found is not None and found.spans_kept > 0


def _is_strange(data: Path, name: str) -> bool:
    """Whether a cache is not from the last capture here. If so, a warning says it."""
    cache, path = data / "caches" / name, data / "provenance" / f"{name}.json"
    found, manifest = Provenance.open(path), Manifest.read(cache)
    if found is not None and found.manifest == manifest.digest:
        return False
    _log.warning(
        "%s: not the cache of the last capture in %s, so its time is not known. To make or link it again, run %s.",
        cache, path, commands.capture(cache, *manifest.options),
    )  # fmt: skip
    return True


# ---------------------------------------------------------------- students and teachers


def _trained(data: Path, students: Mapping[str, str]) -> dict[Key, list[_Trained]]:
    """The outputs of each command: a sweep has many folders, others have one. students: the student of each run."""
    found: dict[Key, list[_Trained]] = {}
    for command, pattern in (("teach", "teachers/*"), ("distill", "students/*"), ("sweep", "sweeps/*/students/*")):
        for folder in (path for path in visible(data, pattern) if path.is_dir()):
            run = folder.parents[1].name if command == "sweep" else folder.name
            if trained := _Trained.open(folder, command, students.get(run)):
                found.setdefault((command, run), []).append(trained)
    return found


# ---------------------------------------------------------------- tables


def _rows(spent: Sequence[_Line], trained: Mapping[Key, Sequence[_Trained]], made: set[Key]) -> Iterator[dict[str, Any]]:
    """A line for each stage, then one for each of its commands, then one for each name; each is the sum of those below it."""
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
    """The students of one kind: their number, and their epochs and seconds in total."""

    students: int = 0
    epochs: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"seconds_per_epoch": self.seconds / self.epochs}


def _student_epochs(
    spent: Sequence[_Line], trained: Mapping[Key, Sequence[_Trained]], data: Path, made: set[Key]
) -> list[dict[str, Any]]:
    """The seconds of a student-epoch, from caches and live, for each kind of students that learned from caches."""
    captures = {line.run: line.seconds for line in spent if line.command == "capture" and line.key in made}
    rates: dict[tuple[_Kind, str, int], dict[bool, _Rate]] = {}
    examples: dict[tuple[_Kind, str, int], str | None] = {}
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
    """(line, students of a folder, their seconds): the time of a command is divided by the rows that its students were shown.

    Commands whose students differ in model or way of training are left out: a wide net needs more time than a narrow one for
    the same rows, and one with its teachers in the loop more than a baseline beside it, so the time of each is unknown.
    """
    for line in spent:
        if STAGES[line.command] == 2 and line.ended == times.DONE:
            among = trained.get(line.key, ())
            work = sum(each.work for each in among)
            if work and len({(each.kind and each.kind.pace, each.live) for each in among}) == 1:
                yield from ((line, each, line.seconds * each.work / work) for each in among if each.work)


def _compared(cached: _Rate, live: _Rate | None, captures: Sequence[float | None]) -> dict[str, Any]:
    """The rates from caches and live, and after how many students the captures are paid for; None if unknown."""
    known = [each for each in captures if each is not None]
    capture = sum(known) if len(known) == len(captures) else None
    epochs = cached.epochs / cached.students
    saved = live.seconds / live.epochs - cached.seconds / cached.epochs if live else 0.0
    return {
        "cached": cached.to_dict(),
        "live": live.to_dict() if live else None,
        "capture_seconds": capture,
        "break_even": {"epochs": epochs, "students": capture / (epochs * saved)} if capture is not None and saved > 0 else None,
    }


def _live_command(line: _Line, student: _Trained, data: Path) -> str | None:
    """The command that trains a live student to compare with.

    None if a teacher is no net, which could run in the loop, and for students that learn from features, which are cached.
    """
    if student.kind and student.kind.features:
        return None
    folders = [data / "teachers" / name for name in (student.kind.teachers if student.kind else ())]
    if any((folder / FILE_NAME).exists() and ModelFile.teacher(folder).kind == "imported" for folder in folders):
        return None
    name = student.name if line.command == "sweep" else line.name
    place = () if data == Path("data") else ("--data", str(data))
    return shlex.join(("softcache", "distill", name, *student.options, *place))


def _options(model: ModelFile, kind: _Kind) -> tuple[str, ...]:
    """The options that may differ from params.yaml, because a sweep or a command line set them; none for a baseline."""
    if model.soft is None or model.rows is None:
        return ()
    _, views = model.training
    chosen = (("--rows", model.rows.selection, "all()"), ("--policy", views.policy, "none()"))
    return (
        *("-T", short(model.soft.temperature), "--live"),
        *(word for teacher in model.soft.teachers for word in ("--teachers", teacher)),
        *(word for option, value, usual in chosen if value != usual for word in (option, value)),
        *("--views", "all" if views.seed is None else str(kind.views), "--batch-size", str(kind.batch_size)),
        *("--precision", kind.precision, "--memory", short(kind.memory), "--draws", str(kind.draws)),
    )
