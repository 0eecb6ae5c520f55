"""Facts: sealed bytes by hand, any edit found, and types held strictly."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from pipeline.base import facts, files
from pipeline.base.errors import BusyError, InputError, IntegrityError


@dataclass(frozen=True)
class Said:
    version: int
    name: str
    sizes: tuple[int, ...]
    shares: Mapping[str, float]
    left: float | None = None


FACTS = {"version": 2, "name": "é", "sizes": [3, 4], "shares": {"b": 0.1, "a": 1e-300}, "left": None}
CANONICAL = '{"left":null,"name":"é","shares":{"a":1e-300,"b":0.1},"sizes":[3,4],"version":2}'


def unsealed(data: bytes, version: int | None = 2) -> Said:
    return facts.unsealed(Said, data, "it", "Mend it.", version)


def test_the_digest_is_of_canonical_json():
    found = json.loads(facts.sealed(FACTS))
    assert list(found) == ["digest", *FACTS]
    assert found.pop("digest") == files.sha256(CANONICAL.encode())
    assert found == FACTS


def test_what_was_sealed_comes_back():
    """Tuples and the order of names too."""
    found = unsealed(facts.sealed(FACTS))
    assert found == Said(2, "é", (3, 4), {"b": 0.1, "a": 1e-300})
    assert list(found.shares) == ["b", "a"]


def test_any_flipped_bit_is_found():
    data = facts.sealed(FACTS)
    for bit in range(8 * len(data)):
        edited = bytearray(data)
        edited[bit // 8] ^= 1 << bit % 8
        with pytest.raises(IntegrityError, match="^it: expected facts with their digest, as they were written"):
            unsealed(bytes(edited))


@pytest.mark.parametrize(
    ("old", "new"), [("0.1", "0.10"), ("0.1", "1e-1"), ("null", "null "), ('"é"', '"\\u00e9"'), ("2,", "3,"), ("\n}", "}")]
)
def test_the_same_facts_in_other_bytes_are_an_edit(old, new):
    data = facts.sealed(FACTS).decode()
    assert old in data
    with pytest.raises(IntegrityError, match="as they were written, found others"):
        unsealed(data.replace(old, new, 1).encode())


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"7", b"\xff", b"[" * 100_000, b'{"digest": 1', b"NaN"])
def test_what_is_no_facts(data):
    with pytest.raises(IntegrityError, match="found something else|found others"):
        unsealed(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 3}, "expected version 2, found version 3"),
        ({"version": None}, "expected version 2, found version None"),
        ({"name": 7}, "expected facts of the right types, found name: Input should be a valid string"),
        ({"sizes": [3, "4"]}, "found sizes.1: Input should be a valid integer"),
        ({"sizes": [3, 4.0]}, "found sizes.1: "),
        ({"sizes": [True]}, "found sizes.0: "),
        ({"shares": [["a", 1]]}, "found shares: "),
        ({"left": "1"}, "found left: "),
    ],
)
def test_other_facts_with_a_digest_that_is_right(change, message):
    with pytest.raises(IntegrityError, match=message):
        unsealed(facts.sealed(FACTS | change))


def test_a_field_that_is_missing():
    with pytest.raises(IntegrityError, match="found name: Field required"):
        unsealed(facts.sealed({key: value for key, value in FACTS.items() if key != "name"}))


def test_a_version_is_asked_for_only_where_there_is_one():
    assert unsealed(facts.sealed(FACTS | {"version": 9}), None).version == 9


def test_a_file_and_its_witness(tmp_path):
    path = tmp_path / "facts.json"
    with pytest.raises(InputError, match="facts.json"):
        facts.read(Said, path, "Mend it.")
    files.write(path, facts.sealed(FACTS))
    found, witness = facts.read(Said, path, "Mend it.", 2)
    assert found.name == "é"
    files.require_unchanged([witness])
    files.write(path, facts.sealed(FACTS | {"name": "e"}))
    with pytest.raises(BusyError):
        files.require_unchanged([witness])
