"""The machine: device, threads, determinism, progress bars. None of it is identity; all of it is provenance."""

import ctypes
import os
import platform
import signal
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipeline.errors import InputError

if TYPE_CHECKING:
    import torch

SHAPING = ("processor", "device", "threads", "torch")  # of provenance: what the last bits of a training depend on
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare(device: str = "auto", *, threads: int | None = None) -> "torch.device":
    """Set torch up for repeatable float32 results and return the device.

    device: auto (CUDA where there is one), cpu, cuda or cuda:N. threads: of the CPU; None for every core, and processes
    that share a machine should share its cores. Raises InputError for a device that is not there, or no threads.
    """
    if threads is not None and threads < 1:
        raise InputError("threads", expected="1 or more", found=str(threads), fix="Correct --threads.")
    # Read by cuBLAS when it starts; without it repeated runs on CUDA may differ in their last bits.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.set_num_threads(threads or cores())
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # took a sixth of a step
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"device {device!r}",
            expected="auto, cpu, cuda or cuda:N, present on this machine",
            found=str(error).splitlines()[0],
            fix="Choose another --device.",
        ) from error
    return chosen


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
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "zarr": zarr.__version__,
    }


def die_with_parent() -> None:
    """Ask Linux to kill this process when the one that started it dies; elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def progress(items: Iterable, what: str, *, total: int | None = None, unit: str = "it"):
    """Iterate with a progress bar on a terminal, silently elsewhere; bytes (unit B) are shown in MB and GB."""
    from tqdm import tqdm

    scale = unit == "B"
    return tqdm(items, desc=what, total=total, unit=unit, unit_scale=scale, disable=None, leave=False, dynamic_ncols=True)
