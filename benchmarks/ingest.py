"""Ingest of colour JPEGs out of a Parquet file and out of class folders: images a second, and its memory as rows grow."""

import argparse
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.measure import folder_for_data, in_turns, machine, median, show
from pipeline.data.ingest import ingest

ROWS, COPIES = 50_000, 10
BAR = 8_000  # images a second
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write_jpegs(path: Path, rows: int) -> None:
    """A Parquet file of colour JPEGs 32×32 in ten classes: 1,024 different ones, again and again."""
    generator = np.random.default_rng(0)
    files = []
    for small in generator.integers(0, 256, (1024, 8, 8, 3), dtype=np.uint8):  # as smooth as photos: about 1 KB each
        held = io.BytesIO()
        Image.fromarray(small).resize((32, 32), Image.Resampling.BICUBIC).save(held, format="JPEG", quality=90)
        files.append(held.getvalue())
    images = pa.array([{"bytes": files[row % len(files)], "path": None} for row in range(rows)], _IMAGE)
    names = {"label": {"_type": "ClassLabel", "names": [str(label) for label in range(10)]}}
    table = pa.table({"image": images, "label": np.arange(rows) % 10})
    metadata = {"huggingface": json.dumps({"info": {"features": names}})}
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=5000)


def write_folders(source: Path, folder: Path) -> None:
    """The images of a Parquet file as files, in a folder for each label."""
    row = 0
    with pq.ParquetFile(source) as file:
        for batch in file.iter_batches(columns=["image", "label"]):
            for data, label in zip(batch.column("image").field("bytes"), batch.column("label").to_pylist(), strict=True):
                place = folder / str(label)
                place.mkdir(parents=True, exist_ok=True)
                (place / f"{row:06d}.jpg").write_bytes(data.as_py())
                row += 1


def run(source: str, out: Path) -> None:
    """One ingest from nothing."""
    shutil.rmtree(out, ignore_errors=True)
    ingest(train=source, valid=0.1, test=0.2, transfer_set=(), damaged="fail", seed=0, out=out)


def speed(title: str, sources: Sequence[tuple[str, str]], rows: int, out: Path, times: int) -> None:
    ways = {name: lambda source=source: run(source, out) for name, source in sources}
    for name, seconds in in_turns(ways, times).items():
        found = rows / median(seconds)
        show(
            f"ingest of {title}, {name}", found, f"≥ {BAR:,}", found >= BAR, f"{median(seconds):.1f} s", unit="/s", form=",.0f"
        )


def peak_bytes(source: str, out: Path) -> int:
    """Peak resident memory of a process that ingests and does nothing else.

    It is started by a small one: to the system, a process has used what the one that started it used by then.
    """
    ingests = (
        "import resource, sys; from pathlib import Path; from pipeline.data.ingest import ingest\n"
        "ingest(train=sys.argv[1], valid=0.1, test=0.2, transfer_set=(), damaged='fail', seed=0, out=Path(sys.argv[2]))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024))"
    )
    starts = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]], check=True)"
    shutil.rmtree(out, ignore_errors=True)
    words = [sys.executable, "-c", starts, ingests, source, str(out)]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def memory(title: str, source: Path, folder: Path, out: Path, times: int) -> None:
    folder.mkdir()
    for copy in range(COPIES):
        shutil.copy(source, folder / f"train-{copy}.parquet")

    def peaks() -> Iterator[tuple[int, int]]:
        for _ in range(times):
            yield peak_bytes(str(source), out), peak_bytes(str(folder / "*.parquet"), out)

    few, many = (median(list(each)) for each in zip(*peaks(), strict=True))
    detail = f"{many / 1e6:,.0f} MB against {few / 1e6:,.0f} MB"
    what = f"peak memory, {COPIES * ROWS:,} / {ROWS:,} rows of {title}"
    show(what, many / few, "≤ 1.1", many / few <= 1.1, detail)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cifar", type=Path, help="Folder with cifar10-train.parquet.")
    parser.add_argument("--times", type=int, default=3)
    given = parser.parse_args()
    print(f"ingest: {machine()}")
    root = folder_for_data()
    try:
        source, title = root / "train.parquet", "JPEGs made here"
        if given.cifar:
            source, title = given.cifar / "cifar10-train.parquet", "CIFAR-10"
        else:
            print("ingest of CIFAR-10: left out, give --cifar <folder>")
            write_jpegs(source, ROWS)
        write_folders(source, root / "folders")
        out = root / "transfer"
        speed(title, [("Parquet", str(source)), ("class folders", str(root / "folders"))], ROWS, out, given.times)
        memory(title, source, root / "copies", out, given.times)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
