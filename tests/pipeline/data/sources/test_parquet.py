"""Parquet: the layouts of Hugging Face datasets, and every kind of file that is none."""

import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import images, write_parquet
from pipeline.base.errors import InputError
from pipeline.data.inputs.form import DTYPES, Form
from pipeline.data.sources import parquet
from pipeline.data.sources.table import parse_source
from reading import read, refused

WORDS = ["one", "", "drei Äpfel 🍎", "two\nlines"]


def write(path, **columns):
    """A Parquet file of these columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return str(path)


def spec(path, **settings):
    """The source of a path with settings."""
    return f"parquet({path!r}, {', '.join(f'{name}={value!r}' for name, value in settings.items())})"


# ---------------------------------------------------------------- parts


def test_parts_hold_all_rows_in_order_and_travel(tmp_path, monkeypatch):
    """Row groups of three rows, two or more of them a part: 6 + 1 of the first file, 4 of the second, none of an empty one."""
    for name, count in {"a": 7, "b": 4, "c": 0}.items():
        ids = [f"{name}{row}" for row in range(count)]
        table = pa.table({"text": pa.array(ids, pa.string()), "label": [row % 2 for row in range(count)], "id": ids})
        pq.write_table(
            table.cast(table.schema.set(2, pa.field("id", pa.string()))), tmp_path / f"{name}.parquet", row_group_size=3
        )
    group = pq.read_metadata(tmp_path / "a.parquet").row_group(0).total_byte_size
    monkeypatch.setattr(parquet, "PART_BYTES", group + 1)
    source = parse_source(str(tmp_path), "train")
    assert [part.rows for part in source.parts] == [6, 1, 4]
    found = [list(pickle.loads(pickle.dumps(part.chunks))(True)) for part in source.parts]
    names = [f"a{row}" for row in range(7)] + [f"b{row}" for row in range(4)]
    assert [data.decode() for chunks in found for chunk in chunks for data in chunk.inputs] == names
    assert [name for chunk in source.chunks(False) for name in chunk.ids] == names
    [last] = found[1]
    assert last.place(0) == f"{tmp_path / 'a.parquet'}, row 6 (id a6)"


# ---------------------------------------------------------------- images


def test_images_as_they_are_in_the_file(source):
    """48 of them, against pyarrow's own reading."""
    found, table = read(str(source), "train"), pq.read_table(source)
    assert found.source.form == Form("image")
    assert found.inputs == [row["bytes"] for row in table.column("image").to_pylist()]
    assert found.labels == table.column("label").to_pylist()
    assert found.ids is None
    assert found.places[7] == f"{source}, row 7 (path 7.png)"
    assert found.source.classes == ("low", "middle", "high")
    assert found.source.files == (source.resolve(),)


def test_what_is_not_known_of_a_row(tmp_path):
    """A transfer set may lack labels, some or all, names of classes and paths; -1 is unknown too."""
    encoded, labels = images(4)
    some = write_parquet(tmp_path / "some.parquet", encoded, [labels[0], None, labels[2], -1], id=[7, 8, 9, 10])
    found = read(str(some))
    assert (found.labels, found.ids, found.source.classes) == ([0, None, 2, None], ["7", "8", "9", "10"], None)
    assert found.places[1] == f"{some}, row 1 (id 8, path 1.png)"
    bare = write(tmp_path / "bare.parquet", image=pa.array([{"bytes": encoded[0]}], pa.struct([("bytes", pa.binary())])))
    found = read(bare)
    assert (found.labels, found.places, found.source.labelled) == ([None], [f"{bare}, row 0"], False)
    refused(bare, "train source", "expected labels (a column `label`), found none", role="train")


def test_images_as_plain_bytes(tmp_path):
    encoded, labels = images(3)
    for kind in (pa.binary(), pa.large_binary()):
        found = read(write(tmp_path / "x.parquet", img=pa.array(encoded, kind), labels=labels))
        assert (found.source.form, found.inputs, found.labels) == (Form("image"), encoded, labels)
    refused(write(tmp_path / "x.parquet", image=[b"x", None]), "x.parquet, row 1: expected image bytes, found none")


def test_an_image_that_is_only_a_path(tmp_path):
    encoded, labels = images(12)
    path = write_parquet(tmp_path / "s.parquet", [*encoded[:2], None, *encoded[3:]], labels)
    refused(str(path), "row 2 (path 2.png): expected image bytes, found none. Embed the images in the file.")


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["x.png"]), pa.array([3]),
        pa.array([{"bytes": "x", "path": None}], pa.struct([("bytes", pa.string()), ("path", pa.string())])),
    ],
)  # fmt: skip
def test_images_of_another_type(tmp_path, column):
    """A string is a path, which is not followed."""
    found = str(column.type)
    refused(write(tmp_path / "s.parquet", image=column), "column image: expected a struct of bytes and path", found)


