"""JSONL: texts as JSON."""

import gzip
import json

import pytest

from pipeline.data.sources.source import Form
from reading import read, refused


def write(path, *rows):
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)


def test_a_file(tmp_path):
    rows = [
        {"label": 3, "text": "Wo ist sie? 🍎"},
        "",
        {"text": "two\nlines", "label": None, "more": [1]},
        {"text": "", "label": 0},
    ]
    path = write(tmp_path / "x.jsonl", *rows)
    found = read(path, "train")
    assert found.source.form == Form("text")
    assert found.inputs == ["Wo ist sie? 🍎".encode(), b"two\nlines", b""]
    assert (found.labels, found.ids, found.source.classes) == ([3, None, 0], None, None)
    assert found.places == [f"{path}, line {line}" for line in (1, 3, 4)]
    assert found.source.files == ((tmp_path / "x.jsonl").resolve(),)


def test_named_keys_and_ids(tmp_path):
    path = write(
        tmp_path / "x.jsonl", {"id": 7, "q": "a", "intent": "x", "text": "no"}, {"id": "u", "q": "b", "intent": "y", "text": ""}
    )
    found = read(f"jsonl({path!r}, text='q', label='intent')")
    assert (found.ids, found.inputs, found.labels) == (["7", "u"], [b"a", b"b"], ["x", "y"])
    assert read(f"jsonl({path!r}, id='q')").ids == ["a", "b"]


def test_packed_and_without_labels(tmp_path):
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(b'\xef\xbb\xbf{"text": "a"}\n'))
    found = read(str(tmp_path / "x.jsonl.gz"))
    assert (found.inputs, found.labels, found.source.labelled) == ([b"a"], [None], False)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "x.jsonl, line 2: expected JSON, found another text"),
        ("[" * 100_000, "line 2: expected JSON"),
        ('{"text": 1' + "0" * 5000 + "}", "line 2: expected JSON"),
        ("[1]", "line 2: expected an object, found list"),
        ('{"label": 1}', "line 2: expected a key `text`, found label"),
        ('{"text": "a"}', "line 2: expected a key `label`, found text. Give every line the keys of the first"),
        ('{"text": null, "label": 1}', "line 2, key text: expected a string, found null"),
        ('{"text": "a\\ud800", "label": 1}', "line 2: expected a text that UTF-8 can hold, found half of a surrogate pair"),
        ('{"text": "a", "label": 1.0}', "line 2: expected a whole number or a name as label, or null, found 1.0"),
        ('{"text": "a", "label": true}', "line 2: expected a whole number or a name as label, or null, found True"),
        ('{"text": "a", "label": [1]}', "line 2: expected a whole number or a name as label, or null, found [1]"),
        ('{"text": "a", "label": "one"}', "line 2: expected labels of one kind, found numbers and names"),
        ('{"text": "a", "label": ""}', "line 2: expected a whole number or a name as label, or null, found ''"),
        (
            '{"text": "a", "label": 99999999999999999999}',
            "line 2: expected a label that fits 64 bits, found 99999999999999999999",
        ),
    ],
)
def test_bad_lines(tmp_path, line, message):
    refused(write(tmp_path / "x.jsonl", {"text": "a", "label": 1}, line), message)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "a"}, {"text": "b", "label": 1}], "line 2: expected no label, as in the first line, found a key `label`"),
        ([{"words": "a"}], "line 1: expected a column `text`, found words"),
        ([{"text": "a", "id": None}], "line 1, key id: expected a string or a whole number, found null"),
        ([{"text": "a", "id": "b\ud800"}], "line 1, id: expected a text that UTF-8 can hold"),
        ([{"text": "a", "label": "b\ud800"}], "line 1, label: expected a text that UTF-8 can hold"),
        ([], "found no columns"),
    ],
)
def test_bad_files(tmp_path, rows, message):
    refused(write(tmp_path / "x.jsonl", *rows), message)


def test_settings(tmp_path):
    path = write(tmp_path / "x.jsonl", {"text": "a"})
    refused(f"jsonl({path!r}, label='intent')", "expected a column `intent`, found text")
    refused(f"jsonl({path!r}, id=3)", "source jsonl, id: expected a name in quotes")
