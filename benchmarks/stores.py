"""A cache in an object store against obstore's own puts and gets of the same bytes, and against computing it.

The store is a SeaweedFS on this machine, which takes its share of the same cores.
"""

import argparse
import shutil
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import numpy as np
import pytest

import servers  # of the tests
from benchmarks.capture import run_unwritten
from benchmarks.measure import CPU, folder_for_data, in_turns, machine, median, ratio, show, write_splits, write_teacher
from pipeline.base import runtime
from pipeline.base.places import ObjectPlace, Place
from pipeline.cache import capture
from pipeline.cache.identity import identity
from pipeline.cache.knowledge.knowledge import Knowledge
from pipeline.cache.layout import SPLITS
from pipeline.cache.manifest import Extent
from pipeline.cache.reader import Cache
from pipeline.cache.settings import Keep
from pipeline.cache.verify import verify
from pipeline.cache.writer import Work
from pipeline.data.settings import Views
from pipeline.data.splits import open_splits
from pipeline.data.views import open_views
from pipeline.models.checkpoint import Checkpoint
from pipeline.training.examples import READERS

CLASSES, SPAN = 2000, 8192  # 65.5 MB of float32
SPANS = 4
TEACHER = "mlp(hidden=[1200, 1200])"
_numbers = count()


def fresh() -> ObjectPlace:
    """A folder in the store that nobody has used."""
    return ObjectPlace(f"{servers.folder()}/{next(_numbers)}")


def write(folder: Path, out: Place, logits: np.ndarray) -> None:
    """Write a cache of logits that are there already, as a capture does, span after span."""
    opened, (policy, views) = open_splits(folder / "transfer", SPLITS), open_views(Views())
    knowledge = Knowledge.of_logits(CLASSES, "float32", opened["transfer"].span)
    extents = {name: Extent(split.rows, views, split.inputs_digest) for name, split in opened.items()}
    said = identity(Checkpoint.teacher(folder / "teacher"), opened["transfer"], policy, 512, knowledge)
    with Work.hold(folder / "work", out, said, knowledge, extents) as work:
        for name, view, span in work.resume({name: split.span_digests for name, split in opened.items()}, anew=True):
            start, stop = opened[name].spans()[span]
            work.publish(name, view, span, opened[name].span_digests[span], logits[start:stop])
        work.seal()


def contents(cache: Cache) -> list[tuple[str, bytes]]:
    """The names and bytes of all spans of the transfer set."""
    found = [cache.file(record) for record in cache.records if record.split == "transfer"]
    return [(place.key, place.read_bytes()) for place in found if isinstance(place, ObjectPlace)]


def put(store: object, held: Iterable[tuple[str, bytes]]) -> None:
    import obstore

    number = next(_numbers)
    for name, data in held:
        obstore.put(store, f"plain/{number}/{name}", data, use_multipart=False)


def get(store: object, names: Iterable[str], threads: int) -> None:
    """As arrays that a training step can take."""
    import obstore

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda name: np.frombuffer(obstore.get(store, name).bytes(), np.uint8), names))


def read(path: Place, threads: int) -> None:
    """Every span of the transfer set, compared with its sha256 and decoded; as many at a time as a student reads."""
    cache = Cache.open(path)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(cache.span, [record for record in cache.records if record.split == "transfer"]))


def against_obstore(folder: Path, times: int) -> None:
    """Throughput of writing, reading and verifying."""
    from obstore.store import from_url

    logits = np.random.default_rng(0).standard_normal((SPANS * SPAN, CLASSES), np.float32)
    path = fresh()
    write(folder, path, logits)
    cache, store = Cache.open(path), from_url(f"s3://{servers.BUCKET}")
    held = contents(cache)
    size, names = sum(len(data) for _, data in held) / 1e6, [name for name, _ in held]
    ways = {"ours": lambda: write(folder, fresh(), logits), "plain": lambda: put(store, held)}
    shown("speed of writing a cache / obstore's puts", in_turns(ways, times), size)
    del held
    ways = {"ours": lambda: read(path, READERS), "plain": lambda: get(store, names, READERS)}
    shown(f"speed of reading a cache / obstore's gets, {READERS} threads", in_turns(ways, times), size)
    ways = {"ours": lambda: verify(path, work=folder / "work"), "plain": lambda: get(store, names, runtime.cores())}
    shown("speed of verify / obstore's gets", in_turns(ways, times), size, bar=False)


def shown(title: str, seconds: dict[str, list[float]], size: float, bar: bool = True) -> None:
    found = ratio(seconds["plain"], seconds["ours"])
    detail = f"{size / median(seconds['ours']):,.0f} against {size / median(seconds['plain']):,.0f} MB/s"
    show(title, found, "≥ 0.8" if bar else "", found >= 0.8, detail)


def captured(folder: Path, out: Place) -> None:
    """A capture from nothing."""
    shutil.rmtree(folder / "work", ignore_errors=True)
    capture.capture(
        teacher=folder / "teacher", splits=folder / "transfer", views=Views(), keep=Keep(), work=folder / "work", out=out,
        provenance=folder / "provenance.json", device=CPU,
    )  # fmt: skip


def against_computing(folder: Path, times: int) -> None:
    """What a span costs more than its forward passes: in time, and in work of this process, the store's own left out."""
    ways = {
        "store": lambda: captured(folder, fresh()),
        "disk": lambda: captured(folder, folder / "cache"),
        "forward": lambda: run_unwritten(folder, "float32"),
    }
    for what, clock in (("time", time.perf_counter), ("CPU time of the client", time.process_time)):
        seconds = in_turns(ways, times, clock=clock)
        forward = median(seconds["forward"]) / SPANS
        for way in ("store", "disk"):
            found = ratio(seconds[way], seconds["forward"]) - 1
            detail = (
                f"{found * forward * 1e3:.0f} ms above {forward * 1e3:,.0f} ms of a span of {CLASSES * SPAN * 4 / 1e6:.1f} MB"
            )
            bar = "< 5 %" if way == "store" else ""
            show(f"{what}, what the {way} adds to computing", found * 100, bar, found < 0.05, detail, unit="%", form=".1f")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5, help="Rounds.")
    given = parser.parse_args()
    runtime.prepare("cpu")
    print(f"stores: {machine()}")
    root = folder_for_data()
    try:
        with servers.seaweedfs() as environment, pytest.MonkeyPatch.context() as patch:
            servers.enter(patch, environment)
            write_splits(root / "transfer", SPANS * SPAN, classes=CLASSES, size=28)
            write_teacher(root / "teacher", TEACHER, root / "transfer")
            against_obstore(root, given.times)
            against_computing(root, given.times)
    except pytest.skip.Exception as why:
        print(f"stores: left out, {why}")
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
