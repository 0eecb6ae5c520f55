"""Splits on disk: digests, what is read, spans, damage."""

import hashlib
import json
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import images, png
from pipeline.base.errors import InputError, IntegrityError
from pipeline.data import pixels as image_pixels
from pipeline.data.inputs.array import Arrays
from pipeline.data.inputs.image import Images
from pipeline.data.inputs.kinds import Inputs
from pipeline.data.inputs.text import Texts
from pipeline.data.splitfile import Rows, write_split
from pipeline.data.splits import UNLABELLED, Split, inputs_digest, rows_digest, span_rows

IDS = ["a", "b", "c"]
BYTES = [b"one", b"two", b"three"]


GREY = Images("L", (1, 6, 6))


def write(path, *, stored=None, labels=None, inputs: Inputs = GREY, span=8192, **changes: Any) -> Split:
    """A split of ten rows; small images unless others are given."""
    encoded, own = images(10)
    encoded = encoded if stored is None else stored
    rows = Rows.of([f"row-{i}" for i in range(len(encoded))], encoded, np.array(own if labels is None else labels))
    write_split(path, [rows], **{"role": "train", "classes": ["x", "y", "z"]} | changes, inputs=inputs, span=span)
    return Split.open(path)


def rewrite(split: Split, table: pa.Table | None = None, **facts: bytes) -> None:
    """Write the file anew, with other rows or other facts in its footer."""
    held = {
        name.decode(): text for name, text in pq.read_metadata(split.path).metadata.items() if name.startswith(b"softcache")
    }
    table = pq.read_table(split.path) if table is None else table
    pq.write_table(table.replace_schema_metadata(held | facts), split.path)


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


def test_inputs_digest_changes_with_what_inputs_are_but_not_with_labels(tmp_path):
    every = [
        GREY, replace(GREY, decoder="other"), replace(GREY, fit="crop"), replace(GREY, fit="pad"), Images("RGB", (3, 6, 6)),
        Arrays("uint8", (1, 6, 6)), Arrays("int8", (1, 6, 6)), Arrays("uint8", (6, 6)), Texts(),
    ]  # fmt: skip
    digests = {inputs_digest(each, ["s"], []) for each in every}
    digests |= {inputs_digest(GREY, ["t"], []), inputs_digest(GREY, ["s", "t"], []), inputs_digest(GREY, ["s"], ["id"])}
    assert len(digests) == len(every) + 3
    first = write(tmp_path / "a.parquet")
    second = write(tmp_path / "b.parquet", labels=np.zeros(10, np.int64))
    assert first.inputs_digest == second.inputs_digest
    assert first.labels_digest != second.labels_digest


def test_inputs_digest_is_the_documented_one():
    """sha256 of canonical JSON: the facts by name, the digest of every span, the excluded ids."""
    said = '{"excluded":["bad"],"inputs":{"array_dtype":"int8","kind":"array","shape":[2,3]},"spans":["s"]}'
    assert inputs_digest(Arrays("int8", (2, 3)), ["s"], ["bad"]) == hashlib.sha256(said.encode()).hexdigest()


def test_inputs_digest_of_a_file_changes_with_one_bit_of_one_image(tmp_path):
    encoded, _ = images(10)
    flipped = [*encoded[:9], encoded[9][:-1] + bytes([encoded[9][-1] ^ 1])]
    assert write(tmp_path / "a.parquet").inputs_digest != write(tmp_path / "b.parquet", stored=flipped).inputs_digest


# ---------------------------------------------------------------- files


def test_round_trip(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (5, 6, 6), dtype=np.uint8)
    labels = np.array([0, 2, UNLABELLED, 1, 0])
    split = write(tmp_path / "s.parquet", stored=[png(p) for p in pixels], labels=labels, role="test")
    found = (split.role, split.rows, split.inputs, split.classes, split.span)
    assert found == ("test", 5, GREY, ("x", "y", "z"), 8192)
    assert (split.read_all() == pixels[:, None]).all()
    assert (split.labels() == labels).all()
    assert pq.read_table(split.path).column("label").to_pylist() == [0, 2, None, 1, 0]


def test_colour_keeps_its_channels(tmp_path):
    """They come first, though they lie side by side in memory, as images come out of a decoder."""
    pixels = np.random.default_rng(0).integers(0, 255, (2, 4, 5, 3), dtype=np.uint8)
    split = write(tmp_path / "s.parquet", stored=[png(p) for p in pixels], labels=[0, 1], inputs=Images("RGB", (3, 4, 5)))
    assert split.read_all().shape == (2, 3, 4, 5)
    assert (split.read_all() == pixels.transpose(0, 3, 1, 2)).all()


