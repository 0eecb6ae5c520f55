"""Logits as another program might have written them: of every row of some splits, in any order."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.splits import open_splits

SPLITS = ("transfer", "valid", "test")


class Line(NamedTuple):
    """One row of a file."""

    split: str
    view: int
    id: str
    logits: np.ndarray


def made(folder: Path, views: int = 3, seed: int = 1) -> dict[str, np.ndarray]:
    """Logits (views, rows, classes) float32 by split; of the validation and test split one view."""
    generator = np.random.default_rng(seed)
    return {
        name: generator.normal(size=(views if name == "transfer" else 1, split.rows, len(split.classes))).astype(np.float32)
        for name, split in open_splits(folder / "transfer", SPLITS).items()
    }


def lines(folder: Path, logits: dict[str, np.ndarray], seed: int | None = 0) -> list[Line]:
    """A row for each row and view of these splits, shuffled unless the seed is None."""
    found = []
    for name, split in open_splits(folder / "transfer", list(logits)).items():
        ids = [each for span in range(len(split.spans())) for each in split.ids(span)]
        found += [Line(name, view, ids[row], logits[name][view, row]) for view, row in np.ndindex(logits[name].shape[:2])]
    return found if seed is None else [found[number] for number in np.random.default_rng(seed).permutation(len(found))]


def write_lists(path: Path, rows: Sequence[Line], *, but: Sequence[str] = (), kind: pa.DataType | None = None, **more) -> str:
    """A Parquet file with the logits as lists. but: columns to leave out. kind: of the logits. more: columns besides."""
    logits = [None if row.logits is None else list(map(float, row.logits)) for row in rows]
    columns = {
        "id": pa.array([row.id for row in rows], pa.string()), "split": pa.array([row.split for row in rows], pa.string()),
        "view": pa.array([row.view for row in rows], pa.int64()), "logits": pa.array(logits, kind or pa.list_(pa.float32())),
    }  # fmt: skip
    pq.write_table(pa.table({name: column for name, column in (columns | more).items() if name not in but}), path)
    return str(path)


def write_columns(path: Path, rows: Sequence[Line], classes: Sequence[str], **more) -> str:
    """A Parquet file with one column of logits for each class, the last class first."""
    columns = {
        "split": pa.array([row.split for row in rows], pa.string()), "view": pa.array([row.view for row in rows], pa.int64()),
        **{
            name: pa.array([float(row.logits[number]) for row in rows], pa.float64())
            for number, name in reversed(list(enumerate(classes)))
        },
        "id": pa.array([row.id for row in rows], pa.string()),
    }  # fmt: skip
    pq.write_table(pa.table(columns | more), path)
    return str(path)


def write_npz(path: Path, rows: Sequence[Line], **more) -> str:
    """An .npz file."""
    arrays = {
        "ids": np.array([row.id for row in rows]), "splits": np.array([row.split for row in rows]),
        "views": np.array([row.view for row in rows]), "logits": np.stack([row.logits for row in rows]),
    }  # fmt: skip
    np.savez(path, **{name: array for name, array in (arrays | more).items() if array is not None})
    return str(path)
