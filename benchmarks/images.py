"""Colour JPEGs: training that decodes and augments against the step alone, capture against decoding and forward passes."""

import argparse
import io
import itertools
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.measure import CPU, folder_for_data, in_turns, machine, median, ratio, show, write_teacher
from pipeline.base import runtime
from pipeline.cache.capture import capture
from pipeline.cache.settings import Keep
from pipeline.data import ingest
from pipeline.data.inputs.image import Images
from pipeline.data.settings import Views
from pipeline.data.splitfile import Rows, write_split
from pipeline.data.splits import bind_splits, open_splits, span_rows
from pipeline.data.views import Policy, open_views
from pipeline.models.build import build, parse_model, placed
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.predict import HostBuffer, tiles
from pipeline.training.course import START
from pipeline.training.examples import Examples
from pipeline.training.fit import Validation, _Training
from pipeline.training.inputs import inputs_of
from pipeline.training.objective import HARD, Objective
from pipeline.training.recipe import Recipe
from pipeline.training.signal import NoTeacher

BATCH = 128
STUDENT, TEACHER = "cnn(channels=[32, 64])", "cnn(channels=[32, 64, 64])"
VIEWS = "shift(4) | flip()"
STREAMED = 120_000_000  # bytes of memory: less than the pixels of CIFAR-10 take


def prepare(folder: Path, cifar: Path | None, rows: int) -> None:
    """Splits of CIFAR-10, or of noise in JPEGs; and a teacher with its initial weights."""
    if cifar:
        train, test = (str(cifar / f"cifar10-{split}.parquet") for split in ("train", "test"))
        ingest.ingest(train=train, valid=64, test=test, transfer_set=(), damaged="fail", seed=0, out=folder / "transfer")
    else:
        (folder / "transfer").mkdir(parents=True)
        inputs = Images("RGB", (3, 32, 32))
        for name, count in {"train": rows, "valid": 64, "test": 64}.items():
            encoded = jpegs(min(count, 512))
            held = Rows.of(
                [f"{name}-{row}" for row in range(count)], [encoded[row % len(encoded)] for row in range(count)],
                np.arange(count) % 10,
            )  # fmt: skip
            write_split(
                folder / f"transfer/{name}.parquet", [held], role=name, classes=[str(label) for label in range(10)],
                inputs=inputs, span=span_rows(10, inputs.row_bytes(0)),
            )  # fmt: skip
        bind_splits(folder / "transfer", ["test", "train", "valid"])
    write_teacher(folder / "teacher", TEACHER, folder / "transfer")


def jpegs(count: int) -> list[bytes]:
    """Smooth noise, which takes about as many bytes as a photograph of this size."""
    generator, encoded = np.random.default_rng(0), []
    for _ in range(count):
        held = io.BytesIO()
        small = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        small.resize((32, 32), Image.Resampling.BICUBIC).save(held, "JPEG", quality=90)
        encoded.append(held.getvalue())
    return encoded


# ---------------------------------------------------------------- training


def training_of(folder: Path, memory: int) -> _Training:
    """A student of labels, whose rows are decoded and augmented as `softcache teach` does it: new views in every epoch."""
    train, valid = open_splits(folder / "transfer", ("train", "valid")).values()
    net = placed(build(parse_model(STUDENT), train.inputs, 10), CPU)
    recipe = Recipe.parse(optimizer="sgd(lr=0.05, momentum=0.9)", schedule="constant", epochs=10**6, batch_size=BATCH)
    policy = Policy.parse(VIEWS, 0)
    examples = Examples(inputs_of(train, policy, net), policy, None, NoTeacher(), memory, CPU)
    objective = Objective.of([HARD], torch.from_numpy(train.labels()))
    return _Training(net, examples, objective, recipe, Validation.of(valid, CPU, 10**9), 0)


def part_of_an_epoch(training: _Training, steps: int) -> Callable[[], None]:
    """Each call takes the next steps."""
    batches = itertools.chain.from_iterable(training.examples.epoch(0, number, BATCH) for number in itertools.count())
    training.model.train()

    def run() -> None:
        for batch in itertools.islice(batches, steps):
            training._step(batch, START, len(batch.rows))

    return run


def steps_alone(training: _Training, steps: int) -> Callable[[], None]:
    """As many steps on batches that are made beforehand."""
    made = list(itertools.islice(training.examples.epoch(0, 0, BATCH), 50))
    training.model.train()

    def run() -> None:
        for batch in itertools.islice(itertools.cycle(made), steps):
            training._step(batch, START, len(batch.rows))

    return run


