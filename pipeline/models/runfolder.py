"""Run folders: where the nets of a run lie in a data folder, by the run's name."""

from typing import TYPE_CHECKING

from pipeline.base import commands, files
from pipeline.base.errors import InputError
from pipeline.base.places import Place
from pipeline.models.modelfile import FILE_NAME, Kind

if TYPE_CHECKING:
    from pipeline.models.checkpoint import Checkpoint

_STUDENTS: tuple[Kind, ...] = ("student", "baseline", "live")
_SHOWN = 12  # names in a message


def open_run(data: Place, run: str) -> "Checkpoint":
    """Open the folder of a run.

    Args:
        data: The folder of all data.
        run: A student such as `tiny-T4`, one of a sweep such as `alphas/tiny-T4-alpha0.5`, or a teacher such as `a`.

    Returns:
        Its folder, opened.

    Raises:
        InputError: There is no run of that name, or a teacher and a student have it.
        IntegrityError: Its model.json is damaged.
    """
    from pipeline.models.checkpoint import Checkpoint

    sweep, _, name = run.rpartition("/")
    student, teacher = _folder(data, run), data / "teachers" / name
    taught = not sweep and files.holds(teacher, FILE_NAME)
    if files.holds(student, FILE_NAME):
        if taught:
            found = f"{teacher} and {student}"
            raise InputError(f"run {run}", expected="one run of that name", found=found, fix="Rename one of them.")
        return open_student(data, run)
    if taught:
        return Checkpoint.teacher(teacher)
    raise InputError("run", expected=f"one of {_known(data)}", found=run, fix="Correct the name, or train it first.")


def open_student(data: Place, run: str) -> "Checkpoint":
    """Open the folder of a student, which may be one of a sweep, as `open_run` does it."""
    from pipeline.models.checkpoint import Checkpoint

    sweep = run.rpartition("/")[0]
    fix = f"Run {commands.sweep(data / 'sweeps' / sweep)}." if sweep else "Train it again with `softcache distill`."
    return Checkpoint.open(_folder(data, run), kinds=_STUDENTS, name=run, fix=fix)


def _folder(data: Place, run: str) -> Place:
    """The folder of a student."""
    sweep, _, name = run.rpartition("/")
    return (files.current(data / "sweeps" / sweep) if sweep else data) / "students" / name


def _known(data: Place) -> str:
    names = sorted(each.name for part in ("students", "teachers") for each in files.artifacts(data / part, FILE_NAME))
    sweeps = sorted((data / "sweeps").iterdir()) if (data / "sweeps").is_dir() else []
    for sweep in sweeps:
        names += [f"{sweep.name}/{each.name}" for each in files.artifacts(files.current(sweep) / "students", FILE_NAME)]
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "") or "none yet"