def test_large_images_come_in_smaller_chunks(tmp_path):
    """Of one row group, and of rows of other sizes than the mean."""
    data = [bytes([row]) * (1 << 20) for row in range(20)] + [b"x"] * 3000
    found = read(write(tmp_path / "s.parquet", image=data))
    assert found.inputs == data
    assert max(found.sizes) <= 1024
    ends = np.cumsum([len(each) for each in data])
    starts = np.concatenate([[0], np.cumsum(found.sizes)])
    assert max(np.diff(np.concatenate([[0], ends])[starts])) <= 8 << 20
    assert found.places[3015].endswith("s.parquet, row 3015")


@pytest.mark.parametrize(
    "column",
    [
        lambda: pa.array([np.full(200_000, row, np.float32) for row in range(100)], pa.list_(pa.float32())),
        lambda: pa.array(["a" * 800_000] * 100),
        lambda: pa.array([b"a" * 800_000] * 100),
    ],
    ids=["arrays", "texts", "images"],
)
def test_rows_that_a_file_packs_well_are_read_a_few_at_a_time(tmp_path, column):
    """80 MB in memory, and next to nothing in the file."""
    path = tmp_path / "s.parquet"
    write(path, x=column())
    assert path.stat().st_size < 3_000_000
    before = pa.total_allocated_bytes()
    chunks = parse_source(spec(str(path), input="x"), "transfer").chunks(True)
    first = next(chunks)
    assert len(first.labels) <= 10
    assert pa.total_allocated_bytes() - before < 20_000_000
    assert len(first.labels) + sum(len(chunk.labels) for chunk in chunks) == 100


# ---------------------------------------------------------------- texts


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_texts(tmp_path, kind):
    found = read(write(tmp_path / "x.parquet", sentence=pa.array(WORDS, kind), label=[3, 1, 2, 0]))
    assert found.source.form == Form("text")
    assert found.inputs == [word.encode() for word in WORDS]
    assert found.labels == [3, 1, 2, 0]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_labels_that_are_names(tmp_path, kind):
    found = read(write(tmp_path / "x.parquet", text=WORDS, label=pa.array(["b", "a", None, "ä"], kind)), "train")
    assert (found.labels, found.source.classes) == (["b", "a", None, "ä"], None)


def test_a_text_that_is_null(tmp_path):
    refused(write(tmp_path / "x.parquet", text=["a", None], id=["u", "v"]), "row 1 (id v): expected a text, found none")


def test_a_text_that_is_no_utf8(tmp_path):
    odd = pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(np.array([0, 1, 3], np.int32)), pa.py_buffer(b"a\xc3(")])
    refused(write(tmp_path / "x.parquet", text=odd), "row 1: expected UTF-8")


def test_named_columns(tmp_path):
    path = write(tmp_path / "x.parquet", text=["a"], other=["b"], label=[0], intent=["c"], number=[5], id=["d"])
    found = read(spec(path, input="other", label="intent", id="number"))
    assert (found.inputs, found.labels, found.ids) == ([b"b"], ["c"], ["5"])


def test_no_labels_in_a_column_of_them(tmp_path):
    found = read(write(tmp_path / "x.parquet", text=["a", "b"], label=pa.nulls(2)))
    assert (found.labels, found.source.labelled) == ([None, None], True)


# ---------------------------------------------------------------- arrays

NUMBERS = np.arange(24, dtype=np.float32).reshape(4, 2, 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_as_tensors_and_as_lists(tmp_path, dtype):
    numbers = NUMBERS.astype(dtype)
    inner = pa.from_numpy_dtype(dtype)
    flat = pa.array(numbers.reshape(-1), inner)
    fixed = pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(flat, 3), 2)
    nested = fixed.cast(pa.list_(pa.list_(inner)))
    for column in (
        pa.FixedShapeTensorArray.from_numpy_ndarray(numbers),
        fixed,
        nested,
        nested.cast(pa.large_list(pa.large_list(inner))),
    ):
        found = read(write(tmp_path / "x.parquet", array=column, label=[0, 1, 0, 1]), "train")
        assert found.source.form == Form("array", dtype, (2, 3))
        assert found.inputs == [row.astype(f"<{numbers.dtype.str[1:]}").tobytes() for row in numbers]


