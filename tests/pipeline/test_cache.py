"""The cache on disk: what plain zarr reads from it, resuming, sealing, and refusing damage."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import zarr

from pipeline import files
from pipeline.cache import Cache
from pipeline.errors import BusyError, InputError, IntegrityError
from pipeline.layout import Layout
from pipeline.manifest import Extent, Manifest, Record, differences, fingerprint
from pipeline.work import Work

CLASSES, SPAN = 3, 4
EXTENTS = {"transfer": Extent(10, 2, "t"), "valid": Extent(4, 1, "v"), "test": Extent(3, 1, "e")}


def identity(dtype="float32") -> dict:
    layout = Layout.plan(CLASSES, dtype, SPAN)
    return {"classes": ["x", "y", "z"], "teacher": {"weights_sha256": "w"}, "layout": layout.facts()}


def logits(split: str) -> np.ndarray:
    """(views, rows, classes) float32, all different."""
    extent = EXTENTS[split]
    generator = np.random.default_rng(len(split))
    return generator.normal(size=(extent.views, extent.rows, CLASSES)).astype(np.float32)


def parts():
    for split, extent in EXTENTS.items():
        for view in range(extent.views):
            for span in range(-(-extent.rows // SPAN)):
                yield split, view, span


def fill(work: Work, only=None) -> int:
    """Publish what is missing; returns how many spans that were."""
    published = 0
    for split, view, span in parts():
        if (only is None or (split, view, span) in only) and not work.done(split, view, span, f"rows-{split}-{span}"):
            work.publish(split, view, span, f"rows-{split}-{span}", logits(split)[view, span * SPAN : (span + 1) * SPAN])
            published += 1
    return published


def sealed(tmp_path: Path, dtype="float32") -> Path:
    out = tmp_path / "caches/a"
    with Work.hold(tmp_path / "work", "a", identity(dtype), Layout.plan(CLASSES, dtype, SPAN)) as work:
        fill(work)
        work.seal(out, EXTENTS)
    return out


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def span_file(cache: Path, split="transfer", view=1, span=1) -> Path:
    return cache / "logits.zarr" / split / "c" / str(view) / str(span) / "0"


# ---------------------------------------------------------------- format


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


def test_float16_is_rounded_once(tmp_path):
    cache = Cache.open(sealed(tmp_path, "float16"))
    assert (cache.read("transfer") == logits("transfer").astype(np.float16).astype(np.float32)).all()


def test_chunks_are_powers_of_two_within_a_megabyte():
    assert Layout.plan(10, "float32", 8192).chunk == 8192
    assert Layout.plan(1000, "float32", 8192).chunk == 256
    assert Layout.plan(1000, "float16", 8192).chunk == 512
    assert Layout.plan(10_000_000, "float32", 256).chunk == 1
    with pytest.raises(InputError, match="float32 or float16"):
        Layout.plan(10, "bfloat16", 8192)


def test_golden_span():
    """One row of two classes, chunk and span of one row: values, their crc32c, the index and its crc32c."""
    layout = Layout(classes=2, dtype="float32", span=1, chunk=1)
    data = layout.encode(np.array([[1.0, -2.0]], np.float32))
    assert data.hex() == GOLDEN
    assert layout.decode(data, 1).tolist() == [[1.0, -2.0]]


# f32(1.0) f32(-2.0) crc32c | offset 0, length 12 as u64 | crc32c of the index; made with struct and google-crc32c.
GOLDEN = "0000803f000000c0c9f236aa00000000000000000c000000000000005d1c5621"


@pytest.mark.parametrize("shape", [(4, CLASSES + 1), (4, CLASSES - 1), (SPAN + 1, CLASSES), (0, CLASSES)])
def test_blocks_of_another_shape_are_never_encoded(shape):
    with pytest.raises(ValueError, match="rows of 3 logits"):
        Layout.plan(CLASSES, "float32", SPAN).encode(np.zeros(shape, np.float32))


# ---------------------------------------------------------------- writing and resuming


def test_resume_computes_only_what_is_missing_and_gives_the_same_bytes(tmp_path):
    whole = sealed(tmp_path / "whole")
    every = list(parts())
    for count in range(len(every)):
        root = tmp_path / str(count)
        layout = Layout.plan(CLASSES, "float32", SPAN)
        with Work.hold(root / "work", "a", identity(), layout) as work:
            assert fill(work, every[:count]) == count
        with Work.hold(root / "work", "a", identity(), layout) as work:
            assert fill(work) == len(every) - count
            work.seal(root / "out", EXTENTS)
        assert tree(root / "out") == tree(whole)


def test_sealing_again_links_and_computes_nothing(tmp_path):
    out = sealed(tmp_path)
    before = tree(out)
    inode = span_file(out).stat().st_ino
    with Work.hold(tmp_path / "work", "a", identity(), Layout.plan(CLASSES, "float32", SPAN)) as work:
        assert fill(work) == 0
        work.seal(out, EXTENTS)
    assert tree(out) == before
    assert span_file(out).stat().st_ino == inode


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "missing", "record"])
def test_damaged_work_is_computed_again(tmp_path, damage):
    before = tree(sealed(tmp_path))
    folder = tmp_path / "work" / fingerprint(identity())
    path = folder / "spans/transfer/c/1/1/0"
    data = path.read_bytes()
    path.unlink()  # the sealed cache shares the file
    if damage == "record":
        path.write_bytes(data)
        (folder / "records/transfer-1-1.json").write_text("{")
    elif damage != "missing":
        path.write_bytes({"flip": data[:9] + bytes([data[9] ^ 1]) + data[10:], "truncate": data[:-1], "empty": b""}[damage])
    with Work.hold(tmp_path / "work", "a", identity(), Layout.plan(CLASSES, "float32", SPAN)) as work:
        assert fill(work) == 1
        work.seal(tmp_path / "again", EXTENTS)
    assert tree(tmp_path / "again") == before


def test_bytes_without_a_record_are_never_adopted(tmp_path):
    out = sealed(tmp_path)
    folder = tmp_path / "work" / fingerprint(identity())
    (folder / "records/transfer-0-2.json").unlink()
    with Work.hold(tmp_path / "work", "a", identity(), Layout.plan(CLASSES, "float32", SPAN)) as work:
        assert not (folder / "spans/transfer/c/0/2/0").exists()
        assert fill(work) == 1
    assert Cache.open(out).read("transfer").tobytes() == logits("transfer").tobytes()


def test_rows_that_changed_are_computed_again(tmp_path):
    sealed(tmp_path)
    with Work.hold(tmp_path / "work", "a", identity(), Layout.plan(CLASSES, "float32", SPAN)) as work:
        assert work.done("transfer", 0, 0, "rows-transfer-0")
        assert not work.done("transfer", 0, 0, "other rows")
        assert not work.done("transfer", 0, 0, "rows-transfer-0")


@pytest.mark.parametrize(("dtype", "value"), [("float32", np.nan), ("float32", np.inf), ("float16", 70_000.0)])
def test_what_cannot_be_held_is_refused_by_row_and_not_recorded(tmp_path, dtype, value):
    block = np.zeros((4, CLASSES), np.float32)
    block[2, 1] = value
    with Work.hold(tmp_path / "work", "a", identity(dtype), Layout.plan(CLASSES, dtype, SPAN)) as work:
        with pytest.raises(IntegrityError, match="transfer view 0, row 6, class 1.*finite logit"):
            work.publish("transfer", 0, 1, "rows", block)
        assert not work.done("transfer", 0, 1, "rows")
        assert not list(work.folder.rglob("*-0-1*"))


def test_two_captures_of_one_cache(tmp_path):
    layout = Layout.plan(CLASSES, "float32", SPAN)
    with Work.hold(tmp_path, "a", identity(), layout), pytest.raises(BusyError, match="capture of a"):  # noqa: SIM117
        with Work.hold(tmp_path, "a", identity(), layout):
            pass


def test_only_sealed_work_of_the_same_cache_is_cleared(tmp_path):
    """a is sealed, then sealed again with new weights; b, and an unfinished capture for a, stay as they are."""
    layout = Layout.plan(CLASSES, "float32", SPAN)

    def work_on(weights: str, out: str | None) -> None:
        facts = identity() | {"teacher": {"weights_sha256": weights}}
        with Work.hold(tmp_path / "work", "a", facts, layout) as work:
            fill(work)
            if out:
                work.seal(tmp_path / out, EXTENTS)
                work.clear_former(tmp_path / out)

    work_on("unfinished", None)
    work_on("old", "a")
    work_on("other", "b")
    work_on("new", "a")
    left = {json.loads(path.read_text())["teacher"]["weights_sha256"] for path in tmp_path.glob("work/*/identity.json")}
    assert left == {"unfinished", "other", "new"}


# ---------------------------------------------------------------- the manifest


def test_manifest_survives_a_round_trip(tmp_path):
    out = sealed(tmp_path)
    manifest = Manifest.read(out)
    assert manifest.extents == EXTENTS
    assert len(manifest.records) == len(list(parts()))
    assert manifest.to_json() == (out / "manifest.json").read_bytes()
    assert all(
        record.sha256 == files.sha256_file(span_file(out, record.split, record.view, record.span))
        for record in manifest.records
    )


def test_manifest_names_no_clock_and_no_host(tmp_path):
    assert tree(sealed(tmp_path / "one")) == tree(sealed(tmp_path / "two"))
    text = (tmp_path / "one/caches/a/manifest.json").read_text()
    assert os.uname().nodename not in text or len(os.uname().nodename) < 3
    assert str(tmp_path) not in text


@pytest.mark.parametrize(
    "edit",
    [
        lambda facts: facts["records"][0].update(sha256="0" * 64),
        lambda facts: facts["records"].pop(),
        lambda facts: facts["extents"]["transfer"].update(rows=9),
        lambda facts: facts["identity"].update(classes=["x", "z", "y"]),
        lambda facts: facts.update(digest="0" * 64),
        lambda facts: facts.update(format=2),
        lambda facts: facts.pop("records"),
        lambda facts: facts["records"][0].pop("sha256"),
    ],
)
def test_an_edited_manifest_is_refused(tmp_path, edit):
    path = sealed(tmp_path) / "manifest.json"
    facts = json.loads(path.read_text())
    edit(facts)
    path.write_text(json.dumps(facts))
    with pytest.raises(IntegrityError, match="manifest.json"):
        Manifest.read(path.parent)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b"null"])
def test_what_is_no_manifest_is_refused(tmp_path, content):
    path = sealed(tmp_path) / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="manifest"):
        Manifest.read(path.parent)


def test_differences_name_the_field():
    expected = {"views": {"policy": "shift(pixels=2)", "seed": 0}, "tile": 512}
    found = {"views": {"policy": "none()", "seed": 0}, "extra": [1]}
    assert differences(expected, found) == [
        ("views.policy", "shift(pixels=2)", "none()"),
        ("tile", 512, None),
        ("extra", None, [1]),
    ]


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
    with pytest.raises(IntegrityError, match="transfer/c/1/1/0: expected sha256"):
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
    with pytest.raises(IntegrityError, match="transfer/c/1/1/0: expected [0-9,]+ bytes, found"):
        Cache.open(out)


def test_edited_metadata_is_found_on_opening(tmp_path):
    out = sealed(tmp_path)
    path = out / "logits.zarr/transfer/zarr.json"
    path.write_text(path.read_text().replace("float32", "int32"))
    with pytest.raises(IntegrityError, match=r"transfer/zarr.json: expected sha256"):
        Cache.open(out)


def test_records_are_named_as_their_files():
    assert Record("valid", 1, 2, "r", 1, "s", 0.0, 1.0).name == "valid-1-2"
