"""Capture against the same decoding and forward passes with nothing written, and its memory as rows grow."""

import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import torch

from benchmarks.measure import (
    CPU,
    folder_for_data,
    in_turns,
    machine,
    median,
    options,
    ratio,
    show,
    write_splits,
    write_teacher,
)
from pipeline.base import runtime
from pipeline.cache.capture import capture
from pipeline.cache.settings import Keep
from pipeline.cache.writer import Work
from pipeline.data import ingest
from pipeline.data.settings import Views


def run(folder: Path, dtype: str, device: torch.device = CPU, views: Views | None = None) -> None:
    """One capture from nothing."""
    for made in ("work", "cache"):
        shutil.rmtree(folder / made, ignore_errors=True)
    capture(
        teacher=folder / "teacher", splits=folder / "transfer", views=views or Views(), keep=Keep(dtype=dtype),
        work=folder / "work", out=folder / "cache", provenance=folder / "provenance.json", device=device,
    )  # fmt: skip


def run_unwritten(folder: Path, dtype: str, device: torch.device = CPU, views: Views | None = None) -> None:
    """The same, but what comes out of the teacher is waited for and dropped."""

    class Dropped(Exception):
        pass

    def seal(self, read):
        raise Dropped

    def publish(self, *given):
        return None

    with mock.patch.object(Work, "publish", publish), mock.patch.object(Work, "seal", seal):
        try:
            run(folder, dtype, device, views)
        except Dropped:
            return


def against_forward(
    title: str, folder: Path, dtype: str, bar: float, times: int, device: torch.device = CPU, views: Views | None = None
) -> None:
    given = (folder, dtype, device, views)
    seconds = in_turns({"capture": lambda: run(*given), "forward": lambda: run_unwritten(*given)}, times)
    found = ratio(seconds["capture"], seconds["forward"])
    detail = f"{median(seconds['capture']):.1f} s against {median(seconds['forward']):.1f} s"
    show(title, found, f"≤ {bar}", found <= bar, detail)


def on_a_gpu(folder: Path, times: int, device: torch.device) -> None:
    """A teacher that keeps a GPU busy, and many views of each row."""
    write_splits(folder / "transfer", 8192, classes=100, size=32)
    write_teacher(folder / "teacher", "wide_resnet(depth=16, width=4)", folder / "transfer")
    title = "capture / forward, WRN-16-4, 8,192 rows × 8 views × 100, float16"
    against_forward(title, folder, "float16", 1.05, times, device, Views("shift(4) | flip()", 8))


def peak_bytes(folder: Path) -> int:
    """Peak resident memory of a process that captures and does nothing else."""
    code = (
        "import resource, sys; from pathlib import Path; from pipeline.base import runtime; runtime.prepare('cpu')\n"
        "from benchmarks.capture import run; run(Path(sys.argv[1]), 'float16')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    )
    return int(subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = options(__doc__, times=5)
    parser.add_argument("--mnist", type=Path, help="Folder with mnist-train.parquet and mnist-test.parquet.")
    given = parser.parse_args()
    device = runtime.prepare(given.device)
    print(f"capture: {machine(device)}")
    root = folder_for_data()
    try:
        if given.mnist:
            folder = root / "mnist"
            train, test = (str(given.mnist / f"mnist-{split}.parquet") for split in ("train", "test"))
            ingest.ingest(train=train, valid=5000, test=test, transfer_set=(), damaged="fail", seed=0, out=folder / "transfer")
            write_teacher(folder / "teacher", "mlp(hidden=[1200, 1200])", folder / "transfer")
            against_forward("capture / forward, 2×1200, MNIST, float32", folder, "float32", 1.05, given.times, device)
        else:
            print("capture / forward on MNIST: left out, give --mnist <folder>")
        folder = root / "wide"
        write_splits(folder / "transfer", 200_000, classes=1000, size=28)
        write_teacher(folder / "teacher", "mlp(hidden=[1200, 1200])", folder / "transfer")
        title = "capture / forward, 2×1200, 200,000 × 1,000, float16"
        against_forward(title, folder, "float16", 1.2, min(given.times, 3), device)
        if device.type == "cuda":
            on_a_gpu(root / "views", min(given.times, 3), device)
            return
        peaks = {}
        for rows in (100_000, 1_000_000):
            folder = root / str(rows)
            write_splits(folder / "transfer", rows, classes=1000, size=4)
            write_teacher(folder / "teacher", "mlp(hidden=[16])", folder / "transfer")
            peaks[rows] = peak_bytes(folder)
            shutil.rmtree(folder)
        small, large = peaks.values()
        detail = f"{large / 1e6:,.0f} MB against {small / 1e6:,.0f} MB"
        show("peak memory, 1,000,000 / 100,000 rows × 1,000, float16", large / small, "≤ 1.1", large / small <= 1.1, detail)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
