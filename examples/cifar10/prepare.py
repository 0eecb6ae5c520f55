"""The first rows of a Parquet file as a file of their own, for the quick profile.

    python examples/cifar10/prepare.py cifar10-train.parquet quick/data/source/train.parquet

The file is shuffled, so that its first rows are a sample of all.
"""

import sys
from pathlib import Path

import pyarrow.parquet as pq

ROWS = 6000


def prepare(source: Path, out: Path) -> None:
    """Write the first ROWS rows of `source` to `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pq.read_table(source).slice(0, ROWS), out)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(str(__doc__))
    prepare(Path(sys.argv[1]), Path(sys.argv[2]))
