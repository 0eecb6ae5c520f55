"""Writing splits: row groups, spans and digests, however the rows come; what other readers of Parquet find."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import images
from pipeline.data import splitfile
from pipeline.data.inputs.array import Arrays
from pipeline.data.inputs.image import Images
from pipeline.data.inputs.kinds import Inputs
from pipeline.data.inputs.text import Texts
from pipeline.data.splitfile import Rows, write_split
from pipeline.data.splits import Split, rows_digest

TEXTS = Rows.of([f"row {row}" for row in range(10)], [b"text" * row for row in range(10)], np.array([0, 1, -1, 1, 0] * 2))


def write(path, pieces: Sequence[Rows] | Iterator[Rows], *, inputs: Inputs | None = None, span: int = 4, **more) -> Split:
    settings = {"role": "train", "classes": ["x", "y"], **more}
    write_split(path, pieces, inputs=inputs or Texts(), span=span, **settings)
    return Split.open(path)


def test_facts_by_hand(tmp_path):
    split = write(tmp_path / "s.parquet", [TEXTS], role="valid", excluded=["a", "b"], folded=True)
    assert (split.role, split.rows, split.classes, split.span, split.inputs) == ("valid", 10, ("x", "y"), 4, Texts())
    assert (split.excluded, split.folded) == (("a", "b"), True)
    spans = [slice(0, 4), slice(4, 8), slice(8, 10)]
    assert split.span_digests == tuple(
        rows_digest(TEXTS.ids.to_pylist()[span], TEXTS.stored.to_pylist()[span]) for span in spans
    )
    assert split.labels_digest == hashlib.sha256(np.array([0, 1, -1, 1, 0] * 2, "<i8").tobytes()).hexdigest()


@pytest.mark.parametrize("cuts", [[], [1], [4], [3, 5], [0, 4, 4, 8], list(range(1, 10))])
def test_pieces_of_any_size_give_the_same_bytes(tmp_path, cuts):
    whole = write(tmp_path / "whole.parquet", [TEXTS]).path.read_bytes()
    ends = [0, *cuts, 10]
    pieces = (TEXTS.cut(start, stop) for start, stop in pairwise(ends))
    assert write(tmp_path / "s.parquet", pieces).path.read_bytes() == whole


def test_row_groups_stay_small_and_inside_spans(tmp_path, monkeypatch):
    """With spans of 4 rows and room for three images in a row group: 3 + 1, 3 + 1, 2."""
    encoded, _ = images(1)
    monkeypatch.setattr(splitfile, "ROW_GROUP_BYTES", 3 * len(encoded[0]))
    rows = Rows.of([str(row) for row in range(10)], encoded * 10, np.zeros(10, np.int64))
    split = write(tmp_path / "s.parquet", [rows], inputs=Images("L", (1, 6, 6)))
    metadata = pq.ParquetFile(split.path).metadata
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [3, 1, 3, 1, 2]
    assert split.spans() == [(0, 4), (4, 8), (8, 10)]
    assert [len(split.read(span)) for span in range(3)] == [4, 4, 2]


def test_an_input_larger_than_a_row_group_has_one_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(splitfile, "ROW_GROUP_BYTES", 20)
    split = write(tmp_path / "s.parquet", [TEXTS], span=8)
    metadata = pq.ParquetFile(split.path).metadata
    # of 0, 4, 8, 12, … 36 bytes, in spans of eight rows: 0 + 4 + 8, 12, 16, 20, 24, 28 | 32, 36
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [3, 1, 1, 1, 1, 1, 1, 1]
    assert split.read_all().tolist() == ["text" * row for row in range(10)]


def test_no_more_than_a_span_is_held(tmp_path):
    """A piece is taken only when what came before is written, but for less than a span."""
    taken: list[int] = []
    held: list[int] = []
    path = tmp_path / "s.parquet"

    def pieces() -> Iterator[Rows]:
        for start in range(0, 1000, 2):
            held.append(path.stat().st_size)
            taken.append(start)
            yield Rows.of([str(start), str(start + 1)], [bytes(10_000)] * 2, np.zeros(2, np.int64))

    write(path, pieces(), inputs=Arrays("uint8", (10_000,)))
    behind = [start * 10_000 - size for start, size in zip(taken, held, strict=True)]
    assert max(behind) <= 2 * 4 * 10_000


def test_hugging_face_reads_images_and_class_names(tmp_path):
    """The features of its datasets, under `huggingface` in the schema; an unknown label is null."""
    encoded, _ = images(3)
    rows = Rows.of(["a", "b", "c"], encoded, np.array([1, -1, 0]))
    table = pq.read_table(write(tmp_path / "s.parquet", [rows], inputs=Images("L", (1, 6, 6))).path)
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features == {"image": {"_type": "Image"}, "label": {"names": ["x", "y"], "_type": "ClassLabel"}}
    assert table.column("image").to_pylist() == [{"bytes": data, "path": None} for data in encoded]
    assert table.column("label").to_pylist() == [1, None, 0]


def test_columns_of_the_other_kinds(tmp_path):
    texts = pq.read_table(write(tmp_path / "t.parquet", [TEXTS]).path)
    assert (texts.schema.field("text").type, texts.column("text")[2].as_py()) == (pa.string(), "texttext")
    numbers = Rows.of(["a"], [bytes([1, 2])], np.zeros(1, np.int64))
    arrays = pq.read_table(write(tmp_path / "a.parquet", [numbers], inputs=Arrays("uint8", (2,))).path)
    assert (arrays.schema.field("array").type, arrays.column("array").to_pylist()) == (pa.binary(), [b"\1\2"])
    features = json.loads(arrays.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["array"] == {"_type": "Value", "dtype": "binary"}


def test_rows_cut_and_joined():
    assert TEXTS.cut(3, 5).ids.to_pylist() == ["row 3", "row 4"]
    again = Rows.joined([TEXTS.cut(0, 3), TEXTS.cut(3, 10)])
    assert (again.ids, again.stored, again.labels.tolist()) == (TEXTS.ids, TEXTS.stored, TEXTS.labels.tolist())


def test_rows_taken_and_their_bytes():
    """Also of rows that are cut out of the middle of others, whose bytes begin before theirs."""
    cut = TEXTS.cut(1, 6).cut(1, 5)
    assert [bytes(each) for each in cut.inputs()] == [b"text" * row for row in (2, 3, 4, 5)]
    assert cut.ends().tolist() == [8, 20, 36, 56]
    taken = cut.take(np.array([3, 0]))
    assert (taken.ids.to_pylist(), taken.labels.tolist()) == (["row 5", "row 2"], [0, -1])
    assert [bytes(each) for each in taken.inputs()] == [b"text" * 5, b"text" * 2]
