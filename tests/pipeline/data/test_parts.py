"""Splits that are folders of parts: the same rows and digests as one file, here and in a store; parts that are not theirs."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from obstore.store import LocalStore

from pipeline.base import facts, nearby, places
from pipeline.base.errors import InputError, IntegrityError
from pipeline.base.places import ObjectPlace
from pipeline.data import parts, splitfile
from pipeline.data.inputs.array import Arrays
from pipeline.data.splitfile import Rows, Shape, list_parts, part_rows, write_part, write_split
from pipeline.data.splits import LISTING, Split, bind_splits, open_splits

VALUES = np.random.default_rng(0).integers(0, 256, (10, 5), np.uint8)
LABELS = np.array([0, 1, -1, 300, 2, 0, 1, 1, -1, 2])
IDS = [f"row-{row}" for row in range(10)]
ROWS = Rows.of(IDS, [row.tobytes() for row in VALUES], LABELS)
SHAPE = Shape("train", [str(label) for label in range(301)], Arrays("uint8", (5,)), 2, ["damaged"])


def write(path: Path, count: int = 4) -> Path:
    """Ten rows in parts of so many; spans are of two."""
    path.mkdir()
    made = [
        write_part(path / f"part-{row // count:05d}.parquet", [ROWS.cut(row, row + count)], SHAPE)
        for row in range(0, 10, count)
    ]
    list_parts(path, SHAPE, made)
    return path


def read(split: Split) -> tuple[list[str], list[list[int]], list[int]]:
    ids = [name for span in range(len(split.spans())) for name in split.ids(span)]
    return ids, split.read_all().tolist(), split.labels().tolist()


@pytest.fixture
def stored(tmp_path, monkeypatch) -> ObjectPlace:
    """The folder of the test, as a store has it; obstore is asked for every object."""
    monkeypatch.setattr(places, "_store", lambda root, variables, known: LocalStore(tmp_path))
    return ObjectPlace("s3://bucket")


@pytest.mark.parametrize("count", [2, 4, 8, 10])
def test_parts_change_nothing_but_the_files(tmp_path, count):
    write_split(tmp_path / "whole.parquet", [ROWS], **vars(SHAPE))
    whole, cut = Split.open(tmp_path / "whole.parquet"), Split.open(write(tmp_path / "train.parquet", count))
    assert [part.rows for part in cut.parts] == [min(count, 10 - row) for row in range(0, 10, count)]
    for fact in ("rows", "classes", "inputs", "span", "span_digests", "inputs_digest", "labels_digest", "excluded", "folded"):
        assert getattr(cut, fact) == getattr(whole, fact), fact
    assert read(cut) == read(whole) == (IDS, VALUES.tolist(), LABELS.tolist())
    assert cut.read(3, np.array([1])).tolist() == VALUES[7:8].tolist()


def test_other_readers_take_the_folder_for_a_data_set(tmp_path):
    """In the order of the names of its parts; _split.json is left out, as all such names are."""
    assert pq.read_table(write(tmp_path / "train.parquet")).column("id").to_pylist() == IDS


def test_a_part_holds_whole_spans_and_as_many_as_fit(monkeypatch):
    """A power of two of them: 3 would fit, 2 are taken; one that is larger is a part of its own."""
    monkeypatch.setattr(splitfile, "PART_BYTES", 1000)
    assert part_rows(span=10, row_bytes=33) == 20
    assert part_rows(span=10, row_bytes=24) == 40
    assert part_rows(span=10, row_bytes=101) == 10


def test_only_the_part_of_a_span_is_opened_and_few_footers_are_held(tmp_path, monkeypatch):
    split, seen, footer = Split.open(write(tmp_path / "train.parquet", 2)), [], parts.footer_of
    monkeypatch.setattr(parts, "footer_of", lambda path: (seen.append(path.name), footer(path))[1])
    monkeypatch.setattr(parts, "_FOOTERS", 2)
    for span in (3, 3, 1, 3, 4, 3, 1):
        split.read(span)
    assert [int(name[5:10]) for name in seen] == [3, 1, 4, 1]


def test_splits_of_folders_are_bound(tmp_path):
    """By what lists the parts, which binds each part in turn: to rows of another order, and to footers."""
    write(tmp_path / "train.parquet")
    bind_splits(tmp_path, ["train"])
    assert read(open_splits(tmp_path, ["transfer"])["transfer"])[0] == IDS
    listing = tmp_path / "train.parquet" / LISTING
    kept = listing.read_bytes()
    write(tmp_path / "other.parquet", 2)
    listing.write_bytes((tmp_path / "other.parquet" / LISTING).read_bytes())
    with pytest.raises(IntegrityError, match="expected the train split that belongs to splits.json, found another"):
        open_splits(tmp_path, ["train"])
    listing.write_bytes(kept.replace(b'"row', b'"raw', 1))
    with pytest.raises(IntegrityError):
        Split.open(tmp_path / "train.parquet")
    listing.unlink()
    with pytest.raises(IntegrityError, match="found another"):
        open_splits(tmp_path, ["train"])
    with pytest.raises(InputError, match=r"_split.json: expected a file, found none"):
        Split.open(tmp_path / "train.parquet")


def test_parts_that_hold_no_whole_spans_are_refused(tmp_path):
    with pytest.raises(IntegrityError, match=r"in parts of whole spans of 2, found parts of \[3, 3, 3, 1\]"):
        Split.open(write(tmp_path / "train.parquet", 3))


@pytest.mark.parametrize("damage", ["swapped", "missing", "flipped", "cut"])
def test_a_part_that_is_not_what_it_was_is_named(tmp_path, damage):
    folder = write(tmp_path / "train.parquet")
    first, second = folder / "part-00000.parquet", folder / "part-00001.parquet"
    data = bytearray(second.read_bytes())
    if damage == "missing":
        second.unlink()
    else:
        data[data.index(VALUES[5].tobytes())] ^= 1
        second.write_bytes({"swapped": first.read_bytes(), "flipped": data, "cut": data[:100]}[damage])
    split = Split.open(folder)
    assert split.read(0).tolist() == VALUES[:2].tolist(), "what is sound is read"
    with pytest.raises(IntegrityError, match="rows 4 to 5" if damage == "flipped" else "part-00001.parquet"):
        split.read(2)


@pytest.mark.parametrize("room", ["", "1"])
def test_a_store_gives_the_same_rows_and_is_asked_once_where_they_are_kept_nearby(tmp_path, stored, monkeypatch, room):
    """A file and a folder; a second reader of the same rows asks for nothing but what tells whether they are the same."""
    monkeypatch.setattr(nearby, "_room", None)
    nearby.use(tmp_path / "nearby", room)
    write(tmp_path / "train.parquet")
    write_split(tmp_path / "valid.parquet", [ROWS], **vars(SHAPE) | {"role": "valid"})
    bind_splits(tmp_path, ["train", "valid"])
    asked, ranges = [], ObjectPlace.read_range
    monkeypatch.setattr(ObjectPlace, "read_range", lambda place, *given: (asked.append(place.name), ranges(place, *given))[1])
    for name, other in (("train", "valid"), ("valid", "train")):
        split = open_splits(stored, [name])[name]
        before = len(asked)
        assert [name for span in range(5) for name in split.ids(span)] == IDS
        assert len(asked) > before or (room and name == "valid"), f"{other} has the same spans"
        before = len(asked)
        assert split.read_all().tolist() == VALUES.tolist()
        assert len(asked) == before or not room
        assert split.labels().tolist() == LABELS.tolist()


def test_the_listing_is_plain_json(tmp_path):
    found = json.loads((write(tmp_path / "train.parquet") / LISTING).read_bytes())
    assert [(part["name"], part["rows"]) for part in found["parts"]] == [
        ("part-00000.parquet", 4), ("part-00001.parquet", 4), ("part-00002.parquet", 2),
    ]  # fmt: skip
    assert (found["version"], found["rows"], found["span"]) == (6, 10, 2)


def test_a_part_is_no_path_out_of_its_folder(tmp_path):
    """As a list of parts might say that somebody else has made."""
    folder = write(tmp_path / "train.parquet")
    said = json.loads((folder / LISTING).read_bytes())
    del said["digest"]
    said["parts"][1]["name"] = "../../elsewhere.parquet"
    (folder / LISTING).write_bytes(facts.sealed(said))
    with pytest.raises(IntegrityError, match=r"parts: expected part-00001.parquet, found '../../elsewhere.parquet'"):
        Split.open(folder)
