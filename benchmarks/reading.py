"""Epochs over a cache, in memory and streamed, against what a user would write instead; and verify against sha256."""

import argparse
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import zarr

from benchmarks.capture import run
from benchmarks.measure import CPU, folder_for_data, in_turns, machine, median, ratio, show, write_splits, write_teacher
from pipeline.base import runtime
from pipeline.cache.reader import Cache
from pipeline.cache.verify import verify
from pipeline.training.examples import Examples
from pipeline.training.targets import Targets

BATCH = 256


def examples(path: Path, memory_bytes: int) -> Examples:
    """Target logits alone, of one teacher, opened anew: the first epoch compares every sha256."""
    targets = Targets.of({"teacher": Cache.open(path)}, temperatures=[1.0], rule="logits")
    return Examples.of_targets(targets, 1, memory_bytes, CPU)


def drain(batches: Iterator) -> int:
    """Take every batch; returns the rows seen."""
    return sum(len(batch.targets) for batch in batches)


def numpy_epoch(logits: np.ndarray, epoch: int) -> int:
    """Fancy indexing of a shuffled order, batch by batch, as tensors that a training step takes: which rows, and logits."""
    order = np.random.default_rng(epoch).permutation(len(logits))
    seen = 0
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        seen += len(torch.from_numpy(rows)) and len(torch.from_numpy(logits[rows]))
    return seen


def in_memory(path: Path, title: str, times: int) -> None:
    held = examples(path, 10**12)
    drain(held.epoch(0, 0, BATCH))
    logits = Cache.open(path).read("transfer")[0].astype(Cache.open(path).layout.dtype)
    rounds = iter(range(10**6))
    seconds = in_turns(
        {"ours": lambda: drain(held.epoch(0, next(rounds), BATCH)), "numpy": lambda: numpy_epoch(logits, next(rounds))}, times
    )
    found = ratio(seconds["numpy"], seconds["ours"])
    detail = f"{median(seconds['ours']) * 1e3:.0f} ms against {median(seconds['numpy']) * 1e3:.0f} ms an epoch"
    show(f"speed in memory / numpy fancy indexing, {title}", found, "≥ 0.9", found >= 0.9, detail)


def streamed(path: Path, times: int, samples: int) -> None:
    cache = Cache.open(path)
    array = zarr.open_array(path / "logits.zarr/transfer", mode="r", zarr_format=3)
    rows, span = array.shape[1], cache.layout.span
    memory_bytes = rows * cache.classes * 2 // 2  # half of what all would take
    kept = examples(path, memory_bytes)
    rounds = iter(range(10**6))
    drain(kept.epoch(0, next(rounds), BATCH))

    def in_order() -> None:
        for start in range(0, rows, span):
            array[0, start : start + span]

    seconds = in_turns(
        {
            "first": lambda: drain(examples(path, memory_bytes).epoch(0, next(rounds), BATCH)),
            "later": lambda: drain(kept.epoch(0, next(rounds), BATCH)),
            "zarr": in_order,
        },
        times,
    )
    size = rows * cache.classes * 2 / 1e6
    window = f"windows of {kept.window_spans} of {-(-rows // span)} spans"
    first, later, plain = (median(seconds[name]) for name in ("first", "later", "zarr"))
    found = ratio(seconds["zarr"], seconds["later"])
    detail = f"{size / later:,.0f} against {size / plain:,.0f} MB/s; {window}"
    show("speed streamed / plain zarr in order", found, "≥ 0.8", found >= 0.8, detail)
    found = 10 * plain / (first + 9 * later)
    detail = f"the first, which compares every sha256: {size / first:,.0f} MB/s"
    show("the same over 10 epochs", found, "≥ 0.8", found >= 0.8, detail)
    ours = median(seconds["later"]) / rows
    generator = np.random.default_rng(0)

    def gather() -> None:
        for _ in range(samples // BATCH):
            array.oindex[0, np.sort(generator.choice(rows, BATCH, replace=False))]

    gathered = median(in_turns({"gather": gather}, 3)["gather"]) / (samples // BATCH * BATCH)
    found = gathered / ours
    show(
        "speed streamed / random rows through zarr",
        found,
        "≥ 50",
        found >= 50,
        f"{ours * 1e6:.1f} against {gathered * 1e6:,.0f} µs a row",
    )
    files = path.parent / "rows"
    files.mkdir()
    block = torch.from_numpy(array[0, :samples])
    for row in range(samples):
        torch.save(block[row].clone(), files / f"{row}.pt")

    def load() -> None:
        for row in generator.permutation(samples):
            torch.load(files / f"{row}.pt")

    loaded = median(in_turns({"load": load}, 3)["load"]) / samples
    found = loaded / ours
    show(
        "speed streamed / torch.load of a file per row",
        found,
        "≥ 50",
        found >= 50,
        f"{ours * 1e6:.1f} against {loaded * 1e6:,.0f} µs a row",
    )


def verifying(path: Path, times: int) -> None:
    files = [file for file in path.rglob("*") if file.is_file()]

    def sha256() -> None:
        for file in files:
            with file.open("rb") as opened:
                hashlib.file_digest(opened, "sha256").hexdigest()

    seconds = in_turns({"verify": lambda: verify(path, work=path), "sha256": sha256}, times)
    found = ratio(seconds["sha256"], seconds["verify"])
    size = sum(file.stat().st_size for file in files) / 1e6
    detail = f"{size / median(seconds['verify']):,.0f} against {size / median(seconds['sha256']):,.0f} MB/s"
    show("speed of verify / sha256 alone, one thread", found, "≥ 0.5", found >= 0.5, detail)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=7)
    given = parser.parse_args()
    runtime.prepare("cpu")
    print(f"reading: {machine()}")
    root = folder_for_data()
    try:
        for classes, rows, dtype in ((10, 60_000, "float32"), (1000, 200_000, "float16")):
            folder = root / str(classes)
            write_splits(folder / "transfer", rows, classes=classes, size=4)
            write_teacher(folder / "teacher", "mlp(hidden=[16])", folder / "transfer")
            run(folder, dtype)
            in_memory(folder / "cache", f"{rows:,} × {classes:,} {dtype}", given.times)
        streamed(folder / "cache", given.times, samples=2048)
        verifying(folder / "cache", given.times)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
