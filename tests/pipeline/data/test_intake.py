"""Intake: what is seen of rows, by parts, is what would be seen of all; rows that do not go together are named."""

import hashlib
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.base.errors import InputError
from pipeline.data.assignment import Assignment
from pipeline.data.buckets import Buckets
from pipeline.data.index import Index
from pipeline.data.inputs.form import Form
from pipeline.data.inputs.resizing import Resizing
from pipeline.data.intake import Intake, Job, Wanted, jobs
from pipeline.data.sources.source import Chunk, Source, SourcePart, chain

ROWS = np.arange(20, dtype=np.float32).reshape(10, 2)
ROWS[6, 1] = np.nan


class Rows:
    """Some of the ten rows, three to a chunk. It can be pickled."""

    def __init__(self, start: int, stop: int):
        self.start, self.stop = start, stop

    def __call__(self, with_inputs: bool) -> Iterator[Chunk]:
        for first in range(self.start, self.stop, 3):
            rows = range(first, min(first + 3, self.stop))
            inputs = [ROWS[row].tobytes() for row in rows] if with_inputs else []
            yield Chunk(
                [f"row {row}" for row in rows], inputs, [row % 2 for row in rows], lambda row, first=first: f"it {first + row}"
            )


def work(folder: Path, *borders: int) -> tuple[Wanted, dict[str, Buckets], list[Job]]:
    """Jobs for the rows in parts that end at these borders; two of the rows are carved out for `test`."""
    parts = tuple(
        SourcePart(stop - start, Rows(start, stop)) for start, stop in zip((0, *borders), (*borders, 10), strict=False)
    )
    source = Source(
        Form("array", "float32", (2,)), lambda with_inputs: chain(parts, with_inputs), (), 80, text="it", parts=parts
    )
    plan = Assignment.plan({"train": [Index.read(source, "train")]}, {"test": 2}, seed=0, fold=False)
    folder.mkdir()
    buckets = {name: Buckets(folder / name, size, 80) for name, size in plan.sizes.items()}
    wanted = Wanted(source.form, "exclude", Resizing.of((), "crop"), plan.twice)
    return wanted, buckets, next(jobs(plan, wanted, buckets))


@pytest.mark.parametrize("borders", [(), (4,), (1, 7)])
def test_parts_give_what_the_whole_gives(tmp_path, borders):
    """In processes of their own, so to speak: jobs and results are pickled. Nine of ten rows are sound."""
    wanted, buckets, some = work(tmp_path / "b", *borders)
    assert len(some) == len(borders) + 1
    found = Intake(wanted)
    for job in reversed(some) if len(borders) > 1 else some:  # in any order
        found.join(pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(job))())))
    assert (found.rows, found.stored_bytes) == (9, 80)
    assert [error.what for error in found.left_out] == ["it 6, id row 6"]
    assert [identity for rows in found.damaged.values() for _, identity in rows] == ["row 6"]
    held = [rows for name in buckets for rows in buckets[name].between(0, 10)]
    stored = {name.as_py(): data.as_py() for rows in held for name, data in zip(rows.ids, rows.stored, strict=True)}
    assert stored == {f"row {row}": ROWS[row].tobytes() for row in range(10) if row != 6}
    assert sum(len(rows) for rows in buckets_of(tmp_path / "again", borders, "test")) == 2


def buckets_of(folder: Path, borders: tuple[int, ...], split: str) -> list:
    _, buckets, some = work(folder, *borders)
    for job in some:
        job(threads=2)
    return list(buckets[split].between(0, 10))


def test_parts_that_do_not_go_together_are_named():
    """Each is sound by itself: images of another size in a later part, and another input for an id of an earlier one."""
    one, other = (Intake(Wanted(Form("image"), "fail", Resizing.of((), "crop"), np.array([]))) for _ in range(2))
    one.see(("L", 6, 6), lambda: "the first")
    other.see(("L", 5, 6), lambda: "the other")
    with pytest.raises(InputError, match="the other: expected 6×6 pixels as in the first, found 5×6 pixels"):
        one.join(other)
    one, other = (Intake(Wanted(Form("text"), "fail", Resizing.of((), "crop"), np.array([]))) for _ in range(2))
    one.compare(b"id", hashlib.sha256(b"a").digest(), "name")
    other.compare(b"id", hashlib.sha256(b"b").digest(), "name")
    with pytest.raises(InputError, match="'name' in transfer and in valid, with different inputs"):
        one.join(other)
