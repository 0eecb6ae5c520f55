"""Provenance: comes back as it was written, or is told to be damaged."""

import dataclasses

import pytest

from pipeline.base.errors import IntegrityError
from pipeline.cache.provenance import Provenance

NOTED = Provenance("a", "digest", "host", "Linux", "AVX2", "cpu", 2, "3.11", "2.7", "2.3", "3.1", 9, 2, 0.1 + 0.2)


def test_it_comes_back(tmp_path):
    path = tmp_path / "provenance/a.json"
    assert Provenance.open(path) is None
    NOTED.write(path)
    assert Provenance.open(path) == NOTED


def test_an_edit_is_told_with_what_writes_it_anew(tmp_path):
    path = tmp_path / "data/provenance/a.json"
    NOTED.write(path)
    path.write_text(path.read_text().replace('"threads": 2', '"threads": 4'))
    with pytest.raises(IntegrityError, match="expected facts with their digest.* Run `softcache capture a .*, which writes"):
        Provenance.open(path)
    dataclasses.replace(NOTED, threads="2").write(path)
    with pytest.raises(IntegrityError, match="threads: Input should be a valid integer"):
        Provenance.open(path)
