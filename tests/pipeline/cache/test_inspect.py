"""Inspect: what it says of a cache, counted by hand."""

from pathlib import Path

import numpy as np
import pytest

from conftest import run_capture, write_stage_one
from pipeline.base.errors import IntegrityError
from pipeline.cache.inspect import inspect
from pipeline.cache.reader import Cache
from pipeline.data.splits import open_splits


@pytest.fixture
def folder(tmp_path) -> Path:
    """20 rows of three classes in spans of 8, in three views; 5 and 3 rows of the other splits."""
    run_capture(write_stage_one(tmp_path))
    return tmp_path


def look(folder: Path) -> dict:
    return inspect(
        folder / "caches/a", splits=folder / "transfer", provenance=folder / "provenance/a.json", work=folder / "work"
    )


def test_what_is_counted(folder):
    found, cache = look(folder), Cache.open(folder / "caches/a")
    assert {name: each["shape"] for name, each in found["arrays"].items()} == {
        "transfer": [3, 20, 3], "valid": [1, 5, 3], "test": [1, 3, 3],
    }  # fmt: skip
    assert (found["spans"], found["span_rows"], found["views"]["count"], found["dtype"]) == (3 * 3 + 1 + 1, 8, 3, "float32")
    assert found["size_bytes"] == sum(path.stat().st_size for path in (folder / "caches/a").rglob("*") if path.is_file())
    assert found["bytes_per_row"] == found["size_bytes"] / 28
    every = np.concatenate([cache.read(split).ravel() for split in ("transfer", "valid", "test")])
    assert found["logit_range"] == [every.min(), every.max()]
    assert found["created_by"]["spans_computed"] == 11


def test_accuracy_is_of_untouched_rows(folder):
    splits, cache = open_splits(folder / "transfer", ("transfer", "valid")), Cache.open(folder / "caches/a")
    assert look(folder)["accuracy"] == {
        name: (cache.read(name)[0].argmax(1) == split.labels()).mean() for name, split in splits.items()
    }


def test_what_is_missing_or_of_another_cache_is_null(folder, tmp_path):
    run_capture(folder, dtype="float16")
    write_stage_one(tmp_path, rows=21)
    run_capture(write_stage_one(tmp_path / "other"))
    (tmp_path / "other/provenance/a.json").replace(folder / "provenance/a.json")
    assert (look(folder)["accuracy"], look(folder)["created_by"]) == (None, None)
    (folder / "provenance/a.json").unlink()
    assert look(folder)["created_by"] is None


def test_a_cache_that_is_not_there(folder):
    (folder / "caches/a/manifest.json").unlink()
    with pytest.raises(IntegrityError, match="expected a sealed cache, found an unsealed one: 11 of 11 spans captured"):
        look(folder)
