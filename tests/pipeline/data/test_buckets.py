"""Buckets: rows leave in the order of their places, however they came and however many files they went through."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.data import buckets
from pipeline.data.buckets import Buckets
from pipeline.data.splitfile import Rows


def fill(folder: Path, places: np.ndarray, total: int, size_bytes: int, piece: int) -> Buckets:
    """Rows that tell their place, a few at a time."""
    made = Buckets(folder, total, size_bytes)
    for start in range(0, len(places), piece):
        some = places[start : start + piece]
        rows = Rows.of([f"row {place}" for place in some], [bytes(place % 7) + b"x" for place in some], some * 3 - 1)
        made.add(some, rows)
    made.flush()
    return made


@pytest.mark.parametrize("held", [1, 500, 1 << 20])
@pytest.mark.parametrize(("least", "files"), [(1, 1), (1, 10), (1, 1000), (1 << 20, 1000)])
def test_rows_leave_in_order(tmp_path, monkeypatch, held, least, files):
    """In one bucket, in several, and in one for each row; written all the time, now and then, and only at the end."""
    monkeypatch.setattr(buckets, "HELD_BYTES", held)
    monkeypatch.setattr(buckets, "BUCKET_BYTES", (least, 1 << 20))
    monkeypatch.setattr(buckets, "FILES", files)
    places = np.random.default_rng(0).permutation(300)
    pieces = list(fill(tmp_path / "b", places, 300, 3000, 17).between(0, 300))
    assert len(pieces) == min(300, max(1, 3000 // max(least, 3000 // files)))
    assert [name for rows in pieces for name in rows.ids.to_pylist()] == [f"row {place}" for place in range(300)]
    assert [data for rows in pieces for data in rows.stored.to_pylist()] == [bytes(place % 7) + b"x" for place in range(300)]
    assert np.concatenate([rows.labels for rows in pieces]).tolist() == [place * 3 - 1 for place in range(300)]
    assert list((tmp_path / "b").iterdir()) == [], "what was read is removed"


def test_places_may_stay_empty(tmp_path, monkeypatch):
    """Of rows that are damaged; a bucket of nothing else is not there."""
    monkeypatch.setattr(buckets, "BUCKET_BYTES", (1, 1))
    places = np.array([299, 3, 150, 4])
    pieces = list(fill(tmp_path / "b", places, 300, 100, 4).between(0, 300))
    assert [rows.ids.to_pylist() for rows in pieces] == [["row 3", "row 4"], ["row 150"], ["row 299"]]  # three places a bucket
    assert list(Buckets(tmp_path / "none", 5, 100).between(0, 5)) == []


def test_some_places_of_buckets_that_several_fill(tmp_path, monkeypatch):
    """Ten places a bucket, filled by two; a bucket goes once all of its places are read at a time."""
    monkeypatch.setattr(buckets, "BUCKET_BYTES", (1, 1 << 20))
    monkeypatch.setattr(buckets, "FILES", 10)
    order = np.random.default_rng(0).permutation(100)
    fill(tmp_path / "b", order[:50], 100, 1000, 7)
    both = fill(tmp_path / "b", order[50:], 100, 1000, 7)
    assert len(list((tmp_path / "b").iterdir())) == 10
    for start, stop, left in ((0, 25, 8), (25, 62, 5), (62, 100, 2)):
        pieces = list(both.between(start, stop))
        assert [name for rows in pieces for name in rows.ids.to_pylist()] == [f"row {each}" for each in range(start, stop)]
        assert len(list((tmp_path / "b").iterdir())) == left, "what other readers need stays"


def test_what_waits_is_bounded(tmp_path, monkeypatch):
    """Rows are on disk once HELD_BYTES of them came, and a bucket is read by itself."""
    monkeypatch.setattr(buckets, "HELD_BYTES", 1000)
    monkeypatch.setattr(buckets, "BUCKET_BYTES", (1, 2000))
    made = Buckets(tmp_path / "b", 100, 100 * 100)
    for place in range(100):
        made.add(np.array([place]), Rows.of([str(place)], [bytes(100)], np.zeros(1, np.int64)))
        assert made._held_bytes <= 1000
    made.flush()
    sizes = [sum(map(len, rows.stored.to_pylist())) for rows in made.between(0, 100)]
    assert max(sizes) <= 2000
    assert sum(sizes) == 10_000
    half = Buckets(tmp_path / "half", 100, 100 * 100, 0.5)
    for place in range(6):
        half.add(np.array([place]), Rows.of([str(place)], [bytes(100)], np.zeros(1, np.int64)))
    assert half._held_bytes == 0


@pytest.mark.parametrize("name", ["", "é", "一" * 50, "\x00\n"])
def test_any_id_and_any_bytes_survive(tmp_path, name):
    made = Buckets(tmp_path / "b", 2, 10)
    made.add(np.array([1, 0]), Rows.of([name, "other"], [b"\0\xff", b""], np.array([-1, 2**40])))
    made.flush()
    [rows] = list(made.between(0, 2))
    assert (rows.ids.to_pylist(), rows.stored.to_pylist(), rows.labels.tolist()) == (
        ["other", name],
        [b"", b"\0\xff"],
        [2**40, -1],
    )
