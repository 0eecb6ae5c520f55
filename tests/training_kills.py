"""Trainings that are killed with SIGKILL, and run again: run by test_resume.py as a process of its own.

python training_kills.py <folder> <first> <count>     kills number first, first + 1, …

Each number trains by teach, distill or sweep, in a fork of this process, and is killed at a random moment, up to twice,
before it may end. Prints a line for every one that did not end with the bytes of an uninterrupted one; then the number of
kills, and how many of the trainings that were killed had kept something to go on from.
"""

import contextlib
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from kills import forked

from conftest import tree
from pipeline.data.settings import Views
from pipeline.studies.groups import Plan
from pipeline.studies.sweep import sweep
from pipeline.training.course import Course
from pipeline.training.distill import distill
from pipeline.training.lesson import Soft
from pipeline.training.losses import SoftLoss
from pipeline.training.objective import LossWeights
from pipeline.training.recipe import Recipe
from pipeline.training.teach import teach

CPU = torch.device("cpu")
RECIPE = Recipe.parse(
    optimizer="adamw(lr=0.01, weight_decay=0.1, decay_biases=False)", schedule="one_cycle()", epochs=12, batch_size=4,
    keep="best", patience=9, max_norm=2.0, clip_grad=1.0, ema=0.8, draws=2, virtual_teacher="tf_kd(weight=0.2)",
)  # fmt: skip
MODEL, VIEWS = "mlp(hidden=[30], dropout=0.3)", Views("shift(1)", 3, 5)


def jobs(
    folder: Path, device: torch.device = CPU, model: str = MODEL, recipe: Recipe = RECIPE
) -> dict[str, Callable[[], object]]:
    """The three trainings, as they run on what `folder` holds."""
    given = {"splits": folder / "transfer", "work": folder / "work", "device": device}
    teachers, course = {name: folder / "caches" / name for name in "ab"}, Course.parse(alpha="linear", warmup=5)
    soft = Soft(teachers, "probabilities", SoftLoss.parse("kl"), course=course)
    student = {"model": model, "recipe": recipe, "views": VIEWS, "rows": "all", "soft": soft, "correct": (1,)}
    weightings = {"T2": LossWeights(2.0, 0.5), "T4": LossWeights(4.0, 0.9)}
    return {
        "teach": lambda: teach(model=model, recipe=recipe, policy="shift(1)", seed=1, out=folder / "out", **given),
        "distill": lambda: distill(weighting=weightings["T2"], seeds=(0, 1), out=folder / "out", **student, **given),
        "sweep": lambda: sweep(
            plans={"s": Plan(seeds=(0, 1), **student)}, weightings=list(weightings.values()), baseline=True, together=2,
            teachers={name: folder / "teachers" / name for name in "ab"}, out=folder / "out", **given
        ),
    }  # fmt: skip


def killed(job: Callable[[], object], after: float) -> bool:
    """Run in a fork and kill it `after` seconds; returns whether it was still at work."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        with contextlib.suppress(BaseException):
            job()
        os._exit(0)
    time.sleep(after)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def fresh(root: Path, name: str) -> Path:
    folder = root / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(root / "start", folder)
    return folder


def main(root: Path, first: int, count: int) -> None:
    name = f"kills-{first}"
    expected, seconds, kills, kept = {}, {}, 0, 0
    for what in ("teach", "distill", "sweep"):
        folder = fresh(root, name)
        started = time.monotonic()
        forked(jobs(folder)[what])
        seconds[what] = time.monotonic() - started
        expected[what] = tree(folder / "out")
    for number in range(first, first + count):
        what = ("teach", "distill", "sweep")[number % 3]
        folder, chance = fresh(root, name), random.Random(number)
        for _ in range(chance.choice((1, 2))):
            kills += killed(jobs(folder)[what], chance.uniform(0.1, 1.0) * seconds[what])
        kept += any(folder.glob("work/trainings/*/*.state"))
        if forked(jobs(folder)[what]) != 0:
            print(f"{what} {number}: the next run failed")
        elif tree(folder / "out") != expected[what]:
            print(f"{what} {number}: other bytes than without a kill")
        elif (any(folder.glob("work/trainings/*")) and what != "sweep") or any(folder.glob("**/.*partial")):
            print(f"{what} {number}: something was left behind")
    print(kills, kept)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
