"""Captures by several workers against one, and what it costs to hand a span to a worker of a Ray cluster.

All on one thread each, and without the seconds that workers take to start, which are reported by themselves.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.measure import (
    CPU,
    folder_for_data,
    machine,
    median,
    options,
    ratio,
    show,
    write_splits,
    write_teacher,
)
from pipeline.base import runtime
from pipeline.base.crew import Workers, open_crew
from pipeline.cache.manifest import by_span
from pipeline.cache.settings import Keep
from pipeline.cache.subject import Request, Subject
from pipeline.cache.workers import IN_HAND, start
from pipeline.cache.writer import Work
from pipeline.data.settings import Views

TEACHER = "mlp(hidden=[1200, 1200])"
WIDER = "mlp(hidden=[2400, 2400])"  # beside which it takes little to decode images, which has a thread of its own
HANDED = 20  # times that every span is handed to a worker, where it is done already


def request_of(folder: Path, views: Views) -> Request:
    return Request(folder / "teacher", folder / "transfer", views, Keep(), folder / "work")


@contextmanager
def held(request: Request, *, anew: bool) -> Iterator[tuple[Work, Subject]]:
    """The work of a request: empty, or as it was left."""
    subject = Subject.open(request, CPU)
    if anew:
        shutil.rmtree(request.work, ignore_errors=True)
    with Work.hold(request.work, Path(request.work).with_name("cache"), subject.identity, subject.source.knowledge,
                   subject.extents) as work:  # fmt: skip
        yield work, subject


def by_workers(request: Request, workers: Workers, starts: list[float]) -> float:
    """Seconds in which workers fill the transfer set, once they have filled valid and test. starts: takes those before."""
    with held(request, anew=True) as (work, subject):
        plan = by_span(work.resume({name: split.span_digests for name, split in subject.splits.items()}))
        began = time.perf_counter()
        with open_crew(workers, partial(start, request, work.ticket, "cpu", 1), depth=IN_HAND) as crew:
            list(crew.run([task for task in plan for _ in range(2) if task.split != "transfer"]))
            ready = time.perf_counter()
            starts.append(ready - began)
            for task, _ in crew.run([task for task in plan if task.split == "transfer"]):
                work.gather(task.parts)
            return time.perf_counter() - ready


def by_this(request: Request) -> float:
    """The same, by this process."""
    with held(request, anew=True) as (work, subject):
        missing = work.resume({name: split.span_digests for name, split in subject.splits.items()})
        subject.source.load()
        began = time.perf_counter()
        subject.source.fill(work, subject.splits, [part for part in missing if part[0] == "transfer"])
        return time.perf_counter() - began


def handing(request: Request, workers: Workers) -> float:
    """Seconds to hand a span to a worker and to learn that it is done: all of them are, so that nothing else takes time."""
    with held(request, anew=False) as (work, subject):
        work.resume({name: split.span_digests for name, split in subject.splits.items()})
        plan = [task for task in by_span(work.records) if task.split == "transfer"] * HANDED
        with open_crew(workers, partial(start, request, work.ticket, "cpu", 1), depth=IN_HAND) as crew:
            list(crew.run(plan[:1]))
            began = time.perf_counter()
            for task, _ in crew.run(plan):
                work.gather(task.parts)
            return (time.perf_counter() - began) / len(plan)


def several(folder: Path, rows: int, times: int) -> None:
    """Two processes against one, and one against this one, on images like MNIST's in eight views."""
    write_splits(folder / "transfer", rows, classes=10, size=28)
    write_teacher(folder / "teacher", WIDER, folder / "transfer")
    request, starts = request_of(folder, Views("shift(2)", 8)), list[float]()
    found: dict[int, list[float]] = {0: [], 1: [], 2: []}
    for _ in range(times):
        found[0].append(by_this(request))
        for count in (1, 2):
            found[count].append(by_workers(request, Workers("processes", count), starts))
    faster = ratio(found[1], found[2])
    detail = f"{median(found[1]):.1f} s against {median(found[2]):.1f} s"
    show(f"two processes / one, 2×2400, {rows:,} × 8 views × 10", faster, "≥ 1.8", faster >= 1.8, detail)
    show("one process / this one", ratio(found[1], found[0]), detail=f"{median(found[1]):.1f} s, {median(found[0]):.1f} s")
    show("until processes have started", median(starts), unit=" s")


def handed(folder: Path, spans: int, times: int) -> None:
    """What Ray takes of a span of 65 MB."""
    write_splits(folder / "transfer", spans * 8192, classes=2000, size=28)
    write_teacher(folder / "teacher", TEACHER, folder / "transfer")
    request = request_of(folder, Views())
    each = min(by_this(request) for _ in range(times)) / spans
    for on in ("ray", "processes"):
        lost = median([handing(request, Workers(on, 1)) for _ in range(times)])
        detail = f"{lost * 1e3:.1f} ms of {each:.2f} s"
        bar = ("≤ 5", lost / each <= 0.05) if on == "ray" else ()
        show(f"handing a span of 65 MB over, --on {on} / running it", lost / each * 100, *bar, detail=detail, unit="%")


def main() -> None:
    parser = options(__doc__, times=3)
    parser.add_argument("--rows", type=int, default=32_768, help="Of the transfer set.")
    given = parser.parse_args()
    runtime.prepare("cpu", threads=1)
    print(f"workers: {machine()}")
    root = folder_for_data()
    try:
        several(root / "several", given.rows, given.times)
        handed(root / "handed", 4, min(given.times, 3))
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
