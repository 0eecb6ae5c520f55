"""Ingests that are killed with SIGKILL, and what is left behind: run by test_ingest.py as a process of its own.

python ingest_kills.py <folder> <first> <step>     at file operation first, first + step, …, and at as many random moments

Every ingest runs in a fork of this process. <folder> holds `source.parquet`, and in `start/transfer` the splits of another
seed, which the ingest replaces. Prints one line per kill after which a reader would find anything but the splits before or
after, or after which the next run gives other bytes or leaves something behind; then the number of kills.
"""

import json
import os
import random
import shutil
import sys
import time
from pathlib import Path

from kills import forked, operations
from training_kills import killed

from conftest import tree
from pipeline.base import files
from pipeline.data import buckets
from pipeline.data.ingest import ingest
from pipeline.data.splits import open_splits

NAMES = ("train", "valid", "test")


def run(folder: Path, seed: int = 1) -> None:
    """Through several buckets of each split, whose rows are written a few at a time."""
    buckets.HELD_BYTES, buckets.BUCKET_BYTES = 1000, (1000, 1000)
    ingest(
        train=str(folder.parent / "source.parquet"), valid=0.25, test=0.25, transfer_set=(), damaged="fail", seed=seed,
        out=folder / "transfer",
    )  # fmt: skip


def found(folder: Path) -> dict[str, str] | None:
    """What a reader finds: the sha256 of every file of splits that it can open and read; None if there is no folder.

    In a fork, so that this process starts no thread of Arrow's, which a fork would wait for.
    """
    listing = folder.with_name(f"{folder.name}.json")

    def look() -> None:
        held = None
        if (folder / "transfer").exists():
            for split in open_splits(folder / "transfer", NAMES).values():
                split.read_all()
            held = {path: files.sha256(data) for path, data in tree(folder / "transfer").items()}
        listing.write_text(json.dumps(held))

    return json.loads(listing.read_text()) if forked(look) == 0 else {"not to be read": ""}


def fresh(root: Path, name: str) -> Path:
    folder = root / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(root / "start", folder)
    return folder


def judge(folder: Path, before: dict[str, str] | None, after: dict[str, str] | None, what: str) -> None:
    """After a kill: a reader finds what was there or what was to be, and the next run ends as one that is not killed."""
    there = found(folder)
    if there not in (before, after) and not (there is None and (folder / ".transfer.former.partial").exists()):
        print(f"{what}: a reader finds {sorted(tree(folder))}")
    if forked(lambda: run(folder)) != 0:
        print(f"{what}: the next run failed")
    elif found(folder) != after or [path.name for path in folder.iterdir() if "lock" not in path.name] != ["transfer"]:
        print(f"{what}: the next run gave other bytes, or left {sorted(tree(folder))}")


def main(root: Path, first: int, step: int) -> None:
    name, moments = f"kills-{first}", random.Random(first)
    folder, count = fresh(root, name), root / f"{name}.count"
    before = found(folder)

    def counted() -> None:
        seen = operations(None)
        run(folder)
        count.write_text(str(len(seen)))

    forked(counted)
    started = time.monotonic()
    forked(lambda: run(folder))
    seconds, after, kills = time.monotonic() - started, found(folder), 0
    for number in range(first, int(count.read_text()), step):
        folder = fresh(root, name)
        kills += os.WIFSIGNALED(forked(lambda folder=folder, number=number: (operations(number), run(folder))))
        judge(folder, before, after, f"operation {number}")
        folder, moment = fresh(root, name), moments.uniform(0.1, 0.9) * seconds
        kills += killed(lambda folder=folder: run(folder), moment)
        judge(folder, before, after, f"after {moment:.2f} s")
    print(kills)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
