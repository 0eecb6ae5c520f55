"""Sweep: students × temperatures × alphas × seeds from the same caches, trained and then measured.

Students of one architecture and one seed are trained together, as a stack that shares every batch. Students that learn from
each other are those of one architecture and one setting, one per seed.
"""

import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from pipeline.base import commands, files, runtime
from pipeline.base.crew import HERE, Workers
from pipeline.base.errors import InputError
from pipeline.base.places import Place
from pipeline.results.evaluate import Evaluated, Trained, evaluate, measured_caches, require_comparable
from pipeline.studies.groups import Plan, groups_of, key, run_of
from pipeline.studies.tasks import Bench, Task
from pipeline.studies.workers import SPLITS, spread
from pipeline.training.lesson import Ground, Soft, Student, require_seeds
from pipeline.training.objective import HARD, LossWeights
from pipeline.training.resume import Kept

_log = logging.getLogger(__name__)


def sweep(
    *,
    plans: Mapping[str, Plan],
    weightings: Sequence[LossWeights],
    baseline: bool,
    together: int,
    teachers: Mapping[str, Place],
    splits: Place,
    work: Place,
    out: Place,
    device: torch.device,
    anew: bool = False,
    workers: Workers = HERE,
) -> Evaluated:
    """Train students at every weighting, and their baselines, and measure all of them.

    A sweep that was killed goes on from what it kept in `work`, and ends with the same bits. A student that was trained
    before with the same settings is not trained again. A student that diverges does not disturb the others.

    Args:
        plans: By student name, the settings that do not vary; all plans have the same teachers, combined in the same way.
        weightings: The temperatures and loss weights to train every plan at, all different; may be empty with `baseline`.
        baseline: Whether to train each plan from the labels of the training split alone as well.
        together: How many students of one seed may share each step, 1 or more.
        teachers: Folders of the teachers, by the names under which the plans have their caches. By their caches they are
            measured, of plans that have them in the loop too.
        splits: The folder that ingest wrote.
        work: The folder where trainings are kept.
        out: The folder to write. `students` has a folder <student>-<key> for each run, as `distill` writes it; `plots`
            is what `evaluate` writes. Both are replaced together; other files stay.
        device: Where to train and measure; see base.runtime.prepare.
        anew: Train everything again, and use nothing from earlier runs.
        workers: Who trains; it changes no bit of the outcome. See workers.py.

    Returns:
        What was measured: every run, and the best setting of each student.

    Raises:
        InputError, IntegrityError, BusyError: As `distill` and `evaluate` do.
    """
    if together < 1:
        raise InputError("together", expected="1 or more", found=str(together), fix="Correct the setting.")
    if not plans or not (weightings or baseline):
        found = f"{len(plans)} students, {len(weightings)} settings, no baseline"
        raise InputError("sweep", expected="students, temperatures and alphas", found=found, fix="Correct the settings.")
    for plan in plans.values():
        require_seeds(plan.seeds)
    soft = _only_ensemble(plans)
    caches = {name: _cache(path) for name, path in teachers.items()} if soft.live else soft.teachers
    measured = {name: (path, caches[name]) for name, path in teachers.items()}
    every = (HARD, *weightings) if baseline else tuple(weightings)
    if len(set(every)) < len(every):
        found = ", ".join(map(key, every))
        expected = "each temperature and alpha once; alpha 0 is the baseline"
        raise InputError("sweep", expected=expected, found=found, fix="Correct the settings.")
    ground = Ground.open(splits, SPLITS, work, device)

    def trained(students: Place) -> list[Trained]:
        runs = [(run_of(name, each), name, None if each == HARD else each.temperature) for name in plans for each in every]
        again = commands.sweep(out)
        return [Trained(run, name, t, students / run, again, live=soft.live and t is not None) for run, name, t in runs]

    require_comparable(list(teachers), list(soft.teachers), trained(out), ground.splits["valid"])
    measured_caches(measured, ground.splits, work)  # before hours of training, though students of live teachers read none
    form = partial(groups_of, plans=plans, weightings=weightings, baseline=baseline, together=together)
    groups = list(form(ground))
    members = [member for group in groups for member in group.members]
    read = [each for group in groups for each in group.lesson.read(group.model, group.plan.recipe)]
    with (
        Kept.hold(work, out, members, keep=True, anew=anew) as kept,
        files.replaced_folder(out, read=read, keep_others=True) as folder,
    ):
        _warn_of_dropped(out, {each.name for each in trained(out)})
        bench = Bench(groups, kept)
        with contextlib.closing(spread(bench, workers, form, splits)) as ready:
            _train(bench, ready, folder / "students", out.name)
        files.require_unchanged(read)
        return evaluate(
            splits=splits, teachers=measured,
            ensemble=list(soft.teachers), rule=soft.rule, weights=soft.weights, students=trained(folder / "students"),
            study=out.name, work=work, plots_out=folder / "plots", device=device,
        )  # fmt: skip


def _cache(teacher: Place) -> Place:
    """The folder of a teacher's cache."""
    return teacher.parent.parent / commands.CACHES / teacher.name


def _warn_of_dropped(out: Place, names: set[str]) -> None:
    """Warn about students of the former sweep in this folder that are not among these runs: they are removed."""
    former = files.current(out) / "students"
    dropped = sorted(({path.name for path in former.iterdir()} if former.is_dir() else set()) - names)
    if dropped:
        shown = ", ".join(dropped[:3]) + (", …" if len(dropped) > 3 else "")
        _log.warning("%s: former students that are not in this sweep are removed, %d of them: %s", out, len(dropped), shown)


def _only_ensemble(plans: Mapping[str, Plan]) -> Soft:
    """The soft targets of all plans; raises InputError unless all have the same teachers, combined in the same way."""
    (first, plan), *others = plans.items()
    for name, other in others:
        for what in ("teachers", "rule", "weights"):
            expected, found = getattr(plan.soft, what), getattr(other.soft, what)
            if expected != found:
                fix = "Sweep students of other teachers apart."
                wanted = f"{expected} as of student {first}"
                raise InputError(f"student {name}, {what}", expected=wanted, found=str(found), fix=fix)
    return plan.soft


def _train(bench: Bench, ready: Iterable[Task], folder: Path, study: str) -> None:
    """Do the tasks in the order in which they are ready, and write the students of a group when all of them are there."""
    trained: dict[int, dict[tuple[int, ...], list[Student]]] = {}
    with runtime.progress((), "sweep", total=len(bench.tasks), unit="stacks") as steps:
        for task in ready:
            group, found = bench.groups[task.group], trained.setdefault(task.group, {})
            found[task.seeds] = bench.students(task)
            steps.update()
            if len(found) == len(group.stacks):
                group.write(folder, [student for seeds in group.stacks for student in found[seeds]], study)
                del trained[task.group]
    bench.release()
