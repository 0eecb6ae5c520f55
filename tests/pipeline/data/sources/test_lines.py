"""Lines of text files."""

import gzip

import pytest

from pipeline.base.errors import InputError
from pipeline.data.sources import lines


def read(path):
    return list(lines.lines(path, "a table"))


def test_lines_keep_their_ends_and_lose_the_mark(tmp_path):
    (tmp_path / "x").write_bytes("\ufeffä\r\n\nb\u2028c".encode())
    assert read(tmp_path / "x") == ["ä\r\n", "\n", "b\u2028c"]
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"a\nb\n"))
    assert read(tmp_path / "x.gz") == ["a\n", "b\n"]


def test_what_is_no_utf8(tmp_path):
    (tmp_path / "x").write_bytes("a\nb\ncaf\xe9 au lait\n".encode("latin-1"))
    with pytest.raises(InputError, match="x, line 3: expected UTF-8, found byte 0xe9 after 3 others. Save the file as UTF-8"):
        read(tmp_path / "x")
    (tmp_path / "x").write_bytes("a".encode("utf-16"))
    with pytest.raises(InputError, match="x, line 1: expected UTF-8"):
        read(tmp_path / "x")


def test_a_line_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LONGEST_BYTES", 100)
    (tmp_path / "x").write_bytes(b"a" * 99 + b"\n" + b"b" * 101)
    with pytest.raises(InputError, match="x, line 2: expected lines of at most 100 bytes, found a longer one. Give a table"):
        read(tmp_path / "x")


def test_a_damaged_archive(tmp_path):
    (tmp_path / "x.gz").write_bytes(b"text\n")
    with pytest.raises(InputError, match="x.gz: expected a table, found another kind of file, or a damaged one"):
        read(tmp_path / "x.gz")


def test_sizes(tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"a" * 5000))
    assert lines.size_bytes(tmp_path / "x") == 5
    assert lines.size_bytes(tmp_path / "x.gz") == 4 * (tmp_path / "x.gz").stat().st_size
