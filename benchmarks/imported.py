"""Import of logits made elsewhere: its memory as rows grow, and rows a second."""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import folder_for_data, machine, show
from pipeline.base import runtime
from pipeline.data.inputs.text import Texts
from pipeline.data.splitfile import Rows, write_split
from pipeline.data.splits import bind_splits, span_rows

CLASSES = 100
BATCH = 10_000  # rows that are made at once


def make(folder: Path, rows: int) -> None:
    """Splits of short texts, and a Parquet file with logits of all rows, shuffled."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "transfer").mkdir(parents=True)
    sizes = {"train": rows, "valid": 1000, "test": 1000}

    def chunks(name: str, count: int) -> Iterator[Rows]:
        for start in range(0, count, BATCH):
            numbers = range(start, min(start + BATCH, count))
            yield Rows.of([f"{name}-{row}" for row in numbers], [b"x"] * len(numbers), np.array(numbers) % CLASSES)

    for name, count in sizes.items():
        write_split(
            folder / f"transfer/{name}.parquet", chunks(name, count), role=name, inputs=Texts(),
            classes=[str(label) for label in range(CLASSES)], span=span_rows(CLASSES, 1),
        )  # fmt: skip
    bind_splits(folder / "transfer", list(sizes))
    generator = np.random.default_rng(0)
    ids = np.array([f"{name}-{row}" for name, count in sizes.items() for row in range(count)])
    generator.shuffle(ids)
    schema = pa.schema([("id", pa.string()), ("logits", pa.list_(pa.float32()))])
    with pq.ParquetWriter(folder / "logits.parquet", schema) as file:
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH].tolist()
            values = pa.array(generator.normal(size=len(some) * CLASSES).astype(np.float32))
            ends = pa.array(np.arange(0, len(values) + 1, CLASSES, dtype=np.int32))
            file.write_table(pa.table([some, pa.ListArray.from_arrays(ends, values)], schema=schema))


def import_once(folder: Path) -> tuple[int, float]:
    """Peak resident memory of a process that imports and does nothing else, and the seconds that the import took."""
    code = (
        "import resource, sys, time; from pathlib import Path; from pipeline.cache.imported import import_logits\n"
        "from pipeline.data.settings import Views; folder = Path(sys.argv[1]); start = time.perf_counter()\n"
        "given = {'logits': [str(folder / 'logits.parquet')], 'splits': folder / 'transfer', 'views': Views()}\n"
        "import_logits(**given, out=folder / 'teachers/a')\n"
        "scale = 1 if sys.platform == 'darwin' else 1024\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale, time.perf_counter() - start)"
    )
    starts = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]], check=True)"  # see ingest.py
    words = [sys.executable, "-c", starts, code, str(folder)]
    peak, seconds = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    return int(peak), float(seconds)


def growing(root: Path, few: int, many: int) -> None:
    """Memory and rows a second."""
    peaks = []
    for rows in (few, many):
        make(root / "data", rows)
        peak, seconds = import_once(root / "data")
        peaks.append(peak)
    detail = f"{peaks[1] / 1e6:,.0f} MB against {peaks[0] / 1e6:,.0f} MB"
    found = peaks[1] / peaks[0]
    show(f"peak memory of import, {many:,} / {few:,} rows × {CLASSES}", found, "≤ 1.25", found <= 1.25, detail)
    show(f"import, {many:,} rows × {CLASSES}, shuffled", many / seconds, detail=f"{seconds:.1f} s", unit="/s", form=",.0f")


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    runtime.prepare("cpu")
    print(f"import: {machine()}")
    root = folder_for_data()
    try:
        growing(root, 100_000, 1_000_000)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
