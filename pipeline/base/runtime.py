"""The machine: device, threads, determinism, progress bars. Only what last bits depend on is identity."""

import contextlib
import ctypes
import functools
import io
import logging
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.base import ranks
from pipeline.base.errors import InputError, first_line

if TYPE_CHECKING:
    import torch
    from tqdm import tqdm

T = TypeVar("T")

SHAPING = ("processor", "device", "torch")  # keys of provenance that the last bits of a training depend on, besides threads
MOST_THREADS = 1024
LOG_SECONDS = 30  # between progress lines in a log, which has no progress bar
_THREAD_FLOPS = 1e8  # of a forward pass, per thread; below this another thread costs more than it saves
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
_KEPT_BYTES = 1 << 28  # tensors up to this size get memory that others have freed
_asked: int | None = None  # the number of threads that the user set
_most: int | None = None  # the largest number of threads used since `prepare`
_share: int | None = None  # of the machine's cores, where this process is one of several
_silent = False  # whether progress is shown by another process
_log = logging.getLogger(__name__)


def cores() -> int:
    """How many CPU cores this process may use."""
    return _share or _all_cores()


def be_one_of_several(cores: int) -> None:
    """Use this many cores from now on, and show no progress: the process that started this one shows that of them all."""
    global _share, _silent
    _share, _silent = cores, True


def _all_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare(device: str = "auto", *, threads: int | None = None) -> "torch.device":
    """Set torch up for repeatable float32 results, process-wide.

    Args:
        device: `auto` (CUDA where available, else the CPU), `cpu`, `cuda` or `cuda:N`.
        threads: CPU threads. None takes OMP_NUM_THREADS; where that is not set either, `suited_threads` chooses a number for
            each piece of work.

    Returns:
        The chosen device.

    Raises:
        InputError: The device is missing, or the number of threads is out of range.
    """
    global _asked, _most
    threads = asked_threads(threads)
    # cuBLAS reads this when it starts. Without it, runs on CUDA may differ in their last bits.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    _asked, _most = threads, threads or 1
    _keep_memory()
    torch.set_num_threads(_most)
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms would import the compiler: 1.4 s
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # it cost a sixth of a step
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        if chosen.type not in ("cpu", "cuda"):
            raise NotImplementedError(f"{chosen.type}, which is not supported")
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        expected, fix = "auto, cpu, cuda or cuda:N, present on this machine", "Choose another --device."
        raise InputError(f"device {device!r}", expected=expected, found=first_line(error), fix=fix) from error
    return chosen


def asked_threads(threads: int | None = None) -> int | None:
    """`threads`, else the number in OMP_NUM_THREADS, else None; raises InputError for a number that torch cannot start with."""
    what, variable = "--threads", os.environ.get("OMP_NUM_THREADS", "")
    if threads is None and variable.isdecimal():  # torch handles any other value
        what, threads = "OMP_NUM_THREADS", int(variable.lstrip("0")[:9] or 0)
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise InputError("threads", expected=f"1 to {MOST_THREADS:,}", found=str(threads), fix=f"Correct {what}.")
    return threads


def own_randomness() -> contextlib.AbstractContextManager[None]:
    """A context in which torch's random state may be set; it is restored afterwards, on the CPU and on every GPU in use."""
    import torch

    started = torch.cuda.is_initialized()
    return torch.random.fork_rng(range(torch.cuda.device_count()) if started else [])


@contextlib.contextmanager
def suited_threads(flops: float) -> Iterator[None]:
    """Within the block, use as many CPU threads as forward passes of `flops` operations need, unless the user set a number.

    It depends on the work and the number of cores alone, so equal runs on one machine use equal threads.
    """
    global _most
    import torch

    before = torch.get_num_threads()
    if _asked is None:
        torch.set_num_threads(int(min(max(flops / _THREAD_FLOPS, 1), cores())))
    _most = max(_most or 1, torch.get_num_threads())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_set() -> int | None:
    """The number of threads that the user set; None where each piece of work has as many as suit it."""
    return _asked


def threads_used() -> int:
    """The largest number of threads that torch has used since `prepare`."""
    import torch

    return _most or torch.get_num_threads()


