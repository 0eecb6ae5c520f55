"""A folder of a store answers as a folder of this machine does; what only a store can do, and what it may refuse."""

import pickle
from pathlib import Path

import pytest

import servers
from pipeline.base import places
from pipeline.base.errors import InputError
from pipeline.base.places import ObjectPlace, artifact, place

FILES = {"a/one.txt": b"1", "a/deep/two.json": b"22", "b.parquet": bytes(range(256)) * 9}


@pytest.fixture(params=["local", "store"])
def folder(request, tmp_path):
    if request.param == "local":
        for name, data in FILES.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(data)
        return tmp_path
    folder = place(request.getfixturevalue("bucket"))
    for name, data in FILES.items():
        (folder / name).write(data)
    return folder


def test_what_is_asked_of_both(folder):
    file = folder / "a" / "deep" / "two.json"
    assert (file.name, file.stem, file.suffix, file.parent, file.parents[2]) == (
        "two.json",
        "two",
        ".json",
        folder / "a" / "deep",
        folder,
    )
    assert file.parts[-3:] == ("a", "deep", "two.json")
    assert (file.with_suffix(".x"), folder / "a/deep/two.json") == (folder / "a" / "deep" / "two.x", file)
    assert file.read_bytes() == b"22"
    assert file.stat().st_size == 2
    for name, found in {"a/deep/two.json": "file", "a": "folder", "de": "none", "a/deep/t": "none"}.items():
        each = folder / name
        assert (each.exists(), each.is_file(), each.is_dir()) == (found != "none", found == "file", found == "folder")
    assert sorted(folder.iterdir()) == [folder / "a", folder / "b.parquet"]
    assert sorted((folder / "a").glob("*/*.json")) == [file]
    assert sorted(folder.glob("*.parquet")) == [folder / "b.parquet"]
    for ask in (Path.read_bytes, Path.stat):
        with pytest.raises(FileNotFoundError):
            getattr(folder / "none", ask.__name__)()
    assert pickle.loads(pickle.dumps(file)) == file


def test_a_file_is_read_from_any_position(folder):
    data = FILES["b.parquet"]
    with (folder / "b.parquet").open("rb") as file:
        assert file.read(3) == data[:3]
        assert file.seek(-5, 2) == len(data) - 5
        assert file.read() == data[-5:]
        assert file.read(1) == b""
        file.seek(700)
        file.seek(10, 1)
        assert (file.read(4), file.tell()) == (data[710:714], 714)


def test_texts_that_name_places():
    assert place("data") == Path("data")
    assert place("s3://b/x/") == ObjectPlace("s3://b/x")
    assert [(each.root, each.key, each.name) for each in map(place, ("gs://b", "az://b/x/y"))] == [
        ("gs://b", "", ""), ("az://b", "x/y", "y")
    ]  # fmt: skip
    for text in ("http://b/x", "s3://", "file:///x"):
        with pytest.raises(InputError, match="expected a path, or s3://bucket/folder"):
            place(text)
    assert artifact(place("s3://b/caches/a/0123456789abcdef")) == artifact(place("s3://b/caches/a")) == place("s3://b/caches/a")
    assert artifact(Path("0123456789abcdef")) == Path("0123456789abcdef")


def test_an_object_is_created_once(bucket):
    file = place(bucket) / "x"
    assert file.create(b"first")
    assert file.create(b"first"), "as when its reply was lost"
    assert not file.create(b"other")
    assert not file.create(b"first and more")
    assert file.read_bytes() == b"first"
    file.copy(place(bucket) / "deep/y")
    place(bucket).require_conditional()
    assert [(each, size) for each, size in place(bucket).objects()] == [(place(bucket) / "deep/y", 5), (file, 5)]
    place(bucket).remove()
    assert not place(bucket).exists()


def test_an_object_comes_in_parts_that_memory_holds(bucket, monkeypatch):
    file = place(bucket) / "x"
    file.write(b"0123456789")
    monkeypatch.setattr(places, "_PART_BYTES", 4)
    assert list(file.read_parts()) == [b"0123", b"4567", b"89"]


def test_a_store_that_ignores_if_none_match_is_refused_and_left_as_it_was(monkeypatch):
    with servers.s3rver() as environment:
        servers.enter(monkeypatch, environment)
        folder = place(servers.folder())
        with pytest.raises(InputError, match="expected a store that obeys If-None-Match, found one that ignores it"):
            folder.require_conditional()
        assert not folder.exists()


def test_a_store_that_refuses_says_so_at_once(seaweed, monkeypatch):
    servers.enter(monkeypatch, seaweed | {"AWS_SECRET_ACCESS_KEY": "wrong"})
    for ask in (lambda folder: folder.read_bytes(), lambda folder: list(folder.objects()), lambda folder: folder.create(b"x")):
        with pytest.raises(InputError, match="expected a store that answers, found .*403"):
            ask(place(servers.folder()))


def test_a_library_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "obstore.store", None)
    places._store.cache_clear()
    with pytest.raises(InputError, match=r"pip install 'softcache\[stores\]'"):
        place("s3://b/x").read_bytes()
