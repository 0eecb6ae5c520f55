"""The source that a text stands for, plug-ins, and checks of what sources give."""

import gzip
import os
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import samples
from conftest import images, write_parquet
from pipeline.base import spec
from pipeline.base.errors import InputError
from pipeline.data.sources import table
from pipeline.data.sources.source import Form
from plugs import forget
from reading import read, refused

PLUG_IN = """
from pipeline.data.sources.source import Chunk, Form, Source

def spoken(rows=3, how="sound"):
    def chunks(with_inputs):
        for row in range(rows):
            if how == "raises" and row == 1:
                raise KeyError("lost")
            ids, inputs, labels = [f"s{row}"], [b"abc%d" % row] if with_inputs else [], [row]
            if how == "two kinds" and row == 1:
                labels = ["one"]
            if how == "odd ids":
                ids = [row]
            if how == "few ids":
                ids = []
            if how == "some ids" and row == 1:
                ids = None
            if how == "odd inputs":
                inputs = ["abc"]
            if how == "few inputs":
                inputs = []
            if how == "empty chunks":
                yield Chunk(None, [], [], str)
            if how == "odd labels":
                labels = [0.5]
            if how == "no chunk":
                yield None
            yield Chunk(ids, inputs, labels, lambda row: f"speech {row}")
    if how == "at once":
        raise RuntimeError("no files")
    if how == "no source":
        return 3
    classes = {"classes": ("a", "a"), "no classes": 3}.get(how, ("a", "b", "c"))
    return Source(Form("array", "float64" if how == "form" else "uint8", (4,)), chunks, (), 12, classes)
"""


