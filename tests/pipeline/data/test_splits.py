"""Split files: round trip, digests, row groups and spans, damage."""

import hashlib
import json
import struct

import numpy as np
import pyarrow.parquet as pq
import pytest

from conftest import images, png
from pipeline.base.errors import InputError, IntegrityError
from pipeline.data.pixels import decode
from pipeline.data.splits import UNLABELLED, Split, inputs_digest, rows_digest, span_rows

IDS = ["a", "b", "c"]
BYTES = [b"one", b"two", b"three"]


def write(path, count=10, classes=("x", "y", "z"), **changes):
    encoded, labels = images(count)
    facts = {"ids": [f"row-{i}" for i in range(count)], "images": encoded, "labels": np.array(labels)} | changes
    Split.write(path, **{"role": "train", **facts}, classes=classes, mode="L", size=(6, 6))
    return Split.open(path)


# ---------------------------------------------------------------- digests


def test_rows_digest_is_the_documented_one():
    digest = hashlib.sha256()
    for name, data in zip(IDS, BYTES, strict=True):
        digest.update(struct.pack("<QQ", len(name), len(data)) + name.encode() + data)
    assert rows_digest(IDS, BYTES) == digest.hexdigest()


@pytest.mark.parametrize(
    ("ids", "data"),
    [
        (["a", "b", "d"], BYTES),
        (IDS, [b"one", b"two", b"threE"]),
        (["b", "a", "c"], [b"two", b"one", b"three"]),
        (["ao", "b", "c"], [b"ne", b"two", b"three"]),
        (IDS[:2], BYTES[:2]),
    ],
    ids=["id", "byte", "order", "border", "fewer"],
)
def test_rows_digest_changes_with(ids, data):
    assert rows_digest(ids, data) != rows_digest(IDS, BYTES)


def test_inputs_digest_changes_with_decoder_and_mode_but_not_with_labels(tmp_path):
    base = inputs_digest("pillow", "L", (1, 6, 6), ["s"], [])
    assert base != inputs_digest("other", "L", (1, 6, 6), ["s"], [])
    assert base != inputs_digest("pillow", "RGB", (3, 6, 6), ["s"], [])
    first = write(tmp_path / "a.parquet")
    second = write(tmp_path / "b.parquet", labels=np.zeros(10, np.int64))
    assert first.inputs_digest == second.inputs_digest
    assert first.labels_digest != second.labels_digest


def test_inputs_digest_of_a_file_changes_with_one_bit_of_one_image(tmp_path):
    encoded, _ = images(10)
    flipped = [*encoded[:9], encoded[9][:-1] + bytes([encoded[9][-1] ^ 1])]
    assert write(tmp_path / "a.parquet").inputs_digest != write(tmp_path / "b.parquet", images=flipped).inputs_digest


# ---------------------------------------------------------------- files


def test_round_trip(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (5, 6, 6), dtype=np.uint8)
    labels = np.array([0, 2, UNLABELLED, 1, 0])
    path = tmp_path / "s.parquet"
    facts = {"role": "test", "classes": ["x", "y", "z"], "mode": "L", "size": (6, 6)}
    Split.write(path, list("abcde"), [png(p) for p in pixels], labels, **facts)
    split = Split.open(path)
    found = (split.role, split.rows, split.shape, split.classes, split.span)
    assert found == ("test", 5, (1, 6, 6), ("x", "y", "z"), 8192)
    assert (split.read_all() == pixels[:, None]).all()
    assert (split.labels() == labels).all()
    assert pq.read_table(path).column("label").to_pylist() == [0, 2, None, 1, 0]


def test_colour_keeps_its_channels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    assert (decode(png(pixels), "RGB", "here") == pixels.transpose(2, 0, 1)).all()


def test_spans_fit_64_megabytes_between_their_bounds():
    assert span_rows(10) == 8192
    assert span_rows(1000) == 8192
    assert span_rows(10_000) == 1024
    assert span_rows(1_000_000) == 256
    assert span_rows(100_000_000) == 256


def test_row_groups_stay_small_and_inside_spans(tmp_path, monkeypatch):
    """With spans of 4 rows and room for three images in a row group: 3 + 1, 3 + 1, 2."""
    encoded, _ = images(1)
    monkeypatch.setattr("pipeline.data.splits.span_rows", lambda classes, row_bytes: 4)
    monkeypatch.setattr("pipeline.data.splits.ROW_GROUP_BYTES", 3 * len(encoded[0]))
    split = write(tmp_path / "s.parquet", images=encoded * 10)
    metadata = pq.ParquetFile(split.path).metadata
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [3, 1, 3, 1, 2]
    assert split.spans() == [(0, 4), (4, 8), (8, 10)]
    assert [len(split.images(span)) for span in range(3)] == [4, 4, 2]


