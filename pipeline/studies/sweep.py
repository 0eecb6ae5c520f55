"""Sweep: students × temperatures × alphas × seeds from the same caches, in one process, trained and then measured.

Students of one architecture and one seed are trained together, as a stack that shares every batch.
"""

import logging
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import torch

from pipeline.base import commands, files, runtime
from pipeline.base.errors import InputError
from pipeline.models.build import parse_model
from pipeline.results.evaluate import Evaluated, Trained, evaluate, require_comparable
from pipeline.studies.groups import Group, Plan, groups_of, key, run_of
from pipeline.training.lesson import Ground, Soft, Student, require_seeds
from pipeline.training.objective import HARD, LossWeights
from pipeline.training.resume import Kept

_log = logging.getLogger(__name__)


def sweep(
    *,
    plans: Mapping[str, Plan],
    weighings: Sequence[LossWeights],
    baseline: bool,
    together: int,
    teachers: Mapping[str, Path],
    splits: Path,
    work: Path,
    out: Path,
    device: torch.device,
    anew: bool = False,
) -> Evaluated:
    """Train every plan at every weighing, and its baseline, and measure all: students, metrics and plots below `out`.

    plans: by student name. `students` has a folder <student>-<key> for each, as `distill` writes it. baseline: whether one
    is trained for each plan, from the labels of the training split; weighings may then be empty. metrics and plots are those
    of `evaluate`. The three are replaced together; whatever else is in `out` stays. together: how many nets of one seed may
    share each step. teachers: their folders, by the names under which the plans have their caches. A sweep that was killed
    goes on from what it kept in `work`, and ends with the same bits. A student that was trained before by the same settings
    is not trained again, unless it is to be done anew; one that diverges leaves the others as they are.
    Raises what `distill` and `evaluate` raise.
    """
    if together < 1:
        raise InputError("together", expected="1 or more", found=str(together), fix="Correct the setting.")
    if not plans or not (weighings or baseline):
        found = f"{len(plans)} students, {len(weighings)} settings, no baseline"
        raise InputError("sweep", expected="students, temperatures and alphas", found=found, fix="Correct the settings.")
    for plan in plans.values():
        require_seeds(plan.seeds)
    soft = _only_ensemble(plans)
    every = (HARD, *weighings) if baseline else tuple(weighings)
    if len(set(every)) < len(every):
        found = ", ".join(map(key, every))
        expected = "each temperature and alpha once; alpha 0 is the baseline"
        raise InputError("sweep", expected=expected, found=found, fix="Correct the settings.")
    ground = Ground.open(splits, ("transfer", "train", "valid"), work, device)

    def trained(students: Path) -> list[Trained]:
        found = []
        for name, each in [(name, each) for name in plans for each in every]:
            run, temperature = run_of(name, each), None if each == HARD else each.temperature
            found.append(Trained(run, name, temperature, students / run, commands.sweep(out)))
        return found

    require_comparable(list(teachers), list(soft.teachers), trained(out), ground.splits["valid"])
    groups = list(groups_of(ground, plans, weighings, baseline, together))
    members = [member for group in groups for member in group.members]
    read = [each for group in groups for each in group.lesson.read(parse_model(group.plan.model), group.plan.recipe)]
    with (
        Kept.hold(work, out, members, keep=True, anew=anew) as kept,
        files.replaced_folder(out, read=read, keep_others=True) as folder,
    ):
        _tell_of_dropped(out, {each.name for each in trained(out)})
        _train(groups, kept, folder / "students", out.name)
        files.require_unchanged(read)
        return evaluate(
            splits=splits, teachers={name: (path, soft.teachers[name]) for name, path in teachers.items()},
            ensemble=list(soft.teachers), rule=soft.rule, weights=soft.weights, students=trained(folder / "students"),
            study=out.name, work=work, metrics_out=folder / "metrics", plots_out=folder / "plots", device=device,
        )  # fmt: skip


def _tell_of_dropped(out: Path, names: set[str]) -> None:
    """Say which students of the sweep before are not among these runs, and go when this one takes its place."""
    dropped = sorted({path.name for path in out.glob("students/*")} - names)
    if dropped:
        shown = ", ".join(dropped[:3]) + (", …" if len(dropped) > 3 else "")
        _log.warning("%s: students that are not of this sweep go, %d of them: %s", out, len(dropped), shown)


def _only_ensemble(plans: Mapping[str, Plan]) -> Soft:
    """The teachers of all plans; raises InputError unless they are the same ones, combined in the same way."""
    (first, plan), *others = plans.items()
    for name, other in others:
        for what in ("teachers", "rule", "weights"):
            expected, found = getattr(plan.soft, what), getattr(other.soft, what)
            if expected != found:
                fix = "Sweep students of other teachers apart."
                wanted = f"{expected} as of student {first}"
                raise InputError(f"student {name}, {what}", expected=wanted, found=str(found), fix=fix)
    return plan.soft


def _train(groups: Sequence[Group], kept: Kept, folder: Path, study: str) -> None:
    """Train the groups one after the other; those that learn from the same rows follow each other, and share them."""
    steps = runtime.progress((), "sweep", total=sum(len(group.plan.seeds) for group in groups), unit="stacks")
    for _, sharing in groupby(groups, key=lambda group: id(group.lesson)):
        for group in sharing:
            students: dict[LossWeights, dict[int, Student]] = {each: {} for each in group.weighings}
            for seed in group.plan.seeds:
                for each, student in group.train(seed, kept).items():
                    students[each][seed] = student
                steps.update()
            for each in group.weighings:
                run, plan = run_of(group.name, each), group.plan
                files.make_folder(folder / run)
                model = parse_model(plan.model)
                group.lesson.write(folder / run, model, plan.recipe, each, students[each], name=f"{study}/{run}")
        group.lesson.examples.release()
    steps.close()