@pytest.fixture
def plugged(tmp_path, monkeypatch):
    """A plug-in my_sources in the working folder."""
    (tmp_path / "my_sources.py").write_text(PLUG_IN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("SOFTCACHE_PLUGINS", "my_sources")
    yield
    forget()
    sys.modules.pop("my_sources", None)


# ---------------------------------------------------------------- texts


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A working folder with one of each."""
    monkeypatch.chdir(tmp_path)
    write_parquet(tmp_path / "shards/a.parquet", *images(3))
    for name in ("x.parquet", "plain", "a(1).parquet", "it's.parquet"):
        os.link(tmp_path / "shards/a.parquet", tmp_path / name)
    for name in ("classes/cat/a.png", "flat/a.JPG"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"1")
    (tmp_path / "x.csv").write_text("text\na\n")
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\n')
    for name in ("x.csv", "x.jsonl"):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    (tmp_path / "x.tsv").write_text("id\ttext\n1\ta\n")
    (tmp_path / "x.tsv.gz").write_bytes(gzip.compress((tmp_path / "x.tsv").read_bytes()))
    (tmp_path / "upper").mkdir()
    for name, other in {"X.CSV": "x.csv", "X.CSV.GZ": "x.csv.gz", "X.Parquet": "plain", "upper/A.PARQUET": "plain"}.items():
        os.link(tmp_path / other, tmp_path / name)
    np.save(tmp_path / "x.npy", np.zeros((1, 2), np.int8))
    np.savez(tmp_path / "x.npz", x=np.zeros((1, 2), np.int8))
    (tmp_path / "notes.txt").write_text("notes")


@pytest.mark.parametrize(
    ("text", "stands_for"),
    [
        ("x.parquet", "parquet(path='x.parquet', input=None, label=None, id=None)"),
        ("shards", "parquet(path='shards', input=None, label=None, id=None)"),
        ("shards/*.parquet", "parquet(path='shards/*.parquet', input=None, label=None, id=None)"),
        ("plain", "parquet(path='plain', input=None, label=None, id=None)"),
        ("a(1).parquet", "parquet(path='a(1).parquet', input=None, label=None, id=None)"),
        ("it's.parquet", 'parquet(path="it\'s.parquet", input=None, label=None, id=None)'),
        ("./classes", "folder(path='./classes', labels=True)"),
        ("flat", "folder(path='flat', labels=True)"),
        ("x.csv", "csv(path='x.csv', text='text', label=None, id=None, delimiter=',')"),
        ("X.CSV", "csv(path='X.CSV', text='text', label=None, id=None, delimiter=',')"),
        ("X.CSV.GZ", "csv(path='X.CSV.GZ', text='text', label=None, id=None, delimiter=',')"),
        ("x.tsv", "csv(path='x.tsv', text='text', label=None, id=None, delimiter='\\t')"),
        ("x.tsv.gz", "csv(path='x.tsv.gz', text='text', label=None, id=None, delimiter='\\t')"),
        ("X.Parquet", "parquet(path='X.Parquet', input=None, label=None, id=None)"),
        ("upper", "parquet(path='upper', input=None, label=None, id=None)"),
        ("x.csv.gz", "csv(path='x.csv.gz', text='text', label=None, id=None, delimiter=',')"),
        ("x.jsonl", "jsonl(path='x.jsonl', text='text', label=None, id=None)"),
        ("x.jsonl.gz", "jsonl(path='x.jsonl.gz', text='text', label=None, id=None)"),
        ("x.npy", "npy(path='x.npy', kind=None)"),
        ("x.npz", "npz(path='x.npz', input='x', label=None, id=None, kind=None)"),
        ("digits", "digits()"),
        (" digits() ", "digits()"),
        ("parquet('x.parquet', id='label')", "parquet(path='x.parquet', input=None, label=None, id='label')"),
    ],
)
def test_what_a_text_stands_for(files, text, stands_for):
    found = read(text).source
    assert (found.text, found.spec.text, found.spec.behaviour) == (text, stands_for, "version 1")
    assert spec.witnesses(found.spec) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("none.png", "source none.png: expected a folder, or a file that ends in .parquet, .csv, .csv.gz, .jsonl"),
        ("none.png", "found no such file. Correct the path, or write one of digits(…), parquet(…), folder(…)"),
        ("parqet('x.parquet')", "found no such file"),
        ("notes.txt", "source notes.txt: expected a folder, or a file that ends in"),
        ("not*.txt", "found a file of another name"),
        ("empty", "source empty: expected a folder with Parquet files, class folders or images, found neither"),
        ("", "source: expected a text, found ''"),
        (3, "source: expected a text, found 3"),
        ("a\0b", "found no such file"),
        ("csv('x.csv', column='a')", "spec csv(…): expected path, text, label, id, delimiter"),
        ("csv(x)", "expected arguments that are Python literals"),
        ("my_sources:spoken()", "expected a plug-in module that SOFTCACHE_PLUGINS allows"),
        ("my_sources:spoken", "expected a plug-in module that SOFTCACHE_PLUGINS allows"),
    ],
)
def test_texts_that_stand_for_nothing(files, tmp_path, text, message):
    (tmp_path / "empty").mkdir()
    refused(text, message)


def test_only_a_transfer_set_may_lack_labels(files):
    assert read("x.csv", "transfer").labels == [None]
    for role in ("train", "valid", "test"):
        refused("x.csv", f"{role} source x.csv: expected labels (a column `label`), found none. Name what", role=role)


def test_damaged_files(tmp_path):
    """Two bits of a file are turned: its rows are read, or one message says what is wrong."""
    texts = [text for name, written in samples.write(tmp_path).items() for text in written if name != "digits"]
    paths = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    generator, told = np.random.default_rng(3), 0
    for path in paths * 2:
        data = path.read_bytes()
        damaged = bytearray(data)
        for place in generator.integers(0, len(data), 2):
            damaged[place] ^= 1 << generator.integers(8)
        path.write_bytes(damaged)
        for text in texts:
            try:
                for with_inputs in (False, True):
                    list(table.parse_source(text, "transfer").chunks(with_inputs))
            except InputError:
                told += 1
        path.write_bytes(data)
    assert told > 5


def test_the_same_rows_in_three_files_are_the_same(tmp_path):
    """Texts, ids and labels of Parquet, CSV and JSONL, as numbers and as names."""
    import csv
    import json

    texts = ["plain", "", 'with "quotes", and\nlines', "Äpfel 🍎"]
    for labels in ([3, 0, 1, 0], ["card", "Ärger", "age", "card"]):
        rows = [
            {"id": f"r{row}", "text": text, "label": label} for row, (text, label) in enumerate(zip(texts, labels, strict=True))
        ]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
        with (tmp_path / "x.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["text", "label", "id"])
            writer.writeheader()
            writer.writerows(rows)
        (tmp_path / "x.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        first, *others = (read(f"{tmp_path}/x.{ending}", "train") for ending in ("parquet", "csv", "jsonl"))
        assert (first.inputs, first.labels, first.ids) == ([text.encode() for text in texts], labels, ["r0", "r1", "r2", "r3"])
        for other in others:
            assert (other.inputs, other.labels, other.ids) == (first.inputs, first.labels, first.ids)
            assert (other.source.form, other.source.classes) == (first.source.form, first.source.classes)


# ---------------------------------------------------------------- plug-ins


def test_a_plug_in(plugged):
    found = read("my_sources:spoken(rows=2)", "train")
    assert (found.inputs, found.labels, found.ids, found.places[1]) == ([b"abc0", b"abc1"], [0, 1], ["s0", "s1"], "speech 0")
    assert found.source.form == Form("array", "uint8", (4,))
    assert found.source.spec.text == "my_sources:spoken(rows=2, how='sound')"
    [witness] = spec.witnesses(found.source.spec)
    assert witness.digest == found.source.spec.behaviour == witness.now()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raises", "plug-in my_sources:spoken(rows=3, how='raises'): expected a plug-in that runs, found KeyError: 'lost', at"),
        ("at once", "expected a plug-in that runs, found RuntimeError: no files"),
        ("no source", "expected a Source, found int. Return a pipeline.data.sources.source.Source."),
        ("form", "form of a source: expected image, text, or array"),
        ("classes", "class names: expected a list of different strings, found ['a', 'a']"),
        ("no classes", "class names: expected a list of different strings, found 3"),
        ("no chunk", "expected chunks, found NoneType. Yield pipeline.data.sources.source.Chunk."),
        ("two kinds", "speech 0: expected labels of one kind, found numbers and names"),
        ("odd labels", "speech 0: expected a whole number or a name as label, or null, found 0.5"),
        ("odd ids", "expected a string as id for each label"),
        ("few ids", "expected a string as id for each label"),
        ("some ids", "expected ids in all chunks or in none, found some"),
        ("odd inputs", "expected bytes as input for each label"),
        ("few inputs", "expected bytes as input for each label"),
    ],
)
def test_plug_ins_that_fail(plugged, how, message):
    refused(f"my_sources:spoken(how={how!r})", message)


def test_chunks_without_rows_are_passed_over(plugged):
    found = read("my_sources:spoken(how='empty chunks')")
    assert (found.ids, found.labels, found.sizes) == (["s0", "s1", "s2"], [0, 1, 2], [1, 1, 1])
    refused("my_sources:spoken(0, how='empty chunks')", "expected rows, found none")


def test_a_plug_in_without_rows(plugged):
    refused("my_sources:spoken(rows=0)", "transfer source my_sources:spoken(rows=0): expected rows, found none")


def test_a_plug_in_that_is_not_there(plugged):
    with pytest.raises(InputError, match="expected a name in the module"):
        table.parse_source("my_sources:written()", "train")
