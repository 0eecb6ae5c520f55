"""Background work: `ahead` prefetches results, `Behind` runs jobs later; both bound how many are held in memory."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from pipeline.base.errors import InputError

T = TypeVar("T")


@contextlib.contextmanager
def processes(workers: int) -> Iterator[Executor]:
    """Processes for `ahead`, started when they are needed; jobs and results are pickled. They end when this one does.

    Each is started anew, not forked: a fork of a process with threads may wait for ever.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_end_with_parent) as pool:
        try:
            yield pool
        except BrokenProcessPool as error:
            fix = "Free memory and run this again; a script of yours must call it below `if __name__ == '__main__':`."
            raise InputError("a process", expected="to do its work", found="that it was ended", fix=fix) from error


def _end_with_parent() -> None:
    """Let this process end when the one that started it does, which an interrupt from the keyboard is for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def ahead(jobs: Iterable[Callable[[], T]], *, depth: int = 1, workers: int = 1, pool: Executor | None = None) -> Iterator[T]:
    """Yield the results of `jobs` in order, while `workers` threads, or those of a pool, run up to `depth` of the next jobs.

    A job's exception is raised when its result is due.
    """
    pending: deque[Future[T]] = deque()
    with contextlib.ExitStack() as stack:
        pool = pool or stack.enter_context(ThreadPoolExecutor(workers, thread_name_prefix="ahead"))
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
    """Runs jobs in threads of its own, one after the other unless it has several; open it with `Behind.running`."""

    def __init__(self, pool: ThreadPoolExecutor, depth: int):
        self._pool = pool
        self._room = threading.Semaphore(depth)
        self._failure: BaseException | None = None

    @classmethod
    @contextlib.contextmanager
    def running(cls, depth: int, *, workers: int = 1) -> Iterator["Behind"]:
        """Let at most `depth` jobs wait or run, in so many threads.

        The block ends when all are done, and raises the first failure of a job.
        """
        with ThreadPoolExecutor(workers, thread_name_prefix="behind") as pool:
            behind = cls(pool, depth)
            try:
                yield behind
            except BaseException as error:
                behind._failure = behind._failure or error  # so that waiting jobs are skipped
                raise
        behind.check()

    def put(self, job: Callable[[], object]) -> None:
        """Queue a job; waits while `depth` jobs are unfinished. Raises the exception of an earlier job."""
        self._room.acquire()
        self.check()
        self._pool.submit(self._run, job)

    def check(self) -> None:
        """Raise the exception of a job, if one failed."""
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
