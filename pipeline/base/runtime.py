"""The machine: device, threads, determinism, progress bars. None of it is identity; all of it is provenance."""

import contextlib
import ctypes
import io
import logging
import os
import platform
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pipeline.base.errors import InputError, first_line

if TYPE_CHECKING:
    import torch
    from tqdm import tqdm

T = TypeVar("T")

SHAPING = ("processor", "device", "torch")  # of provenance: what the last bits of a training depend on, besides threads
MOST_THREADS = 1024
LOG_SECONDS = 30  # between lines of progress where no terminal shows a bar
_THREAD_FLOPS = 1e8  # of a forward pass: with less for each, threads wait for each other longer than they help
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_asked: int | None = None  # threads that the user set
_most: int | None = None  # threads that have been used since `prepare`
_log = logging.getLogger(__name__)


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare(device: str = "auto", *, threads: int | None = None) -> "torch.device":
    """Set torch up for repeatable float32 results and return the device.

    device: auto (CUDA where there is one), cpu, cuda or cuda:N. threads: of the CPU; None for what OMP_NUM_THREADS says, else
    for as many as the work is worth, see `suited_threads`. Raises InputError for a device that is not there, or a number of
    threads that is none.
    """
    global _asked, _most
    threads = asked_threads(threads)
    # Read by cuBLAS when it starts; without it repeated runs on CUDA may differ in their last bits.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    _asked, _most = threads, threads or 1
    torch.set_num_threads(_most)
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms imports the compiler too, for 1.4 s
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # took a sixth of a step
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        if chosen.type not in ("cpu", "cuda"):
            raise NotImplementedError(f"{chosen.type}, which nothing here was tried on")
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"device {device!r}",
            expected="auto, cpu, cuda or cuda:N, present on this machine",
            found=first_line(error),
            fix="Choose another --device.",
        ) from error
    return chosen


def asked_threads(threads: int | None = None) -> int | None:
    """`threads`, or what OMP_NUM_THREADS says; raises InputError for numbers with which torch could not even be imported."""
    what, variable = "--threads", os.environ.get("OMP_NUM_THREADS", "")
    if threads is None and variable.isdecimal():  # what else it may hold is torch's affair
        what, threads = "OMP_NUM_THREADS", int(variable.lstrip("0")[:9] or 0)
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise InputError("threads", expected=f"1 to {MOST_THREADS:,}", found=str(threads), fix=f"Correct {what}.")
    return threads


def own_randomness() -> contextlib.AbstractContextManager[None]:
    """Within it torch's random state may be set; afterwards that of the CPU and of every GPU in use is as it was."""
    import torch

    started = torch.cuda.is_initialized()
    return torch.random.fork_rng(range(torch.cuda.device_count()) if started else [])


@contextlib.contextmanager
def suited_threads(flops: float) -> Iterator[None]:
    """Use as many threads of the CPU as forward passes of so many operations are worth, where the user set no number.

    A function of the work and of the cores alone: equal runs on one machine have equal threads, whatever else it does.
    Afterwards they are as many as before.
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


def threads_used() -> int:
    """The most threads that torch has used since `prepare`."""
    import torch

    return _most or torch.get_num_threads()


def shaping(device: "torch.device") -> dict[str, str | int]:
    """What of the machine the last bits of a training depend on."""
    found = {key: value for key, value in provenance(device).items() if key in SHAPING}
    return found | {"threads": _asked or f"as suits the work, of {cores()}"}


def provenance(device: "torch.device") -> dict[str, str | int]:
    """Where and with what a result was made. For people: nothing may depend on it."""
    import numpy
    import torch
    import zarr

    cuda = device.type == "cuda"
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "threads": threads_used(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "zarr": zarr.__version__,
    }


def die_with_parent() -> None:
    """Ask Linux to kill this process when the one that started it dies; elsewhere nothing happens.

    Where that one has died already, before it could be asked, this process ends now.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if _is_orphan():
        _log.warning("the process that started this one has ended, and so does this one")
        raise SystemExit(1)


def _is_orphan() -> bool:
    """Whether another process than the one that started this one is its parent by now.

    Those that take up orphans are process 1, and others that are not of the group of processes in which a command is started.
    Of a command that leads a group of its own, as under setsid, only the former can be told.
    """
    parent = os.getppid()
    try:
        if parent == 1:
            return b"dvc" not in Path("/proc/1/cmdline").read_bytes()  # it may be the first process of a container
        return os.getpgrp() != os.getpid() and os.getpgid(parent) != os.getpgrp()
    except OSError:
        return True


def progress(items: Iterable[T], what: str, *, total: int | None = None, unit: str = "it") -> "tqdm[T]":
    """Iterate with a progress bar on a terminal, with a line now and then in a log; bytes (unit B) are shown in MB and GB."""
    from tqdm import tqdm

    class Lines(tqdm):  # type: ignore[misc]  # of which no types are known
        """The bar's text as lines of the log."""

        @staticmethod
        def status_printer(file: object) -> Callable[[str], None]:
            def tell(text: str) -> None:
                if text.strip():
                    _log.info("%s", text.strip())

            return tell

    settings = {"desc": what, "total": total, "unit": unit, "unit_scale": unit == "B", "leave": False}
    if sys.stderr is not None and sys.stderr.isatty():
        return tqdm(items, dynamic_ncols=True, **settings)
    shown = "{desc}: {percentage:.0f} %, {n_fmt} of {total_fmt} {unit}, {elapsed} gone, {remaining} left{postfix}"
    if total is None and not hasattr(items, "__len__"):
        shown = "{desc}: {n_fmt} {unit}, {elapsed} gone{postfix}"
    return Lines(items, bar_format=shown, mininterval=LOG_SECONDS, delay=LOG_SECONDS, file=io.StringIO(), **settings)
