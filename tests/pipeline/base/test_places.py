"""A folder of a store answers as a folder of this machine does; what only a store can do, and what it may refuse."""

import pickle
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

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
    for text in ("http://b/x", "s3://", "file:///x", "s3:/b/x"):
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
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(InputError, match=r'pip install "softcache\[stores\]"'):
        place("s3://b/x")


@pytest.mark.parametrize(
    ("variables", "url", "said"),
    [
        ({"AWS_ENDPOINT_URL": "localhost:9000"}, "s3://b/x", "AWS_ENDPOINT_URL: expected an address such as https://host:port"),
        ({}, "s3://b/../x", "found one with an empty part, or with dots for a part"),
        ({}, "s3://b//x", "found one with an empty part, or with dots for a part"),
    ],
)
def test_addresses_that_cannot_be_meant(seaweed, monkeypatch, variables, url, said):
    servers.enter(monkeypatch, seaweed | variables)
    with pytest.raises(InputError, match=said):
        place(url).read_bytes()


class _Answers(BaseHTTPRequestHandler):
    """Says 404 to everything, as of a bucket that is not there; before that, as often as `busy` says, 429."""

    busy = 0

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        code, status = ("SlowDown", 429) if type(self).busy > 0 else ("NoSuchBucket", 404)
        type(self).busy -= 1
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code></Error>'.encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = answer

    def log_message(self, *given: object) -> None:
        pass


@pytest.mark.parametrize("busy", [0, 2])
def test_a_bucket_that_is_missing_is_one_message(monkeypatch, busy):
    """Whatever is asked; and what says that it is asked too often is asked once more."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        servers.enter(monkeypatch, servers.environment(server.server_address[1]))
        folder = place(servers.folder())
        for ask in (
            lambda: folder.write(b""),
            lambda: folder.create(b""),
            folder.require_writable,
            lambda: list(folder.objects()),
        ):
            monkeypatch.setattr(_Answers, "busy", busy)
            with pytest.raises(
                InputError, match="expected a store that answers, found .*(no such bucket|404 Not Found NoSuchBucket)"
            ):
                ask()
        server.shutdown()


def test_without_credentials_it_says_so(monkeypatch, seaweed):
    """obstore then asks the machine for its role, at an address that nobody has here."""
    keys = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_METADATA_ENDPOINT": "http://127.0.0.1:9"}
    servers.enter(monkeypatch, seaweed | keys)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(InputError, match="found no credentials"):
        place("s3://never-seen/x").read_bytes()
