"""The cache on disk: what it gives back, what plain zarr reads from it, and damage that is refused."""

import numpy as np
import pytest
import zarr

from caches import CLASSES, EXTENTS, SPAN, logits, sealed, span_file
from pipeline.base.errors import IntegrityError
from pipeline.cache.reader import Cache


def test_reads_back_bitwise(tmp_path):
    cache = Cache.open(sealed(tmp_path))
    for split in EXTENTS:
        assert cache.read(split).tobytes() == logits(split).tobytes()
    assert cache.read("transfer", views=1).tobytes() == logits("transfer")[:1].tobytes()


def test_plain_zarr_reads_the_same(tmp_path):
    out = sealed(tmp_path)
    for split in EXTENTS:
        array = zarr.open_array(out / "logits.zarr" / split, mode="r", zarr_format=3)
        assert array[:].tobytes() == logits(split).tobytes()
    assert array.shards == (1, SPAN, CLASSES)
    assert array.metadata.dimension_names == ("view", "row", "class")


def test_float16_is_rounded_once(tmp_path):
    cache = Cache.open(sealed(tmp_path, "float16"))
    assert (cache.read("transfer") == logits("transfer").astype(np.float16).astype(np.float32)).all()


# ---------------------------------------------------------------- damage


def test_an_unsealed_cache_is_refused(tmp_path):
    with pytest.raises(IntegrityError, match=r"a sealed cache, found no manifest.json.*softcache capture"):
        Cache.open(tmp_path)


@pytest.mark.parametrize("where", [0, 5, 40, -1, -30])
def test_a_flipped_bit_is_found_when_read(tmp_path, where):
    out = sealed(tmp_path)
    path = span_file(out)
    data = bytearray(path.read_bytes())
    data[where] ^= 4
    path.unlink()
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"transfer/c/1/1/0 \(transfer view 1, rows 4 to 7\): expected sha256"):
        Cache.open(out).read("transfer")


def test_swapped_spans_are_found(tmp_path):
    out = sealed(tmp_path)
    first, second = span_file(out, span=0), span_file(out, span=1)
    first.rename(tmp_path / "aside")
    second.rename(first)
    (tmp_path / "aside").rename(second)
    with pytest.raises(IntegrityError, match="sha256"):
        Cache.open(out).read("transfer")


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "folder"])
def test_a_span_of_the_wrong_size_is_found_on_opening(tmp_path, damage):
    out = sealed(tmp_path)
    path = span_file(out)
    data = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes(b"" if damage == "empty" else data[:-1])
    with pytest.raises(
        IntegrityError,
        match=r"transfer/c/1/1/0 \(transfer view 1, rows 4 to 7\): expected 132 bytes, found .* \(1 of 11 files missing",
    ):
        Cache.open(out)


def test_edited_metadata_is_found_on_opening(tmp_path):
    out = sealed(tmp_path)
    path = out / "logits.zarr/transfer/zarr.json"
    path.write_text(path.read_text().replace("float32", "int32"))
    with pytest.raises(IntegrityError, match=r"transfer/zarr.json: expected sha256"):
        Cache.open(out)
