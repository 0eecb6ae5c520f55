"""CSV: texts in a table."""

import gzip

import pytest

from pipeline.data.sources.source import Form
from reading import read, refused


def write(path, text):
    path.write_bytes(text.encode())
    return str(path)


def test_a_table(tmp_path):
    path = write(
        tmp_path / "x.csv", '\ufefflabel,text,other\r\ncard,Wo ist sie?,1\r\n,"two\r\nlines, ""quoted""",2\r\n\r\nage,,3\r\n'
    )
    found = read(path)
    assert found.source.form == Form("text")
    assert found.inputs == [b"Wo ist sie?", b'two\r\nlines, "quoted"', b""]
    assert (found.labels, found.ids, found.source.classes) == (["card", None, "age"], None, None)
    assert found.places == [f"{path}, line {line}" for line in (2, 4, 6)]
    assert found.source.files == ((tmp_path / "x.csv").resolve(),)


@pytest.mark.parametrize(
    ("written", "labels"),
    [
        (["3", "", "-7", "0"], [3, None, -7, 0]),
        (["3", "", "four"], ["3", None, "four"]),
        (["3", "007"], ["3", "007"]),
        (["3", "4.0"], ["3", "4.0"]),
        (["3", " 4"], ["3", " 4"]),
        (["1", "9" * 19], ["1", "9" * 19]),
        (["١"], ["١"]),
        (["-1", "5"], [None, 5]),
    ],
)
def test_labels_are_numbers_if_all_are(tmp_path, written, labels):
    path = write(tmp_path / "x.csv", "text,label\n" + "".join(f"a,{label}\n" for label in written))
    assert read(path).labels == labels


def test_names_of_columns_and_another_delimiter(tmp_path):
    path = write(tmp_path / "x.csv", "id;question;intent;text\nu;a,b;1;no\n")
    found = read(f"csv({path!r}, text='question', label='intent', delimiter=';')")
    assert (found.ids, found.inputs, found.labels) == (["u"], [b"a,b"], [1])
    assert read(f"csv({path!r}, id='question', delimiter=';')").ids == ["a,b"]


def test_packed(tmp_path):
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(b"text\na\n"))
    found = read(str(tmp_path / "x.csv.gz"))
    assert (found.inputs, found.labels, found.source.labelled) == ([b"a"], [None], False)
    refused(str(tmp_path / "x.csv.gz"), "expected labels (a column `label`), found none", role="test")


def test_a_long_text(tmp_path):
    """Python's own limit is 131,072 characters."""
    assert read(write(tmp_path / "x.csv", f"text\n{'a' * 200_000}\n")).inputs == [b"a" * 200_000]


def test_many_rows(tmp_path):
    found = read(write(tmp_path / "x.csv", "text,label\n" + "".join(f"t{row},{row}\n" for row in range(2500))))
    assert (found.sizes, found.labels, found.inputs[2000]) == ([1024, 1024, 452], list(range(2500)), b"t2000")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text,label\na,1\nb\n", "x.csv, line 3: expected 2 cells as in the first line, found 1. Correct the line"),
        ("text,label\na,1\nb,2,3\n", "line 3: expected 2 cells as in the first line, found 3"),
        ('text,label\n"a"b,1\n', "line 2: expected cells of CSV"),
        ('text,label\n"a,1\nb,2\n', "line 3: expected cells of CSV, found unexpected end of data"),
        ("a,b\n1,2\n", "source {path}: expected a column `text`, found a, b"),
        (
            "text;b\n1;2\n",
            "found text;b. Name the column to read, such as input='words' or label='intent'. Or say what stands ",
        ),
        ("text;b\n1;2\n", "stands between cells, such as delimiter=';'; here it is ','."),
        ("text,text\n1,2\n", "expected one column `text`, found 2 of it"),
        ("", "expected a column `text`, found no columns"),
        ("text,label\n", "expected rows, found none"),
    ],
)
def test_what_is_no_table(tmp_path, text, message):
    path = write(tmp_path / "x.csv", text)
    refused(path, message.format(path=path))


def test_what_is_no_utf8(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"text\ncaf\xe9\n")
    refused(str(tmp_path / "x.csv"), "x.csv, line 2: expected UTF-8, found byte 0xe9")


def test_settings(tmp_path):
    path = write(tmp_path / "x.csv", "text,label\na,1\n")
    refused(f"csv({path!r}, label='intent')", "expected a column `intent`, found text, label")
    refused(f"csv({path!r}, delimiter='||')", "source csv, setting delimiter: expected one character, found '||'")
    refused(f"csv({path!r}, text=3)", "source csv, text: expected a name in quotes")
    refused("csv('none.csv')", "source none.csv: expected a CSV file, found no such file")
