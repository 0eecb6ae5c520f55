"""The layout: the bytes of a shard by hand and as zarr itself would write them, and every way in which they can be damaged."""

import struct

import google_crc32c
import numpy as np
import pytest
import zarr

from caches import CLASSES, SPAN, logits, sealed
from conftest import tree
from pipeline.cache.layout import Damaged, Layout, Unholdable, ends


def test_spans_are_what_zarr_itself_would_write(tmp_path):
    out = sealed(tmp_path)
    source = zarr.open_array(out / "logits.zarr/transfer", mode="r", zarr_format=3)
    path = tmp_path / "by-zarr"
    twin = zarr.create_array(
        path,
        shape=source.shape,
        chunks=source.chunks,
        shards=source.shards,
        dtype=source.dtype,
        compressors=source.compressors,
        filters=None,
        fill_value=np.nan,
        config={"write_empty_chunks": True},
        dimension_names=("view", "row", "class"),
    )
    for view in range(2):
        for start in range(0, 10, SPAN):
            twin[view, start : start + SPAN] = logits("transfer")[view, start : start + SPAN]
    assert tree(path) == tree(out / "logits.zarr/transfer")


def test_chunks_are_powers_of_two_within_a_megabyte_and_a_sixteenth_of_a_span():
    assert Layout.plan((10,), "float32", 8192).chunk == 512
    assert Layout.plan((1000,), "float32", 8192).chunk == 256
    assert Layout.plan((1000,), "float16", 8192).chunk == 512
    assert Layout.plan((10_000_000,), "float32", 256).chunk == 1
    assert [Layout.plan((10,), "float32", span).chunk for span in (1, 8, 16, 32, 4096)] == [1, 1, 1, 2, 256]


def test_golden_span():
    """One row of two classes, chunk and span of one row: values, their crc32c, the index and its crc32c."""
    layout = Layout(shape=(2,), dtype="float32", span=1, chunk=1)
    data = layout.encode(np.array([[1.0, -2.0]], np.float32))
    assert data.hex() == GOLDEN
    assert layout.decode(data, 1).tolist() == [[1.0, -2.0]]


# f32(1.0) f32(-2.0) crc32c | offset 0, length 12 as u64 | crc32c of the index; made with struct and google-crc32c.
GOLDEN = "0000803f000000c0c9f236aa00000000000000000c000000000000005d1c5621"


@pytest.mark.parametrize("shape", [(4, CLASSES + 1), (4, CLASSES - 1), (SPAN + 1, CLASSES), (0, CLASSES)])
def test_blocks_of_another_shape_are_never_encoded(shape):
    with pytest.raises(ValueError, match="rows of .3,. numbers"):
        Layout.plan((CLASSES,), "float32", SPAN).encode(np.zeros(shape, np.float32))


def test_float16_holds_what_rounds_to_its_largest_number():
    layout = Layout.plan((CLASSES,), "float16", SPAN)
    assert layout.rounded(np.array([[65_519.0, -65_519.0, 0]], np.float32)).tolist() == [[65_504, -65_504, 0]]


