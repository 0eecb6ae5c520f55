"""Trainings by several ranks: run by test_ranks.py as a process of its own.

python rank_trainings.py <folder> <ranks> [all]

The ranks are forked from this process, so that torch is imported once. `softcache distill s` is killed on a rank, while it
trains the second of two seeds, and runs again. With `all` the ranks train all lessons first, into <folder>/<ranks>; it is
`drops` then that is killed, it fails on a rank too, and a sweep is tried. Prints what came of it as JSON.
"""

import os

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import atexit
import contextlib
import json
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
import torch._dynamo  # DistributedDataParallel would import it in every rank

from pipeline.base import ranks, runtime
from pipeline.base.errors import InputError
from pipeline.data.settings import Views
from pipeline.training import fit
from pipeline.training.course import Course
from pipeline.training.curriculum import parse_curriculum
from pipeline.training.distill import distill
from pipeline.training.features import FeatureLoss
from pipeline.training.lesson import Soft
from pipeline.training.losses import SoftLoss
from pipeline.training.objective import HARD, LossWeights
from pipeline.training.recipe import Recipe
from pipeline.training.teach import teach

ROWS = 61
CNN, MLP = "cnn(channels=[6, 7])", "mlp(hidden=[7])"
VIEWS = Views("shift(1)", 3, 5)
STREAMED = 2.5e-6  # GB: half of the rows at a time
FEATURES = (
    "hint(teacher=layer1, student=layer1)",
    "fsp(teacher=[layer1, layer1], student=[layer1, layer1])",
    "sp(teacher='layer2 | pool', student='layer2', weight=30)",
    "rkd_angle(teacher='layer2 | pool', student='layer2')",
    "crd(teacher='layer2 | pool', student='layer2', width=4)",
)
PARAMS = """
views: {policy: shift(1), views: 3, view_seed: 5}
recipe: {optimizer: "adamw(lr=0.01)", epochs: 10, batch_size: 60, ema: 0.8, keep: best, patience: 9}
distill: {teachers: [a, b], alpha: 0.8}
students: {s: {model: "mlp(hidden=[7])", seeds: [0, 1]}, drops: {model: "mlp(hidden=[7], dropout=0.3)", seeds: [0, 1]}}
"""


def recipe(**changes: Any) -> Recipe:
    usual = {"optimizer": "sgd(lr=0.2, momentum=0.9)", "schedule": "constant", "epochs": 3, "batch_size": 12}
    return Recipe.parse(**(usual | changes))


def lessons(folder: Path, out: Path) -> dict[str, Callable[[], object]]:
    """What is trained, into folders of these names: each is a way in which ranks could differ from one process."""

    def student(
        name: str, how: Recipe, *, loss: str = "kl", model: str = MLP, views: Views = VIEWS, hard: bool = False,
        live: bool = False, features: tuple[str, ...] = (), rule: str = "logits", heat: str | None = None,
        seeds: tuple[int, ...] = (3,), rows: str = "all", correct: tuple[int, ...] = (),
    ) -> Callable[[], object]:  # fmt: skip
        names = {each: folder / ("teachers" if live else "caches") / each for each in ("c" if features else "ab")}
        learned = None if heat is None else parse_curriculum(heat)
        soft = Soft(
            names, rule, SoftLoss.parse(loss), None, live, Course.parse(), tuple(map(FeatureLoss.parse, features)), learned
        )
        weighting = HARD if hard else LossWeights(4.0, 0.8, features=bool(features))
        return lambda: distill(
            model=model, recipe=how, views=views, rows=rows, soft=None if hard else soft, weighting=weighting, correct=correct,
            seeds=seeds, splits=folder / "transfer", work=out / "work", out=out / name, device=torch.device("cpu"),
        )  # fmt: skip

    every = recipe(
        optimizer="adamw(lr=0.01, decay_biases=False)", epochs=9, keep="best", patience=3, max_norm=0.7, clip_grad=0.1, ema=0.8,
        draws=2, label_smoothing=0.1,
    )  # fmt: skip
    slow = "sgd(lr=0.01)"
    made = {
        "hundred": student("hundred", recipe(epochs=100, batch_size=ROWS), rule="probabilities"),
        "last": student("last", recipe(batch_size=ROWS - 1), model=CNN),  # the last batch leaves a rank without rows
        "streamed": student("streamed", recipe(memory=STREAMED, batch_size=7), seeds=(0, 1)),
        "mixed": student("mixed", recipe(memory=STREAMED, batch_size=7), views=Views("mixup(100)", 3, 5), hard=True),
        "every": student("every", every),
        "some": student("some", recipe(), rows="only([0, 2])", correct=(1,), model=CNN),
        "live": student("live", recipe(batch_size=ROWS - 1), live=True),
        "dist": student("dist", recipe(optimizer=slow, batch_size=ROWS - 1), loss="dist"),
        "mlkd": student("mlkd", recipe(optimizer=slow, draws=2), loss="mlkd"),
        "features": student("features", recipe(optimizer=slow, batch_size=ROWS - 1), model=CNN, features=FEATURES),
        "heat": student("heat", recipe(), heat="ctkd(epochs=2)"),
    }
    kept = recipe(optimizer="adamw(lr=0.01)", epochs=10, batch_size=60, ema=0.8, keep="best", patience=9)
    for name, model in (("s-T4", MLP), ("drops-T4", "mlp(hidden=[7], dropout=0.3)")):  # as PARAMS
        made[name] = student(name, kept, model=model, seeds=(0, 1), rule="probabilities")
    made["teach"] = lambda: teach(
        model=CNN, recipe=recipe(), policy="shift(1)", seed=1, splits=folder / "transfer", work=out / "work", out=out / "teach",
        device=torch.device("cpu"),
    )  # fmt: skip
    return made