def training(folder: Path, times: int) -> None:
    whole, streamed = training_of(folder, 4 * 10**9), training_of(folder, STREAMED)
    assert whole.examples.whole
    assert not streamed.examples.whole
    steps = whole.steps // 3
    ways = {
        "alone": steps_alone(whole, steps), "in memory": part_of_an_epoch(whole, steps),
        "streamed": part_of_an_epoch(streamed, steps),
    }  # fmt: skip
    seconds = in_turns(ways, times)
    for name, bar in (("in memory", 1.1), ("streamed", 1.25)):
        found = ratio(seconds[name], seconds["alone"])
        detail = f"{median(seconds[name]) / steps * 1e3:.2f} against {median(seconds['alone']) / steps * 1e3:.2f} ms a step"
        title = f"decode + {VIEWS} + step / step alone, {name}"
        show(title, found, f"≤ {bar}", found <= bar, detail)


# ---------------------------------------------------------------- capture


def run_capture(folder: Path, views: Views, dtype: str) -> int:
    """A capture from nothing; returns the bytes of its spans."""
    for made in ("work", "cache"):
        shutil.rmtree(folder / made, ignore_errors=True)
    done = capture(
        teacher=folder / "teacher", splits=folder / "transfer", views=views, keep=Keep(dtype=dtype), work=folder / "work",
        out=folder / "cache", provenance=folder / "provenance.json", device=CPU,
    )  # fmt: skip
    return sum(record.size_bytes for record in done.manifest.records)


def forward(folder: Path, views: Views) -> None:
    """The forward passes alone, of pixels and views that are there already: those of one span, again and again."""
    opened = open_splits(folder / "transfer", ("transfer", "valid", "test"))
    checkpoint = Checkpoint.teacher(folder / "teacher")
    net = checkpoint.load(checkpoint.nets[0], CPU)
    _, count = open_views(views)
    held = torch.from_numpy(opened["transfer"].read(0)).contiguous()
    for split, found in opened.items():
        for start, stop in found.spans():
            for _ in range(count if split == "transfer" else 1):
                buffer = HostBuffer(stop - start)
                for first, logits in tiles(net, stop - start, held.__getitem__, tile=512):
                    buffer.add(first, logits)


def decoding(folder: Path) -> None:
    """The decoding alone."""
    for split in open_splits(folder / "transfer", ("transfer", "valid", "test")).values():
        for span in range(len(split.span_digests)):
            split.read(span)


def capturing(folder: Path, times: int) -> None:
    ways = {
        "capture": lambda: run_capture(folder, Views(), "float32"), "forward": lambda: forward(folder, Views()),
        "decode": lambda: decoding(folder),
    }  # fmt: skip
    seconds = in_turns(ways, times)
    slower = max(("forward", "decode"), key=lambda name: median(seconds[name]))
    found = ratio(seconds["capture"], seconds[slower])
    each = ", ".join(f"{name} {median(taken):.2f} s" for name, taken in seconds.items())
    show(f"capture / the slower of decoding and forward passes ({slower})", found, "≤ 1.05", found <= 1.05, each)


def every_view(folder: Path, rows: int, times: int) -> None:
    """All 162 views of some rows, in float16; the size is that of as many rows."""
    views = Views(VIEWS, "all")
    sizes: list[int] = []
    ways = {
        "capture": lambda: sizes.append(run_capture(folder, views, "float16")),
        "forward": partial(forward, folder, views),
    }
    seconds = in_turns(ways, times, warm=0)
    found = ratio(seconds["capture"], seconds["forward"])
    detail = f"{median(seconds['capture']):.1f} against {median(seconds['forward']):.1f} s, {rows:,} rows × 162 views"
    show("capture of all views / forward passes", found, "≤ 1.05", found <= 1.05, detail)
    opened = open_splits(folder / "transfer", ("transfer", "valid", "test"))
    bare = sum(split.rows * (162 if name == "transfer" else 1) for name, split in opened.items()) * 10 * 2
    show("its size / logits × 2 bytes", sizes[-1] / bare, "≤ 1.05", sizes[-1] / bare <= 1.05, f"{sizes[-1] / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cifar", type=Path, help="Folder with cifar10-train.parquet and cifar10-test.parquet.")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--views-rows", type=int, default=5_000, help="Rows of the cache of all views.")
    given = parser.parse_args()
    runtime.prepare("cpu")
    torch.set_num_threads(runtime.cores())
    root = folder_for_data()
    print(f"images, {'CIFAR-10' if given.cifar else '50,000 synthetic JPEGs'}: {machine()}")
    try:
        prepare(root / "whole", given.cifar, 50_000)
        training(root / "whole", given.times)
        capturing(root / "whole", given.times)
        prepare(root / "views", None, given.views_rows)
        every_view(root / "views", given.views_rows, 2)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
