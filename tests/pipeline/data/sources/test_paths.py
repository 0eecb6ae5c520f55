"""Paths: a file, a folder, a glob or a list; and files that cannot be read."""

import gzip

import pytest

from pipeline.base.errors import InputError
from pipeline.data.sources import paths


def made(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def named(path, *, ending=".parquet"):
    return [file.name for file in paths.several(path, ending, "a Parquet file")]


def refused(path, *parts):
    with pytest.raises(InputError) as caught:
        paths.several(path, ".parquet", "a Parquet file")
    for part in parts:
        assert part in str(caught.value)


def test_files_of_a_folder_and_of_a_glob_in_the_order_of_their_names(tmp_path):
    made(tmp_path, "b.parquet", "a.parquet", "c.txt", ".hidden.parquet", "inner/d.parquet")
    assert named(str(tmp_path)) == ["a.parquet", "b.parquet"]
    assert named(f"{tmp_path}/*.parquet") == ["a.parquet", "b.parquet"]
    assert named(f"{tmp_path}/**/*.parquet") == ["a.parquet", "b.parquet", "d.parquet"]


def test_a_list_keeps_its_order(tmp_path):
    made(tmp_path, "b.parquet", "a.parquet", "c/x.parquet")
    assert named([f"{tmp_path}/b.parquet", f"{tmp_path}/c", f"{tmp_path}/a*"]) == ["b.parquet", "x.parquet", "a.parquet"]


def test_a_file_whose_name_looks_like_a_glob(tmp_path):
    made(tmp_path, "a[1].parquet", "a1.parquet")
    assert named(f"{tmp_path}/a[1].parquet") == ["a[1].parquet"]


def test_all_parts_must_be_there(tmp_path):
    made(tmp_path, "train-00000-of-00003.parquet", "train-00002-of-00003.parquet")
    refused(f"{tmp_path}/train-*.parquet", "expected all 3 parts", f"no {tmp_path}/train-00001-of-00003.")
    refused(str(tmp_path), "expected all 3 parts")
    alone = f"{tmp_path}/train-00002-of-00003.parquet"
    assert named([alone]) == ["train-00002-of-00003.parquet"]
    made(tmp_path, "train-00001-of-00003-5f3a.parquet")
    assert len(named(str(tmp_path))) == 3


@pytest.mark.parametrize(
    "names",
    [("train.parquet", "test.parquet"), ("train-0.parquet", "extra.parquet"), ("Train_1.parquet", "val.parquet")],
)
def test_one_split_and_no_other(tmp_path, names):
    refused(str(made(tmp_path, *names)), "expected files of one split", names[0], names[1], "or a list")


def test_words_that_only_begin_like_a_split(tmp_path):
    assert named(str(made(tmp_path, "trained.parquet", "testing.parquet"))) == ["testing.parquet", "trained.parquet"]


def test_what_is_not_there(tmp_path):
    refused(f"{tmp_path}/none.parquet", "none.parquet: expected a Parquet file, found no such file")
    refused(f"{tmp_path}/n*.parquet", "expected files that end in .parquet, found none")
    refused(str(tmp_path), "expected files that end in .parquet, found none")
    refused([], "expected paths of a Parquet file, found none")
    refused(7, "path 7: expected the path of a Parquet file")
    refused("a\0b", "expected the path of a Parquet file")


def test_a_folder_where_a_file_should_be(tmp_path):
    with pytest.raises(InputError, match="expected a table, found a folder"):
        paths.one(str(tmp_path), "a table")


def test_a_file_twice(tmp_path):
    made(tmp_path, "a.parquet")
    (tmp_path / "b.parquet").symlink_to("a.parquet")
    refused([f"{tmp_path}/a.parquet", f"{tmp_path}/b.parquet"], "b.parquet: expected each file once, found it twice")


def test_packed_files(tmp_path):
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"abc"))
    with paths.opened(tmp_path / "x.gz") as file:
        assert file.read() == b"abc"
    (tmp_path / "x.gz").write_bytes(gzip.compress(bytes(range(256)))[:-20])
    message = "x.gz: expected a table, found another kind of file, or a damaged one"
    with pytest.raises(InputError, match=message), paths.reading(tmp_path / "x.gz", "a table"):
        paths.opened(tmp_path / "x.gz").read()