def test_the_size_of_a_shard_is_known_before(tmp_path):
    for classes, span in ((3, 4), (1000, 1024)):
        layout = Layout.plan((classes,), "float16", span)
        for rows in (1, span // 16 + 1, span - 1, span):
            assert layout.shard_bytes(rows) == len(layout.encode(np.zeros((rows, classes), np.float16)))


@pytest.mark.parametrize(("value", "place"), [(np.nan, (1, 2)), (np.inf, (0, 0)), (-np.inf, (2, 1)), (65_520.0, (2, 2))])
def test_the_first_logit_that_cannot_be_held_is_named(value, place):
    """float16 ends at 65,504; 65,520 is the first number that rounds to infinity, and fits float32."""
    block = np.zeros((3, CLASSES), np.float32)
    block[place] = block[2, 2] = value
    with pytest.raises(Unholdable) as caught:
        Layout.plan((CLASSES,), "float16", SPAN).rounded(block)
    assert (caught.value.row, caught.value.column) == place
    if np.isfinite(value):
        assert Layout.plan((CLASSES,), "float32", SPAN).rounded(block) is block


# ---------------------------------------------------------------- what is stored, by hand

TWO = Layout(shape=(3,), dtype="float16", span=4, chunk=2)
BLOCK = np.arange(9, dtype=np.float16).reshape(3, 3)


def checked(data: bytes) -> bytes:
    return data + struct.pack("<I", google_crc32c.value(data))


def by_hand(*chunks: bytes, entries: list[tuple[int, int]] | None = None) -> bytes:
    """A shard as the zarr specification says it: the chunks, and an index of (offset, size) at the end, checksums on all."""
    entries = entries or [(sum(map(len, chunks[:number])), len(chunk)) for number, chunk in enumerate(chunks)]
    return b"".join(chunks) + checked(b"".join(struct.pack("<QQ", *entry) for entry in entries))


def test_a_shard_by_hand():
    """Three rows in chunks of two: the second is filled up with NaN."""
    first = checked(struct.pack("<6e", 0, 1, 2, 3, 4, 5))
    last = checked(struct.pack("<3e", 6, 7, 8) + bytes.fromhex("007e") * 3)
    data = TWO.encode(BLOCK)
    assert data == by_hand(first, last)
    assert TWO.shard_bytes(3) == TWO.shard_bytes(4) == len(data) == 2 * (12 + 4) + 2 * 16 + 4
    assert TWO.decode(data, 3).tolist() == BLOCK.tolist()
    assert TWO.decode(by_hand(last, first, entries=[(16, 16), (0, 16)]), 3).tolist() == BLOCK.tolist()  # in any order
    out = np.full((3, 3), -1, np.float16)
    assert TWO.decode(data, 3, out) is out
    assert (out == BLOCK).all()


def test_chunks_past_the_last_row_are_left_out():
    """The index then has 2⁶⁴ - 1 for offset and size, as the zarr specification says; a file that has them reads the same."""
    first = checked(struct.pack("<6e", 0, 1, 2, 3, 4, 5))
    data = TWO.encode(BLOCK[:2])
    assert data == by_hand(first, entries=[(0, 16), (2**64 - 1, 2**64 - 1)])
    assert TWO.shard_bytes(2) == TWO.shard_bytes(1) == len(data) == 12 + 4 + 2 * 16 + 4
    filled = by_hand(first, checked(bytes.fromhex("007e") * 6))
    assert TWO.decode(data, 2).tolist() == TWO.decode(filled, 2).tolist() == BLOCK[:2].tolist()


CHUNKS = [checked(struct.pack("<6e", *range(start, start + 6))) for start in (0, 6)]
SHORT = checked(struct.pack("<5e", *range(5)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (by_hand(*CHUNKS)[:-1], "crc32c"),
        (by_hand(*CHUNKS) + b"\0", "crc32c"),
        (by_hand(*CHUNKS)[4:], "crc32c"),
        (by_hand(SHORT, CHUNKS[1]), "chunk from row 0: 14 bytes, not 16"),
        (by_hand(CHUNKS[0], SHORT), "chunk from row 2: 14 bytes, not 16"),
        (by_hand(*CHUNKS, entries=[(0, 16), (2**64 - 1, 2**64 - 1)]), "chunk from row 2: 18446744073709551615 bytes"),
        (by_hand(*CHUNKS, entries=[(0, 16), (8, 16)]), "crc32c"),
    ],
    ids=["cut", "longer", "shifted", "first short", "last short", "no chunk", "other place"],
)
def test_what_is_no_shard_is_damaged(data, message):
    with pytest.raises(Damaged, match=message):
        TWO.decode(data, 4)


def test_any_flipped_bit_is_found():
    data = TWO.encode(BLOCK)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Damaged):
            TWO.decode(bytes(damaged), 3)


def test_stored_numbers_are_off_by_no_more_than_rounding_can_make_them():
    """Numbers of every size that float16 has, down to its smallest, 2⁻²⁴, and below."""
    sizes = 2.0 ** np.array([-28, -25, -22, -16, -10, -4, 2, 8])
    numbers = (np.random.default_rng(0).uniform(-1, 1, (500, 8)) * sizes).astype(np.float32)
    kept = Layout.plan((8,), "float16", 512)
    off = np.abs(kept.rounded(numbers).astype(np.float32) - numbers)
    bound = kept.rounding(kept.rounded(numbers))
    assert (off <= bound).all()
    assert (off.max(axis=0) > bound.max(axis=0) / 4)[1:].all()  # the first ones are all stored as 0
    assert not Layout.plan((8,), "float32", 512).rounding(numbers).any()


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("numbers", [[3, 0, 7], [-3, 0, 7, -5], [-3, -1, -2], [5], [-5], [0, 0]])
def test_ends(numbers, dtype):
    assert ends(np.array(numbers, dtype)) == (min(numbers), max(numbers))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("odd", [np.nan, -np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_at_an_end(odd, dtype):
    for others in ([1, 2], [-1, -2], [-1, 1]):
        assert not np.isfinite(ends(np.array([others[0], odd, others[1]], dtype))).all()
