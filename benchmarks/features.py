"""Features on CIFAR-10: a student's epoch with feature losses against that without, capture against the bare forward passes."""

import argparse
import itertools
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.images import prepare
from benchmarks.measure import CPU, folder_for_data, in_turns, machine, median, ratio, show, write_teacher
from pipeline.base import runtime
from pipeline.cache.capture import capture
from pipeline.cache.settings import Keep
from pipeline.data.settings import Views
from pipeline.data.splits import open_splits
from pipeline.models.build import build, parse_model, placed
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.predict import predict
from pipeline.training.features import FeatureLoss
from pipeline.training.fit import Validation, _Training
from pipeline.training.learner import Learner
from pipeline.training.lesson import Ground, Lesson, Soft
from pipeline.training.losses import SoftLoss
from pipeline.training.objective import LossWeights, Objective
from pipeline.training.recipe import Recipe

BATCH = 128
STUDENT, TEACHER = "cnn(channels=[16, 32, 64])", "resnet(depth=8)"
CAPTURED = ("layer3 | pool", "layer3 | attention")
LOSSES = (
    "hint(teacher=layer3 | pool, student=layer3 | pool, weight=100)",
    "sp(teacher=layer3 | pool, student=layer3 | pool, weight=3000)",
)
RECIPE = Recipe.parse(optimizer="sgd(lr=0.05, momentum=0.9)", schedule="constant", epochs=10**6, batch_size=BATCH)


# ---------------------------------------------------------------- capture


def run_capture(folder: Path, features: tuple[str, ...]) -> None:
    """A capture from nothing."""
    for made in ("work", "caches"):
        shutil.rmtree(folder / made, ignore_errors=True)
    capture(
        teacher=folder / "teachers/a", splits=folder / "transfer", views=Views(),
        keep=Keep(dtype="float16", features=features), work=folder / "work", out=folder / "caches/a",
        provenance=folder / "provenance.json", device=CPU,
    )  # fmt: skip


def forward(folder: Path) -> Callable[[], None]:
    """The forward passes alone, of pixels that are in memory already."""
    checkpoint, pixels = Checkpoint.teacher(folder / "teachers/a"), []
    for split in open_splits(folder / "transfer", ("transfer", "valid", "test")).values():
        pixels.append(torch.from_numpy(np.concatenate([split.read(span) for span in range(len(split.spans()))])))

    def run() -> None:
        net = checkpoint.load(checkpoint.nets[0], CPU)
        for each in pixels:
            predict(net, each)

    return run


def capturing(folder: Path, times: int) -> None:
    """It ends with a cache that has the features."""
    ways = {
        "forward": forward(folder), "logits": partial(run_capture, folder, ()),
        "features": partial(run_capture, folder, CAPTURED),
    }  # fmt: skip
    seconds = in_turns(ways, times)
    for name, title, bar in (("logits", "logits alone", None), ("features", "two features beside logits", 1.1)):
        found = ratio(seconds[name], seconds["forward"])
        detail = f"{median(seconds[name]):.1f} against {median(seconds['forward']):.1f} s, {TEACHER}"
        holds = found <= bar if bar else None
        show(f"capture of {title} / forward passes", found, f"≤ {bar}" if bar else "", holds, detail)


# ---------------------------------------------------------------- training


def training_of(folder: Path, losses: tuple[str, ...]) -> _Training:
    """A student of soft targets and labels, and of these feature losses."""
    weighting = LossWeights(4.0, 0.9, features=bool(losses))
    soft = Soft(
        {"a": folder / "caches/a"}, "probabilities", SoftLoss.parse("kl"), features=tuple(map(FeatureLoss.parse, losses))
    )
    ground = Ground.open(folder / "transfer", ("transfer", "train", "valid"), folder / "work", CPU)
    lesson = Lesson.prepare(ground, views=Views(), rows="all", soft=soft, weightings=[weighting], correct=(), recipe=RECIPE)
    net = placed(build(parse_model(STUDENT), lesson.source.inputs, len(lesson.source.classes), seed=0), CPU)
    guidance = lesson._guidance(net, weighting, 0)
    objective = Objective.of([weighting], lesson.labels, soft.loss, lesson.signal, guidance)
    learner = Learner(net, guidance.features, [guidance]) if guidance else Learner(net)
    return _Training(learner, lesson.examples, objective, RECIPE, Validation.of(ground.splits["valid"], CPU, 10**9), 0)


def tenths(training: _Training) -> Callable[[], None]:
    """Each call is the next tenth of an epoch."""
    bar, part = runtime.progress((), "epoch"), max(training.steps // 10, 1)
    batches = itertools.chain.from_iterable(training.examples.epoch(0, number, BATCH) for number in itertools.count())
    training.learner.train()

    def run() -> None:
        training.learn(itertools.islice(batches, part), bar)

    return run


def learning(folder: Path, times: int) -> None:
    """An epoch of each, a tenth at a time, so that noise hits all."""
    given = {"soft targets": (), "hint": LOSSES[:1], "relation": LOSSES[1:], "both": LOSSES}
    seconds = in_turns({name: tenths(training_of(folder, losses)) for name, losses in given.items()}, 10 * times)
    for name, bar in (("hint", None), ("relation", None), ("both", 1.15)):
        found = ratio(seconds[name], seconds["soft targets"])
        detail = f"{10 * median(seconds[name]):.2f} against {10 * median(seconds['soft targets']):.2f} s, {STUDENT}"
        title = "one hint and one relation" if name == "both" else f"one {name}"
        show(
            f"epoch with {title} / with soft targets alone",
            found,
            f"≤ {bar}" if bar else "",
            found <= bar if bar else None,
            detail,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cifar", type=Path, help="Folder with cifar10-train.parquet and cifar10-test.parquet.")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--rows", type=int, default=10_000)
    given = parser.parse_args()
    runtime.prepare("cpu")
    torch.set_num_threads(runtime.cores())
    root = folder_for_data()
    print(f"features, {given.rows:,} {'rows of CIFAR-10' if given.cifar else 'synthetic JPEGs'}: {machine()}")
    try:
        prepare(root, given.cifar, given.rows)
        write_teacher(root / "teachers/a", TEACHER, root / "transfer")
        capturing(root, given.times)
        learning(root, given.times)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
