"""What the benchmarks share: timing in turns, data to run on, and one line per figure."""

import argparse
import io
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pipeline.base import runtime
from pipeline.data.inputs.image import Images
from pipeline.data.splitfile import Rows, write_split
from pipeline.data.splits import bind_splits, open_splits, span_rows
from pipeline.models.build import build, parse_model
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.modelfile import Data, Net, Shown
from pipeline.models.training import Training

CPU = torch.device("cpu")
RECIPE = Training(optimizer="sgd(lr=0.1)", schedule="constant()", epochs=1, batch_size=64)


def options(description: str | None, times: int) -> argparse.ArgumentParser:
    """What every benchmark that can use a GPU takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--times", type=int, default=times, help="Rounds.")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N.")
    return parser


def machine(device: torch.device = CPU) -> str:
    """One line that says where the figures come from."""
    card = f"{torch.cuda.get_device_name(device)}, " if device.type == "cuda" else ""
    processor = platform.processor() or platform.machine()
    return f"{card}{runtime.cores()} cores, {processor}, torch {torch.__version__}, {platform.system()}"


def settle() -> None:
    """Wait until a GPU has done what it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def in_turns(
    ways: Mapping[str, Callable[[], object]], times: int = 5, warm: int = 1, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each way, `times` rounds of all of them in turn, after `warm` rounds that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(-warm, times):
        for name, way in ways.items():
            settle()
            start = clock()
            way()
            settle()
            if turn >= 0:
                seconds[name].append(clock() - start)
    return seconds


def ratio(above: list[float], below: list[float]) -> float:
    """Median over the rounds of one way's seconds to another's, each round by itself: noise hits both."""
    return statistics.median(one / other for one, other in zip(above, below, strict=True))


def show(
    what: str, value: float, bar: str = "", holds: bool | None = None, detail: str = "", *, unit: str = "×", form: str = ".2f"
) -> None:
    """A figure with the bar it is held against; without one it is a report."""
    verdict = f"bar {bar:8} {'holds' if holds else 'MISSED'}" if bar else f"{'report':18}"
    print(f"{what:62} {value:8{form}}{unit or ' '}  {verdict}  {detail}", flush=True)


def median(seconds: list[float]) -> float:
    return statistics.median(seconds)


def images(count: int, size: int) -> list[bytes]:
    """PNG files of noise; 256 different ones, again and again."""
    generator = np.random.default_rng(0)
    encoded = []
    for _ in range(min(count, 256)):
        held = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (size, size), dtype=np.uint8)).save(held, format="PNG")
        encoded.append(held.getvalue())
    return [encoded[row % len(encoded)] for row in range(count)]


def write_splits(folder: Path, rows: int, *, classes: int, size: int) -> None:
    """A transfer set of `rows` synthetic rows, and valid and test splits of a few."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in {"train": rows, "valid": 64, "test": 64}.items():
        inputs = Images("L", (1, size, size))
        made = Rows.of([f"{name}-{row}" for row in range(count)], images(count, size), np.arange(count) % classes)
        write_split(
            folder / f"{name}.parquet", [made], role=name, classes=[str(label) for label in range(classes)], inputs=inputs,
            span=span_rows(classes, inputs.row_bytes(0)),
        )  # fmt: skip
    bind_splits(folder, ["test", "train", "valid"])


def write_teacher(folder: Path, model: str, splits: Path) -> None:
    """A teacher with its initial weights: what it says does not matter here, how long it takes does."""
    spec, (split, valid) = parse_model(model), open_splits(splits, ["train", "valid"]).values()
    folder.mkdir(parents=True, exist_ok=True)
    net = build(spec, split.inputs, len(split.classes))
    history = [{"seed": 0, "epoch": 1, "lr": 0.1, "train_loss": 1.0, "valid_accuracy": 0.1, "valid_nll": 3.0}]
    Checkpoint.write(
        folder, kind="teacher", name=folder.name, model=spec, split=split, nets={Net(0, None, 1): net},
        history=history, recipe=RECIPE, data=Data.of(split, valid), views=Shown("none()", 0, ("version 1",), None),
    )  # fmt: skip


def folder_for_data() -> Path:
    """Where benchmarks may write gigabytes: SOFTCACHE_BENCH, else below the system's temporary folder."""
    root = os.environ.get("SOFTCACHE_BENCH")
    return Path(tempfile.mkdtemp(prefix="softcache-bench-", dir=root))