def shaping(device: "torch.device") -> dict[str, str | int]:
    """The facts about the machine that the last bits of a training depend on."""
    found = {key: value for key, value in provenance(device).items() if key in SHAPING}
    if not (here := ranks.current()).alone:
        found["ranks"] = here.count
    return found | {"threads": _asked or f"as suits the work, of {cores()}"}


def provenance(device: "torch.device") -> dict[str, str | int]:
    """The machine and the versions that made a result. It is for people."""
    import numpy
    import torch
    import zarr

    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": threads_used(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "zarr": zarr.__version__,
    }


def processor() -> str:
    """What the processor is called."""
    named = ""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        named = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


@contextlib.contextmanager
def lean_memory() -> Iterator[None]:
    """Within the block Arrow's memory is the C library's: its own pool keeps what was freed."""
    import pyarrow as pa

    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)
        release_memory()


def _keep_memory() -> None:
    """Let the C library keep what is freed, for the next tensor: glibc alone has it.

    It would map memory anew for each one of 32 MB or more, page by page; that took half of the time of a convolutional net.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def release_memory() -> None:
    """Give freed memory back to the system, where the C library can: many small objects leave holes in it."""
    with contextlib.suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


def die_with_parent(parent: int | None = None) -> None:
    """Ask Linux to kill this process when its parent dies, and exit if the parent has died already. Does nothing elsewhere.

    parent: the number of the process that is its parent, where that is known.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if _is_orphan() if parent is None else os.getppid() != parent:
        _log.warning("the process that started this one has ended, so this one ends too")
        raise SystemExit(1)


def _is_orphan() -> bool:
    """Whether the process that started this one is no longer its parent.

    Orphans are adopted by process 1, or by a process outside of the command's process group. The second cannot be told where
    the command leads its own group, as under setsid.
    """
    parent = os.getppid()
    try:
        if parent == 1:
            return b"dvc" not in Path("/proc/1/cmdline").read_bytes()  # in a container DVC itself may be process 1
        return os.getpgrp() != os.getpid() and os.getpgid(parent) != os.getpgrp()
    except OSError:
        return True


def progress(items: Iterable[T], what: str, *, total: int | None = None, unit: str = "it") -> "tqdm[T]":
    """Iterate with a progress bar on a terminal, or with lines in a log; bytes (unit B) are shown in MB and GB."""
    settings = {"desc": what, "total": total, "unit": unit, "unit_scale": unit == "B", "leave": False, "miniters": 1}
    settings["disable"] = _silent
    bar, lines = _bars()
    if sys.stderr is not None and sys.stderr.isatty():
        return bar(items, dynamic_ncols=True, disable=not ranks.started().first, **settings)
    shown = "{desc}: {percentage:.0f} %, {n_fmt} of {total_fmt} {unit}, {elapsed} gone, {remaining} left{postfix}"
    if total is None and not hasattr(items, "__len__"):
        shown = "{desc}: {n_fmt} {unit}, {elapsed} gone{postfix}"
    return lines(items, bar_format=shown, mininterval=LOG_SECONDS, delay=LOG_SECONDS, file=io.StringIO(), **settings)


def counting(pieces: Iterable[T], what: str, rows: Callable[[T], int], *, total: int | None = None) -> Iterator[T]:
    """The same pieces, with a progress that counts their rows; none is held while the next one is made."""
    with progress((), what, total=total, unit="rows") as bar:
        for piece in pieces:
            bar.update(rows(piece))
            yield piece
            del piece


@functools.cache
def _bars() -> "tuple[type[tqdm[Any]], type[tqdm[Any]]]":
    """The progress bar of a terminal, and the one that writes its text to the log.

    Neither has tqdm's monitoring thread: where garbage is collected while it starts, the removal of an old bar waits for the
    lock that the start holds.
    """
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())  # its own has a semaphore for other processes, which a worker that is killed leaves behind

    class Bar(tqdm):  # type: ignore[misc]  # tqdm has no types
        monitor_interval = 0

    class Lines(Bar):
        @staticmethod
        def status_printer(file: object) -> Callable[[str], None]:
            def tell(text: str) -> None:
                if text.strip():
                    _log.info("%s", text.strip())

            return tell

    return Bar, Lines