def test_arrays_in_several_batches(tmp_path):
    """Lists of a slice begin at an offset."""
    numbers = np.arange(3000 * 5, dtype=np.int16).reshape(-1, 5)
    column = pa.array(list(numbers), pa.list_(pa.int16()))
    found = read(write(tmp_path / "x.parquet", x=column))
    assert found.inputs == [row.tobytes() for row in numbers]
    assert found.sizes == [1024, 1024, 952]


def test_arrays_as_hugging_face_writes_them(tmp_path):
    """Array2D is stored as nested lists, and said to be an extension that pyarrow does not know."""
    storage = pa.list_(pa.list_(pa.float32()))
    extension = {
        b"ARROW:extension:name": b"datasets.features.features.Array2DExtensionType",
        b"ARROW:extension:metadata": b"[]",
    }
    schema = pa.schema([pa.field("features", storage, metadata=extension)])
    pq.write_table(pa.table([pa.array(NUMBERS.tolist(), storage)], schema=schema), tmp_path / "x.parquet")
    found = read(str(tmp_path / "x.parquet"))
    assert found.inputs == [row.tobytes() for row in NUMBERS]


def test_lists_of_another_length(tmp_path):
    rows = [[[1, 2], [3, 4]]] * 2000 + [[[1, 2], [3]]]
    path = write(tmp_path / "x.parquet", array=pa.array(rows, pa.list_(pa.list_(pa.int32()))), id=range(10, 2011))
    refused(path, "row 2000 (id 2010): expected an array of int32, 2×2 as in the first row, found a list of 1 where that has 2")


@pytest.mark.parametrize("row", [None, [None, [3, 4]], [[1, None], [3, 4]]])
def test_arrays_with_nulls(tmp_path, row):
    rows = [[[1, 2], [3, 4]], row, [[1, 2], [3, 4]]]
    refused(
        write(tmp_path / "x.parquet", array=pa.array(rows, pa.list_(pa.list_(pa.int32())))),
        "row 1: expected numbers, found null",
    )
    refused(write(tmp_path / "x.parquet", array=pa.array(rows[1:], pa.list_(pa.list_(pa.int32())))), "row 0: expected numbers")


def test_arrays_of_other_types(tmp_path):
    refused(write(tmp_path / "x.parquet", array=[[1.5, 2.5]]), "column array", "found float64", "Write them as float32")
    refused(write(tmp_path / "x.parquet", array=[["a"]]), "column array", "found string")
    refused(write(tmp_path / "x.parquet", x=[1, 2]), "column x: expected images", "found int64")
    refused(write(tmp_path / "x.parquet", array=pa.array([[]], pa.list_(pa.int8()))), "row 0: expected an array of one number")
    turned = pa.fixed_shape_tensor(pa.int8(), (2, 3), permutation=[1, 0])
    column = pa.ExtensionArray.from_storage(turned, pa.array([[1] * 6], pa.list_(pa.int8(), 6)))
    refused(
        write(tmp_path / "x.parquet", array=column), "column array: expected tensors in C order, found a permutation [1, 0]"
    )


# ---------------------------------------------------------------- several files


def test_shards_in_the_order_of_their_names(tmp_path):
    for number in (1, 0):
        write(tmp_path / f"train-0000{number}-of-00002.parquet", text=[f"{number}a", f"{number}b"], label=[number, 5])
    listed = [f"{tmp_path}/train-0000{number}-of-00002.parquet" for number in (0, 1)]
    for text in (str(tmp_path), f"{tmp_path}/*.parquet", spec(listed)):
        found = read(text)
        assert (found.inputs, found.labels) == ([b"0a", b"0b", b"1a", b"1b"], [0, 5, 1, 5])
        assert found.places[3] == f"{tmp_path}/train-00001-of-00002.parquet, row 1"
        assert len(found.source.files) == 2


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"text": ["a"], "label": ["x"]}, "label label of names"),
        ({"text": ["a"]}, "no label"),
        ({"array": [[1]], "label": [0]}, "input array of lists of int64"),
        ({"text": ["a"], "label": [0], "id": [1]}, "id id"),
    ],
)
def test_files_that_do_not_agree(tmp_path, other, message):
    write(tmp_path / "a.parquet", text=["a"], label=[1])
    write(tmp_path / "b.parquet", **other)
    refused(str(tmp_path), "source", "b.parquet: expected input text of text, label label of numbers, no id as in", message)