def test_arrays_come_back_as_they_were(tmp_path):
    numbers = np.random.default_rng(0).normal(size=(5, 2, 3)).astype("<f4")
    stored = [row.tobytes() for row in numbers]
    split = write(tmp_path / "s.parquet", stored=stored, labels=[0] * 5, inputs=Arrays("float32", (2, 3)), span=2)
    assert split.read_all().tobytes() == numbers.tobytes()
    assert split.read(1, np.array([1])).tolist() == numbers[[3]].tolist()
    assert pq.read_table(split.path).column_names == ["id", "array", "label"]


def test_texts_come_back_as_they_were(tmp_path):
    texts = ["one", "", "drei \n ÄÖ", "四"]
    stored = [text.encode() for text in texts]
    split = write(tmp_path / "s.parquet", stored=stored, labels=[0, 1, 2, 0], inputs=Texts(), span=2)
    assert split.read_all().tolist() == texts
    assert split.read(1, np.array([0])).tolist() == texts[2:3]
    assert pq.read_table(split.path).column("text").to_pylist() == texts


def test_spans_fit_64_megabytes_of_logits_and_of_inputs():
    """2²⁶ bytes; float32 logits take four each."""
    assert [span_rows(classes, 784) for classes in (10, 1000, 10_000, 1_000_000, 100_000_000)] == [8192, 8192, 1024, 16, 1]
    assert span_rows(10, 3 * 224 * 224) == 256  # 445 would fit
    assert [span_rows(10, 2**size) for size in (13, 14, 25, 26, 27)] == [8192, 4096, 2, 1, 1]
    assert span_rows(10, 2**14 + 1) == 2048


def test_some_images_of_a_span(tmp_path, monkeypatch):
    encoded, _ = images(10)
    split = write(tmp_path / "s.parquet", stored=encoded, span=4)
    every, decode = split.read_all(), image_pixels.decode
    monkeypatch.setattr(image_pixels, "decode", lambda data, *given: seen.append(encoded.index(data)) or decode(data, *given))
    seen: list[int] = []
    assert (split.read(1, np.array([1, 3])) == every[[5, 7]]).all()
    assert (split.read(2, np.array([1])) == every[[9]]).all()
    assert seen == [5, 7, 9], "no other is decoded"


def test_an_image_that_no_longer_decodes_is_named(tmp_path, monkeypatch):
    """By its row in the split and its id, whichever rows are asked for."""
    encoded, _ = images(10)
    split = write(tmp_path / "s.parquet", stored=[*encoded[:7], b"no image", *encoded[8:]], span=4)
    for wanted in (None, np.array([0, 3])):
        with pytest.raises(InputError, match=r"s\.parquet, row 7 \(id row-7\): expected a PNG, JPEG or WebP image"):
            split.read(1, wanted)


def test_an_image_changed_after_ingest_is_noticed(tmp_path):
    split = write(tmp_path / "s.parquet")
    table = pq.read_table(split.path)
    rows = table.to_pylist()
    rows[3]["image"]["bytes"] = rows[4]["image"]["bytes"]
    rewrite(split, table.from_pylist(rows, schema=table.schema))
    with pytest.raises(IntegrityError, match="rows 0 to 9"):
        Split.open(split.path).read_all()
    with pytest.raises(IntegrityError, match="rows 0 to 9"):
        Split.open(split.path).read(0, np.array([7]))  # beside it


def test_a_label_changed_after_ingest_is_noticed(tmp_path):
    split = write(tmp_path / "s.parquet")
    table = pq.read_table(split.path)
    rows = table.to_pylist()
    rows[3]["label"] = 2 - rows[3]["label"]
    rewrite(split, table.from_pylist(rows, schema=table.schema))
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
    text = json.dumps(json.loads(pq.read_metadata(split.path).metadata[b"softcache"]) | {"version": 99}).encode()
    rewrite(split, softcache=text, softcache_sha256=hashlib.sha256(text).hexdigest().encode())
    with pytest.raises(InputError, match="expected format 6, found format 99"):
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
    rewrite(split, softcache=pq.read_metadata(split.path).metadata[b"softcache"].replace(b'"x"', b'"w"'))
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