def test_some_images_of_a_span(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.data.splits.span_rows", lambda classes, row_bytes: 4)
    split = write(tmp_path / "s.parquet")
    every = split.read_all()
    monkeypatch.setattr("pipeline.data.splits.decode", lambda *given: seen.append(given[2]) or decode(*given))
    seen = []
    assert (split.images(1, np.array([1, 3])) == every[[5, 7]]).all()
    assert (split.images(2, np.array([1])) == every[[9]]).all()
    assert [where.split(", ")[1] for where in seen] == [f"row {row} (id row-{row})" for row in (5, 7, 9)]


def test_an_image_changed_after_ingest_is_noticed(tmp_path):
    split = write(tmp_path / "s.parquet")
    table = pq.read_table(split.path)
    rows = table.to_pylist()
    rows[3]["image"]["bytes"] = rows[4]["image"]["bytes"]
    pq.write_table(table.from_pylist(rows, schema=table.schema), split.path)
    with pytest.raises(IntegrityError, match="rows 0 to 9"):
        Split.open(split.path).read_all()
    with pytest.raises(IntegrityError, match="rows 0 to 9"):
        Split.open(split.path).images(0, np.array([7]))  # beside it


def test_a_label_changed_after_ingest_is_noticed(tmp_path):
    split = write(tmp_path / "s.parquet")
    table = pq.read_table(split.path)
    rows = table.to_pylist()
    rows[3]["label"] = 2 - rows[3]["label"]
    pq.write_table(table.from_pylist(rows, schema=table.schema), split.path)
    with pytest.raises(IntegrityError, match="labels"):
        Split.open(split.path).labels()


def test_other_files_are_refused(tmp_path, source):
    with pytest.raises(InputError, match="no file"):
        Split.open(tmp_path / "none.parquet")
    with pytest.raises(InputError, match="another Parquet file"):
        Split.open(source)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(IntegrityError, match="Parquet"):
        Split.open(tmp_path / "text")


def test_an_unknown_version_is_refused(tmp_path):
    split = write(tmp_path / "s.parquet")
    table = pq.read_table(split.path)
    text = json.dumps(json.loads(table.schema.metadata[b"softcache"]) | {"version": 99})
    digest = hashlib.sha256(text.encode()).hexdigest()
    pq.write_table(table.replace_schema_metadata({"softcache": text, "softcache_sha256": digest}), split.path)
    with pytest.raises(InputError, match="expected format 5, found format 99"):
        Split.open(split.path)


def test_rows_that_are_trained_on_choose_nothing(tmp_path):
    write(tmp_path / "s.parquet").require_unfolded("keep: best")
    split = write(tmp_path / "s.parquet", folded=True)
    message = (
        r"keep: best: expected validation rows that are not training rows, found .*s\.parquet with the setting ingest\.fold\."
    )
    with pytest.raises(InputError, match=message):
        split.require_unfolded("keep: best")


def test_facts_changed_after_ingest_are_noticed(tmp_path):
    split = write(tmp_path / "s.parquet")
    table = pq.read_table(split.path)
    metadata = table.schema.metadata | {b"softcache": table.schema.metadata[b"softcache"].replace(b'"x"', b'"w"')}
    pq.write_table(table.replace_schema_metadata(metadata), split.path)
    with pytest.raises(IntegrityError, match="facts as ingest wrote them"):
        Split.open(split.path)


def test_any_flipped_bit_is_an_error_or_changes_nothing(tmp_path):
    """300 single-bit flips all over the file: never a traceback of pyarrow's, never another pixel, label or fact."""
    split = write(tmp_path / "s.parquet")
    pixels, labels = split.read_all(), split.labels()
    data = split.path.read_bytes()
    generator = np.random.default_rng(0)
    noticed = 0
    for position, bit in zip(generator.integers(0, len(data), 300), generator.integers(0, 8, 300), strict=True):
        damaged = bytearray(data)
        damaged[position] ^= 1 << bit
        split.path.write_bytes(damaged)
        try:
            found = Split.open(split.path)
            assert (found.read_all() == pixels).all()
            assert (found.labels() == labels).all()
            assert (found.classes, found.inputs_digest) == (split.classes, split.inputs_digest)
        except (InputError, IntegrityError):
            noticed += 1
    assert noticed > 100