def history(out: Path) -> list[dict[str, float]]:
    found: list[dict[str, float]] = pq.read_table(out / "history.parquet").to_pylist()
    return found


def train(folder: str, out: str) -> None:
    """What each rank does for all lessons."""
    with ranks.joined("cpu") as device:
        runtime.prepare(device, threads=1)
        fit.TILE = 2  # so that each rank has validation rows
        for lesson in lessons(Path(folder), Path(out)).values():
            lesson()


def command(folder: str, words: list[str], mishap: str) -> None:
    """What each rank does for a command; rank 1 meets with a mishap in the sixth epoch of the second seed, if any."""
    from stages.cli import main

    real = fit._Training.epoch

    def epoch(self: Any, bar: Any) -> None:
        if (self.seed, self.done) == (1, 5) and ranks.current().number == 1:
            if mishap == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise InputError("the sixth epoch", expected="nothing", found="a mishap", fix="Do nothing.")
        real(self, bar)

    fit.TILE = 2  # as above
    fit.SAVING = float("inf")  # keep every epoch
    if mishap:
        fit._Training.epoch = epoch  # type: ignore[method-assign]
    os.chdir(folder)
    main(words)


def launched(count: int, work: Callable[..., None], *given: Any) -> int:
    """Run in so many ranks, and end the others when one fails, as torchrun does; the exit code of the first that failed."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    children = [forked(number, count, port, work, *given) for number in range(count)]
    failed = 0
    while children:
        child, status = os.wait()
        children.remove(child)
        if not failed and (failed := os.waitstatus_to_exitcode(status)):
            for other in children:
                os.kill(other, signal.SIGTERM)
    return failed


def forked(number: int, count: int, port: int, work: Callable[..., None], *given: Any) -> int:
    """A rank, with the environment that torchrun gives it; its process id. This process has started no thread yet."""
    if child := os.fork():
        return child
    os.environ |= {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(count)}
    code = 1
    try:
        runtime.die_with_parent()
        work(*given)
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            atexit._run_exitfuncs()
        os._exit(code)


def told(path: Path, count: int, work: Callable[..., None], *given: Any) -> dict[str, Any]:
    """Run in so many ranks, and note what they print."""
    kept = [os.dup(number) for number in (1, 2)]
    with path.open("wb") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    try:
        code = launched(count, work, *given)
    finally:
        for number, held in zip((1, 2), kept, strict=True):
            os.dup2(held, number)
            os.close(held)
    return {"code": code, "said": path.read_text()}


def commanded(folder: Path, count: int, student: str, mishap: str) -> dict[str, Any]:
    """Run `softcache distill`: its exit code, what it says, how many states it leaves, and how it ended by times.csv."""
    out, before = folder / str(count), len(timed(folder))
    words = ["distill", student, "-T", "4", "--data", str(folder), "--work", str(out / "work"), "--device", "cpu"]
    found = told(out / "said", count, command, str(folder), words, mishap)
    return found | {"states": len(list(out.glob("work/trainings/*/*.state"))), "ended": timed(folder)[before:]}


def timed(folder: Path) -> list[str]:
    """How the commands in times.csv ended."""
    path = folder / "times.csv"
    return [line.split(",")[5] for line in path.read_text().splitlines()[1:]] if path.exists() else []


def main(folder: Path, count: int, whole: bool) -> None:
    out = folder / str(count)
    out.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text(PARAMS)
    found: dict[str, Any] = {}
    if whole:
        found["lessons"] = {"code": launched(count, train, str(folder), str(out))}
    for run, mishap in (("killed", "killed"), ("resumed", ""), *([("fails", "fails")] if whole else [])):
        found[run] = commanded(folder, count, "drops" if whole else "s", mishap)
    if whole:
        found["sweep"] = told(out / "said", count, command, str(folder), ["sweep", "s", "--temperatures", "4"], "")
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), bool(sys.argv[3:]))