def test_files_of_other_classes(tmp_path):
    for name in ("a", "b"):
        write_parquet(tmp_path / f"{name}.parquet", *images(3), names=[name, "x", "y"])
    refused(str(tmp_path), "classes a, x, y as in", "classes b, x, y")


def test_tensors_of_other_shapes(tmp_path):
    for name, shape in (("a", (1, 2, 3)), ("b", (1, 3, 2))):
        column = pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros(shape, np.float32))
        write(tmp_path / f"{name}.parquet", array=column)
    refused(
        str(tmp_path), "expected input array of tensors of float32, [2, 3]", "found input array of tensors of float32, [3, 2]"
    )


def test_an_empty_part_among_others(tmp_path):
    write(tmp_path / "a.parquet", array=pa.array([], pa.list_(pa.int64())))
    write(tmp_path / "b.parquet", array=[[1, 2]])
    assert read(str(tmp_path)).source.form == Form("array", "int64", (2,))


# ---------------------------------------------------------------- what is refused


def test_not_parquet(tmp_path):
    (tmp_path / "x.parquet").write_text("a,b\n1,2\n")
    refused(str(tmp_path / "x.parquet"), "a Parquet file", "another kind of file")


@pytest.mark.parametrize(("column", "message"), [("image", "expected a column `image`"), ("label", "(a column `label`)")])
def test_missing_column(tmp_path, source, column, message):
    pq.write_table(pq.read_table(source).drop_columns([column]), tmp_path / "less.parquet")
    refused(str(tmp_path / "less.parquet"), message, role="train")


def test_label_column_of_another_type(tmp_path):
    refused(
        write(tmp_path / "s.parquet", text=["a"], label=[0.5]), "column label: expected whole numbers or names, found double"
    )
    refused(write(tmp_path / "s.parquet", text=["a"], id=[0.5]), "column id: expected whole numbers or strings, found double")


def test_empty_source(tmp_path):
    refused(str(write_parquet(tmp_path / "s.parquet", [], [])), "expected rows")


def test_an_id_that_is_missing(tmp_path):
    encoded, labels = images(12)
    path = write_parquet(tmp_path / "s.parquet", encoded, labels, id=[*(str(row) for row in range(11)), None])
    refused(str(path), "column id: expected an id in every row, found none in row 11")


def test_a_column_that_is_there_twice(tmp_path):
    table = pq.read_table(write_parquet(tmp_path / "source.parquet", *images(12)))
    for name in ("image", "label"):
        pq.write_table(table.append_column(name, table.column(name)), tmp_path / "double.parquet")
        refused(str(tmp_path / "double.parquet"), f"expected one column `{name}`, found 2 of it")


def test_several_columns_that_could_be_meant(tmp_path):
    path = write(tmp_path / "x.parquet", text=["a"], sentence=["b"])
    refused(path, "found text and sentence", "such as input='text'")


@pytest.mark.parametrize("names", ["abc", [1, 2, 3], ["a", "b", "a"], ["a", ""]])
def test_class_names_are_different_strings(tmp_path, names):
    refused(str(write_parquet(tmp_path / "s.parquet", *images(12), names=names)), "class names: expected a list of different")


@pytest.mark.parametrize("names", [["a", "\ud800"], "deep"], ids=["half a character", "very deep"])
def test_odd_class_names_in_the_metadata(tmp_path, names):
    path = write_parquet(tmp_path / "source.parquet", *images(12, classes=2))
    text = json.dumps({"info": {"features": {"label": {"names": names}}}})
    if names == "deep":
        text = "[" * 200_000 + "]" * 200_000
    pq.write_table(pq.read_table(path).replace_schema_metadata({"huggingface": text}), path)
    if names == "deep":
        assert read(str(path)).source.classes is None
    else:
        refused(str(path), "class names: expected a list of different strings")


def test_labels_beyond_int64(tmp_path):
    path = write(tmp_path / "s.parquet", text=["a", "b"], label=pa.array([0, 2**63 + 5], pa.uint64()))
    refused(path, "row 1: expected a label that fits 64 bits, found 9223372036854775813")


def test_a_damaged_source(tmp_path, source):
    """200 single-bit flips: the source reads, or one message names the file."""
    data = source.read_bytes()
    generator = np.random.default_rng(1)
    told = 0
    for position in generator.integers(0, len(data), 200):
        damaged = bytearray(data)
        damaged[position] ^= 16
        source.write_bytes(damaged)
        try:
            read(str(source), "train")
        except InputError as error:
            told += "source.parquet" in str(error)
    assert told > 5
