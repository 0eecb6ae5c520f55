"""Files of logits: what they say of each row, and which are refused before a row is read."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import elsewhere
from elsewhere import Line
from pipeline.base.errors import InputError
from pipeline.data.logits import LogitFile

CLASSES = ("x", "y", "z")
LOGITS = np.random.default_rng(3).normal(size=(2500, 3))
ROWS = [Line(("transfer", "valid")[row % 2], row % 3, f"r{row}", logits) for row, logits in enumerate(LOGITS)]
ODD = [Line("", 0, "", np.array([0, np.nan, 0], np.float32))]


def read(path: str) -> tuple[list[str], list[int], list[str], np.ndarray]:
    """All of a file."""
    batches = list(LogitFile.open(path, CLASSES).batches())
    assert len(batches) > 1  # of 1,024 rows at most
    views, logits = (np.concatenate([getattr(batch, name) for batch in batches]) for name in ("views", "logits"))
    assert logits.dtype == np.float32
    ids, splits = ([each for batch in batches for each in getattr(batch, name)] for name in ("ids", "splits"))
    return ids, views.tolist(), splits, logits


WAYS = {
    "lists": lambda folder: elsewhere.write_lists(folder / "x.parquet", ROWS, kind=pa.list_(pa.float64())),
    "lists of one length": lambda folder: elsewhere.write_lists(folder / "x.parquet", ROWS, kind=pa.list_(pa.float32(), 3)),
    "large lists": lambda folder: elsewhere.write_lists(folder / "x.parquet", ROWS, kind=pa.large_list(pa.float32())),
    "tensors": lambda folder: elsewhere.write_lists(
        folder / "x.parquet", [], logits=pa.FixedShapeTensorArray.from_numpy_ndarray(LOGITS), id=[row.id for row in ROWS],
        split=pa.array([row.split for row in ROWS]).dictionary_encode(), view=pa.array([row.view for row in ROWS], pa.int8()),
    ),
    "columns": lambda folder: elsewhere.write_columns(folder / "x.parquet", ROWS, CLASSES, note=["a"] * len(ROWS)),
    "npz": lambda folder: elsewhere.write_npz(folder / "x.npz", ROWS),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_every_row_is_read_as_it_is(tmp_path, way):
    ids, views, splits, logits = read(WAYS[way](tmp_path))
    assert ids == [row.id for row in ROWS]
    assert views == [row.view for row in ROWS]
    assert splits == [row.split for row in ROWS]
    assert (logits == LOGITS.astype(np.float32)).all()


def test_half_precision_and_numbered_ids(tmp_path):
    """The ids of an ingest are strings; a number is the string that it is written as."""
    path = elsewhere.write_lists(
        tmp_path / "x.parquet", ROWS[:2], but=["view", "split"], kind=pa.list_(pa.float16()), id=[7, -8]
    )
    np.savez(tmp_path / "x.npz", ids=np.array([7, -8]), logits=LOGITS[:2].astype(np.float16))
    for name in (path, str(tmp_path / "x.npz")):
        opened = LogitFile.open(name, CLASSES)
        assert not opened.has_views
        assert not opened.has_splits
        [batch] = opened.batches()
        assert list(batch.ids) == ["7", "-8"]
        assert batch.views.tolist() == [0, 0]
        assert batch.splits is None
        assert (batch.logits == LOGITS[:2].astype(np.float16)).all()


def lists(**more):
    return lambda folder: elsewhere.write_lists(folder / "x.parquet", [], **more)


def columns(classes: str):
    return lambda folder: elsewhere.write_columns(folder / "x.parquet", [], classes)


def npz(**more):
    return lambda folder: elsewhere.write_npz(folder / "x.npz", ODD, **more)


def text(folder: Path) -> str:
    (folder / "x.txt").write_text("x")
    return str(folder / "x.txt")


def twice(folder: Path) -> str:
    pq.write_table(pa.table([[1], [2]], ["id", "id"]), folder / "x.parquet")
    return str(folder / "x.parquet")


FILES = {  # how they are written, and the message
    "no id": (lists(but=["id"]), "expected a column `id`, found split, view, logits"),
    "two ids": (twice, "x.parquet, column id: expected each column once, found it twice"),
    "no logits": (lists(but=["logits"]), r"for each of 3 classes, found 3 missing \(x, y, z\)"),
    "whole numbers": (lists(kind=pa.list_(pa.int64())), "column logits: expected lists of floats, found list"),
    "lists of lists": (lists(kind=pa.list_(pa.list_(pa.float32()))), "column logits: expected lists of floats, found list"),
    "text views": (lists(view=pa.array([], pa.string())), "column view: expected whole numbers, found string"),
    "numbered splits": (lists(split=pa.array([], pa.int8())), "column split: expected strings, found int8"),
    "ids that are floats": (lists(id=pa.array([], pa.float32())), "column id: expected whole numbers or strings, found float"),
    "four classes": (columns("xyza"), r"for each of 3 classes, found 1 of no class \(a\)"),
    "two classes": (columns("xz"), r"for each of 3 classes, found 1 missing \(y\)"),
    "one other class": (columns("xya"), r"found 1 missing \(z\), and 1 of no class \(a\)"),
    "no Parquet": (text, "x.txt: expected a Parquet file, or an .npz file by its ending, found another kind of file"),
    "no file": (lambda folder: f"{folder}/gone.npz", "gone.npz: expected a Parquet file, .* found no such file"),
    "a folder": (str, "expected a Parquet file, .* found a folder"),
    "npz of other names": (npz(ids=None), "x.npz: expected an array `ids`, found splits, views, logits"),
    "npz of four classes": (npz(logits=np.zeros((1, 4))), "array logits: expected 3 logits, one for each class, found 4"),
    "npz of whole numbers": (npz(logits=np.zeros((1, 3), int)), r"expected floats of the shape .* found int64, \(1, 3\)"),
    "npz of objects": (npz(ids=np.array(["a"], object)), "array ids: expected numbers or strings, found Python objects"),
    "npz of two lengths": (npz(views=np.zeros(2, int)), r"array views: expected whole numbers of the shape \(1,\)"),
}


@pytest.mark.parametrize("what", FILES)
def test_other_files_are_refused(tmp_path, what):
    write, message = FILES[what]
    with pytest.raises(InputError, match=message):
        LogitFile.open(write(tmp_path), CLASSES)


def test_a_class_that_is_called_like_a_column_needs_lists(tmp_path):
    path = elsewhere.write_columns(tmp_path / "x.parquet", [], "xy")
    with pytest.raises(InputError, match="expected logits as lists, found none, and a class that is called view"):
        LogitFile.open(path, ("x", "view"))


def test_names_of_other_classes_are_refused(tmp_path):
    """As Hugging Face datasets write them; lists are in an order that only they tell."""
    table = pq.read_table(elsewhere.write_lists(tmp_path / "x.parquet", ROWS[:1]))
    for names in (["x", "z", "y"], ["x", "y", "z"]):
        features = {"info": {"features": {"label": {"_type": "ClassLabel", "names": names}}}}
        pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), tmp_path / "x.parquet")
        if names == list(CLASSES):
            LogitFile.open(str(tmp_path / "x.parquet"), CLASSES)
        else:
            with pytest.raises(InputError, match="x.parquet, class names: expected x, y, z, found x, z, y"):
                LogitFile.open(str(tmp_path / "x.parquet"), CLASSES)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("id", "column id: expected an id in every row, found none in row 1100"),
        ("view", r"row 1100 \(id r1100\): expected a view, found none"),
        ("split", r"row 1100 \(id r1100\): expected a split, found none"),
        ("logits", r"row 1100 \(id r1100\): expected 3 logits, one for each class, found 0"),
    ],
)
def test_a_null_is_refused_by_its_row(tmp_path, column, message):
    rows = [*ROWS[:1100], ROWS[1100]._replace(**{column: None}), *ROWS[1101:]]
    opened = LogitFile.open(elsewhere.write_lists(tmp_path / "x.parquet", rows), CLASSES)
    with pytest.raises(InputError, match=message):
        list(opened.batches())


def test_a_null_logit_is_no_number(tmp_path):
    """Which the import refuses, as it does what is too large for float32."""
    path = tmp_path / "x.parquet"
    held = pa.array([[1.0, None, 2.0], [1e39, 0.0, -1e39]], pa.list_(pa.float64()))
    pq.write_table(pa.table({"id": ["a", "b"], "logits": held}), path)
    [batch] = LogitFile.open(str(path), CLASSES).batches()
    assert np.isnan(batch.logits[0, 1])
    assert batch.logits[1].tolist() == [np.inf, 0, -np.inf]
