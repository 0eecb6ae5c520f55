"""Work in the background: results made ahead of their reader, jobs done behind their maker, both bounded in memory."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(jobs: Iterable[Callable[[], T]], *, depth: int = 1, workers: int = 1) -> Iterator[T]:
    """Results of `jobs` in their order, while up to `depth` of those that follow are made by `workers` threads.

    A job's exception is raised in its turn. At most `depth` results wait besides the one in use.
    """
    pending: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="ahead") as pool:
        try:
            for job in jobs:
                pending.append(pool.submit(job))
                if len(pending) > depth:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


class Behind:
    """Does jobs one after the other in a thread of its own; open it with `Behind.running`."""

    def __init__(self, pool: ThreadPoolExecutor, depth: int):
        self._pool = pool
        self._room = threading.Semaphore(depth)
        self._failure: BaseException | None = None

    @classmethod
    @contextlib.contextmanager
    def running(cls, depth: int) -> Iterator["Behind"]:
        """At most `depth` jobs wait or run. The block ends when all are done, and raises what a job raised."""
        with ThreadPoolExecutor(1, thread_name_prefix="behind") as pool:
            behind = cls(pool, depth)
            try:
                yield behind
            except BaseException as error:
                behind._failure = behind._failure or error  # what waits is dropped
                raise
        behind.check()

    def put(self, job: Callable[[], object]) -> None:
        """Hand over a job; waits while `depth` are unfinished. Raises what an earlier job raised."""
        self._room.acquire()
        self.check()
        self._pool.submit(self._run, job)

    def check(self) -> None:
        """Raise what a job raised, if one did."""
        if self._failure is not None:
            raise self._failure

    def _run(self, job: Callable[[], object]) -> None:
        try:
            if self._failure is None:
                job()
        except BaseException as error:
            self._failure = error
        finally:
            self._room.release()
