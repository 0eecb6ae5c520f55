"""Sources: rows as they are in a file, and every kind of file that is none."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import images, write_parquet
from pipeline.base.errors import InputError
from pipeline.data import sources


def load(path, role: str = "train") -> sources.Rows:
    return sources.load(str(path), role)


def refuse(path, *parts: str) -> None:
    with pytest.raises(InputError) as caught:
        load(path)
    for part in parts:
        assert part in str(caught.value)


def test_rows_as_they_are_in_the_file(tmp_path, source):
    """48 of them, against pyarrow's own reading."""
    found, table = load(source), pq.read_table(source)
    assert found.images == [row["bytes"] for row in table.column("image").to_pylist()]
    assert found.labels.tolist() == table.column("label").to_pylist()
    assert found.labels.dtype == np.int64
    assert found.ids == [f"train-{row:06d}" for row in range(48)]
    assert found.places[7] == f"{source}, row 7 (id train-000007, path 7.png)"
    assert found.classes == ("low", "middle", "high")


def test_rows_can_be_taken_in_any_order(source):
    found = load(source)
    taken = found.take(np.array([5, 2, 5]))
    assert taken.ids == ["train-000005", "train-000002", "train-000005"]
    assert taken.images == [found.images[row] for row in (5, 2, 5)]
    assert taken.labels.tolist() == [2, 2, 2]
    assert (taken.source, taken.classes, taken.places[1]) == (found.source, found.classes, found.places[2])


def test_what_is_not_known_of_a_row(tmp_path):
    """A transfer set may lack labels, some or all, names of classes and paths."""
    encoded, labels = images(3)
    some = write_parquet(tmp_path / "some.parquet", encoded, [labels[0], None, labels[2]], id=[7, 8, 9])
    found = load(some, "transfer")
    assert (found.labels.tolist(), found.ids, found.classes) == ([0, -1, 2], ["7", "8", "9"], None)
    bare = pa.table({"image": pa.array([{"bytes": encoded[0]}], pa.struct([("bytes", pa.binary())]))})
    pq.write_table(bare, tmp_path / "bare.parquet")
    found = load(tmp_path / "bare.parquet", "transfer")
    assert (found.labels.tolist(), found.places) == ([-1], [f"{tmp_path}/bare.parquet, row 0 (id transfer-000000)"])
    refuse(tmp_path / "bare.parquet", "expected a column `label`, found image")


def test_rows_of_several_sources_are_numbered_on(tmp_path):
    paths = [str(write_parquet(tmp_path / f"{name}.parquet", images(count)[0], None)) for name, count in (("a", 3), ("b", 2))]
    first, second = sources.load_all(paths)
    assert (first.ids[-1], second.ids) == ("transfer-000002", ["transfer-000003", "transfer-000004"])
    assert sources.load_all([]) == []


def test_missing_file(tmp_path):
    refuse(tmp_path / "none.parquet", "none.parquet", "no such file")


def test_folder(tmp_path):
    refuse(tmp_path, "a folder")


def test_not_parquet(tmp_path):
    (tmp_path / "x.parquet").write_text("a,b\n1,2\n")
    refuse(tmp_path / "x.parquet", "a Parquet file", "another kind of file")


@pytest.mark.parametrize("column", ["image", "label"])
def test_missing_column(tmp_path, source, column):
    pq.write_table(pq.read_table(source).drop_columns([column]), tmp_path / "less.parquet")
    refuse(tmp_path / "less.parquet", f"a column `{column}`")


def test_image_column_of_another_type(tmp_path):
    pq.write_table(pa.table({"image": ["x.png"], "label": [0]}), tmp_path / "s.parquet")
    refuse(tmp_path / "s.parquet", "column image", "a struct of bytes and path", "string")


def test_label_column_of_another_type(tmp_path):
    encoded, _ = images(3)
    pq.write_table(pa.table({"image": [{"bytes": data} for data in encoded], "label": ["a", "b", "c"]}), tmp_path / "s.parquet")
    refuse(tmp_path / "s.parquet", "column label", "whole numbers", "string")


def test_image_without_bytes(tmp_path):
    encoded, labels = images(12)
    refuse(write_parquet(tmp_path / "s.parquet", [None, *encoded[1:]], labels), "image bytes", "0.png")


def test_empty_source(tmp_path):
    refuse(write_parquet(tmp_path / "s.parquet", [], []), "expected rows")


@pytest.mark.parametrize("names", ["abc", [1, 2, 3], ["a", "b", "a"]])
def test_class_names_are_different_strings(tmp_path, names):
    path = write_parquet(tmp_path / "s.parquet", *images(12), names=names)
    refuse(path, "class names", "a list of different strings")


def test_images_as_text(tmp_path):
    rows = pa.array([{"bytes": "x", "path": None}], pa.struct([("bytes", pa.string()), ("path", pa.string())]))
    pq.write_table(pa.table({"image": rows, "label": [0]}), tmp_path / "s.parquet")
    refuse(tmp_path / "s.parquet", "column image", "a struct of bytes and path")


def test_an_id_that_is_missing(tmp_path):
    encoded, labels = images(12)
    path = write_parquet(tmp_path / "s.parquet", encoded, labels, id=[*(str(row) for row in range(11)), None])
    refuse(path, "an id in every row", "none in row 11")


def test_a_damaged_source(tmp_path, source):
    """200 single-bit flips: the source reads, or one message names the file."""
    data = source.read_bytes()
    generator = np.random.default_rng(1)
    refused = 0
    for position in generator.integers(0, len(data), 200):
        damaged = bytearray(data)
        damaged[position] ^= 16
        source.write_bytes(damaged)
        try:
            sources.load(str(source), "train")
        except InputError as error:
            refused += "source.parquet" in str(error)
    assert refused > 5


@pytest.mark.parametrize(
    "names", [["a", "\ud800"], "deep", ["a", 1], ["a", "a"]], ids=["half a character", "very deep", "a number", "twice"]
)
def test_odd_class_names_in_the_metadata(tmp_path, names):
    encoded, labels = images(12, classes=2)
    source = write_parquet(tmp_path / "source.parquet", encoded, labels)
    table = pq.read_table(source)
    text = json.dumps({"info": {"features": {"label": {"names": names}}}})
    if names == "deep":
        text = "[" * 200_000 + "]" * 200_000
    pq.write_table(table.replace_schema_metadata({"huggingface": text}), source)
    if names == "deep":
        assert load(source).classes is None
        return
    with pytest.raises(InputError, match="class names: expected a list of different strings"):
        load(source)


def test_a_column_that_is_there_twice(tmp_path):
    encoded, labels = images(12)
    table = pq.read_table(write_parquet(tmp_path / "source.parquet", encoded, labels))
    for name in ("image", "label"):
        pq.write_table(table.append_column(name, table.column(name)), tmp_path / "double.parquet")
        with pytest.raises(InputError, match=f"expected one column `{name}`, found 2 of it"):
            load(tmp_path / "double.parquet")


def test_labels_beyond_int64_are_its_largest(tmp_path):
    """So that they are refused as out of range, with their row, once the classes are known."""
    encoded, labels = images(3)
    table = pq.read_table(write_parquet(tmp_path / "s.parquet", encoded, labels))
    stray = pa.array([0, 1, 2**63 + 5], pa.uint64())
    pq.write_table(table.set_column(1, "label", stray), tmp_path / "s.parquet")
    assert load(tmp_path / "s.parquet").labels.tolist() == [0, 1, 2**63 - 1]
