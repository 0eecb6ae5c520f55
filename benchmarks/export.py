"""Latency of an exported student against its teachers and against torch, on one thread, float and int8, by onnxruntime for all.

With --data the runs of a data folder, which stays as it is; without, nets as large as those of the digits, untrained.
"""

import argparse
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import CPU, folder_for_data, in_turns, machine, median, ratio, show, write_splits, write_teacher
from pipeline.base import runtime
from pipeline.models.encoding import example
from pipeline.models.runfolder import open_run
from pipeline.results.export import export
from pipeline.results.exporting import Exporting
from softcache_export import FLOAT, INT8, session

NETS = {"student": "mlp(hidden=[128])", **dict.fromkeys("abcd", "cnn(channels=[16, 32], dropout=0.5)")}
RUNS = 100  # of a model in each turn


def synthetic(data: Path) -> None:
    """Splits of 8×8 pixels, and untrained nets for them as teachers of these names."""
    write_splits(data / "transfer", 512, classes=10, size=8)
    for name, model in NETS.items():
        write_teacher(data / "teachers" / name, model, data / "transfer")


def against_teachers(data: Path, student: str, teachers: Sequence[str], root: Path, times: int) -> None:
    """Export all of them below `root`, and run them in turn."""
    for name in (student, *teachers):
        export(run=name, data=data, out=root / name.replace("/", "-"), settings=Exporting())
    folder, opened = root / student.replace("/", "-"), open_run(data, student)
    module = opened.load(opened.trained[0], CPU)
    models = [session((root / name / FLOAT).read_bytes()) for name in teachers]
    ways: dict[str, Callable[[np.ndarray], object]] = {
        "student": session((folder / FLOAT).read_bytes()),
        "int8": session((folder / INT8).read_bytes()),
        "teacher": models[0],
        "teachers": lambda inputs: [model(inputs) for model in models],
    }
    for size in (1, 64):
        inputs = example(module, opened.inputs, size).numpy()

        def repeated(run: Callable[[np.ndarray], object], inputs: np.ndarray = inputs) -> Callable[[], None]:
            def turn() -> None:
                for _ in range(RUNS):
                    run(inputs)

            return turn

        def in_torch(rows: np.ndarray) -> torch.Tensor:
            with torch.inference_mode():
                found: torch.Tensor = module(torch.from_numpy(rows))
            return found

        seconds = in_turns({name: repeated(run) for name, run in {**ways, "torch": in_torch}.items()}, times)
        own = f"{1e6 * median(seconds['student']) / RUNS:.1f} µs"
        for name, said in (
            ("teacher", f"teacher {teachers[0]}"), ("teachers", f"all {len(teachers)} teachers"),
            ("torch", "the student in torch"), ("int8", "the student in int8"),
        ):  # fmt: skip
            other = f"{1e6 * median(seconds[name]) / RUNS:.1f} µs against {own}"
            show(f"time of {said} / student {student}, batch {size}", ratio(seconds[name], seconds["student"]), detail=other)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a data folder with the runs; without it, untrained nets")
    parser.add_argument("--student", default="small-T4")
    parser.add_argument("--teachers", nargs="+", default=["a", "b", "c", "d"])
    parser.add_argument("--times", type=int, default=9)
    given = parser.parse_args()
    runtime.prepare("cpu", threads=1)
    print(f"export: {machine()}")
    root = folder_for_data()
    try:
        if given.data is None:
            synthetic(root / "data")
        student = given.student if given.data else "student"
        against_teachers(given.data or root / "data", student, given.teachers, root / "exports", given.times)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
