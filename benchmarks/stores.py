"""A cache in an object store against obstore's own puts and gets of the same bytes, and against computing it.

The store is a SeaweedFS on this machine, which takes its share of the same cores.
"""

import argparse
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import obstore
import pytest
from obstore.store import ObjectStore, from_url

import servers  # of the tests
from benchmarks.capture import run_unwritten
from benchmarks.measure import CPU, folder_for_data, in_turns, machine, median, ratio, show, write_splits, write_teacher
from pipeline.base import runtime
from pipeline.base.background import Behind
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


def write(folder: Path, out: Place, logits: np.ndarray) -> int:
    """Write a cache of logits that are there already, as a capture does; returns how many spans it writes at a time."""
    opened, (policy, views) = open_splits(folder / "transfer", SPLITS), open_views(Views())
    knowledge = Knowledge.of_logits(CLASSES, "float32", opened["transfer"].span)
    extents = {name: Extent(split.rows, views, split.inputs_digest) for name, split in opened.items()}
    said = identity(Checkpoint.teacher(folder / "teacher"), opened["transfer"], policy, 512, knowledge)
    with Work.hold(folder / "work", out, said, knowledge, extents) as work:
        missing = work.resume({name: split.span_digests for name, split in opened.items()}, anew=True)
        with Behind.running(work.room.writers, workers=work.room.writers) as writer:
            for name, view, span in missing:
                start, stop = opened[name].spans()[span]
                writer.put(partial(work.publish, name, view, span, opened[name].span_digests[span], logits[start:stop]))
        work.seal()
        return work.room.writers


def contents(cache: Cache) -> list[tuple[str, bytes]]:
    """The names and bytes of all spans of the transfer set."""
    found = [cache.file(record) for record in cache.records if record.split == "transfer"]
    return [(place.key, place.read_bytes()) for place in found if isinstance(place, ObjectPlace)]


def put(store: ObjectStore, held: Iterable[tuple[str, bytes]], threads: int) -> None:
    """Objects that are there already, elsewhere in the bucket."""
    number = next(_numbers)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda each: obstore.put(store, f"plain/{number}/{each[0]}", each[1], use_multipart=False), held))


def get(store: ObjectStore, names: Iterable[str], threads: int) -> None:
    """As arrays that a training step can take."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda name: np.frombuffer(obstore.get(store, name).bytes(), np.uint8), names))


def read(cache: Cache, out: np.ndarray) -> None:
    """Every span of the transfer set into a buffer, as many at a time as a student reads."""
    spans = [record for record in cache.records if record.split == "transfer"]
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(lambda record: cache.span(record, out[slice(*cache.manifest.rows_of(record))]), spans))


def against_obstore(folder: Path, times: int) -> None:
    """Throughput of writing, reading and verifying."""
    logits = np.random.default_rng(0).standard_normal((SPANS * SPAN, CLASSES), np.float32)
    path, store = fresh(), from_url(f"s3://{servers.BUCKET}")
    writers = write(folder, path, logits)
    cache = Cache.open(path)
    held = contents(cache)
    size, names = sum(len(data) for _, data in held) / 1e6, [name for name, _ in held]
    ways: dict[str, Callable[[], object]] = {"ours": lambda: write(folder, fresh(), logits)}
    shown("writing a cache / obstore's puts", ways | {"plain": lambda: put(store, held, writers)}, times, size)
    plain = {"plain": lambda: get(store, names, READERS)}
    shown("reading a cache / obstore's gets", {"ours": lambda: read(cache, logits)} | plain, times, size)
    plain = {"plain": lambda: get(store, names, runtime.cores())}
    shown("verify / obstore's gets", {"ours": lambda: verify(path, work=folder / "work")} | plain, times, size, bar=False)


def shown(title: str, ways: Mapping[str, Callable[[], object]], times: int, size: float, bar: bool = True) -> None:
    seconds = in_turns(ways, times)
    found = ratio(seconds["plain"], seconds["ours"])
    detail = f"{size / median(seconds['ours']):,.0f} against {size / median(seconds['plain']):,.0f} MB/s"
    show(f"speed of {title}, {size:,.0f} MB", found, "≥ 0.8" if bar else "", found >= 0.8, detail)


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
    worked: dict[str, list[float]] = {way: [] for way in ways}

    def watched(way: str) -> None:
        start = time.process_time()
        ways[way]()
        worked[way].append(time.process_time() - start)

    seconds = in_turns({way: partial(watched, way) for way in ways}, times)
    worked = {way: found[-times:] for way, found in worked.items()}  # without the round that warms up
    for what, found in (("time", seconds), ("CPU time of the client", worked)):
        for way in ("store", "disk"):
            added = ratio(found[way], found["forward"]) - 1
            forward = median(found["forward"]) / SPANS * 1e3
            detail = f"{added * forward:,.0f} ms above {forward:,.0f} ms of a span of {CLASSES * SPAN * 4 / 1e6:.1f} MB"
            bar = "< 5 %" if way == "store" else ""
            show(f"{what}, what the {way} adds to computing", added * 100, bar, added < 0.05, detail, unit="%", form=".1f")


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
