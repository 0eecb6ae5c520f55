"""The cache on disk: what plain zarr reads from it, resuming, sealing, and refusing damage."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import zarr

from conftest import tree
from pipeline.base import files
from pipeline.base.differences import differences
from pipeline.base.errors import BusyError, InputError, IntegrityError
from pipeline.cache.layout import Layout, Unholdable
from pipeline.cache.manifest import Extent, Manifest, fingerprint, parts
from pipeline.cache.reader import Cache
from pipeline.cache.writer import Work

CLASSES, SPAN = 3, 4
EXTENTS = {"transfer": Extent(10, 2, "t"), "valid": Extent(4, 1, "v"), "test": Extent(3, 1, "e")}


def identity(dtype="float32") -> dict:
    layout = Layout.plan(CLASSES, dtype, SPAN)
    return {
        "output": "raw logits",
        "teacher": {"model": "m", "weights_sha256": "w", "source_sha256": None},
        "classes": ["x", "y", "z"],
        "inputs": {"decoder": "d", "mode": "L", "shape": [1, 2, 2]},
        "views": {"policy": "none()", "seed": 0},
        "precision": "float32",
        "tile": 4,
        "code": {},
        "layout": layout.to_dict(),
    }


def logits(split: str) -> np.ndarray:
    """(views, rows, classes) float32, all different."""
    extent = EXTENTS[split]
    generator = np.random.default_rng(len(split))
    return generator.normal(size=(extent.views, extent.rows, CLASSES)).astype(np.float32)


DIGESTS = {split: [f"rows-{split}-{span}" for span in range(-(-extent.rows // SPAN))] for split, extent in EXTENTS.items()}
PARTS = list(parts(EXTENTS, SPAN))


def hold(tmp_path: Path, dtype="float32", out="caches/a", **facts):
    """The work of a cache `out`, both below tmp_path; facts: changes to its identity."""
    return Work.hold(tmp_path / "work", tmp_path / out, identity(dtype) | facts, Layout.plan(CLASSES, dtype, SPAN), EXTENTS)


def fill(work: Work, only=None, digests=DIGESTS) -> int:
    """Publish what is missing; returns how many spans that were."""
    missing = [part for part in work.resume(digests) if only is None or part in only]
    for split, view, span in missing:
        work.publish(split, view, span, digests[split][span], logits(split)[view, span * SPAN : (span + 1) * SPAN])
    return len(missing)


def sealed(tmp_path: Path, dtype="float32") -> Path:
    with hold(tmp_path, dtype) as work:
        fill(work)
        work.seal()
    return tmp_path / "caches/a"


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
    for count in range(len(PARTS)):
        root = tmp_path / str(count)
        with hold(root) as work:
            assert fill(work, PARTS[:count]) == count
        with hold(root) as work:
            assert fill(work) == len(PARTS) - count
            work.seal()
        assert tree(root / "caches/a") == tree(whole)


def test_sealing_again_links_and_computes_nothing(tmp_path, caplog):
    out = sealed(tmp_path)
    before = tree(out)
    inode = span_file(out).stat().st_ino
    with caplog.at_level("INFO"), hold(tmp_path) as work:
        assert fill(work) == 0
        work.seal()
    assert caplog.messages == [f"a: already captured: all {len(PARTS)} spans verified, to be linked again"]
    assert tree(out) == before
    assert span_file(out).stat().st_ino == inode


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "missing", "folder", "record"])
def test_damaged_work_is_computed_again(tmp_path, damage, caplog):
    out = sealed(tmp_path)
    before = tree(out)
    folder = tmp_path / "work" / fingerprint(identity())
    path = folder / "spans/transfer/c/1/1/0"
    data = path.read_bytes()
    path.unlink()  # the sealed cache shares the file
    if damage == "record":
        path.write_bytes(data)
        (folder / "records/transfer-1-1.json").write_text("{")
    elif damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes({"flip": data[:9] + bytes([data[9] ^ 1]) + data[10:], "truncate": data[:-1], "empty": b""}[damage])
    with caplog.at_level("INFO"), hold(tmp_path) as work:
        assert fill(work) == 1
        work.seal()
    assert caplog.messages == ["a: resuming: 7/8 spans verified, 0 unrecorded and 1 damaged or outdated discarded"]
    assert tree(out) == before


def test_bytes_without_a_record_are_never_adopted(tmp_path, caplog):
    out = sealed(tmp_path)
    folder = tmp_path / "work" / fingerprint(identity())
    (folder / "records/transfer-0-2.json").unlink()
    with caplog.at_level("INFO"), hold(tmp_path) as work:
        missing = work.resume(DIGESTS)
        assert missing == [("transfer", 0, 2)]
        assert not (folder / "spans/transfer/c/0/2/0").exists()
    assert caplog.messages == ["a: resuming: 7/8 spans verified, 1 unrecorded and 0 damaged or outdated discarded"]
    assert Cache.open(out).read("transfer").tobytes() == logits("transfer").tobytes()


def test_a_record_in_anothers_place_is_never_adopted(tmp_path):
    """Two spans of equal rows: their records and their bytes swapped are whole, and wrong."""
    sealed(tmp_path)
    folder = tmp_path / "work" / fingerprint(identity())
    for one, other in ((f"{folder}/records/transfer-0-1.json", f"{folder}/records/transfer-1-1.json"),):
        Path(one).rename(f"{one}.aside")
        Path(other).rename(one)
        Path(f"{one}.aside").rename(other)
    with hold(tmp_path) as work:
        assert work.resume(DIGESTS) == [("transfer", 0, 1), ("transfer", 1, 1)]


def test_rows_that_changed_are_computed_again(tmp_path):
    sealed(tmp_path)
    changed = DIGESTS | {"transfer": ["other rows", *DIGESTS["transfer"][1:]]}
    with hold(tmp_path) as work:
        assert work.resume(changed) == [("transfer", 0, 0), ("transfer", 1, 0)]
    with hold(tmp_path) as work:
        assert work.resume(DIGESTS) == [("transfer", 0, 0), ("transfer", 1, 0)]


@pytest.mark.parametrize(("dtype", "value"), [("float32", np.nan), ("float32", np.inf), ("float16", 65_520.0)])
def test_what_cannot_be_held_is_refused_by_row_and_not_recorded(tmp_path, dtype, value):
    block = np.zeros((4, CLASSES), np.float32)
    block[2, 1] = value
    with hold(tmp_path, dtype) as work:
        with pytest.raises(Unholdable) as caught:
            work.publish("transfer", 0, 1, "rows", block)
        assert (caught.value.row, caught.value.column, str(caught.value.value)) == (2, 1, str(value))
        assert not list(work.folder.rglob("*-0-1*"))


def test_float16_holds_what_rounds_to_its_largest_number():
    layout = Layout.plan(CLASSES, "float16", SPAN)
    assert layout.rounded(np.array([[65_519.0, -65_519.0, 0]], np.float32)).tolist() == [[65_504, -65_504, 0]]


def test_the_size_of_a_shard_is_known_before(tmp_path):
    for classes, span in ((3, 4), (1000, 1024)):
        layout = Layout.plan(classes, "float16", span)
        assert layout.shard_bytes() == len(layout.encode(np.zeros((span, classes), np.float16)))


def test_two_captures_of_one_cache(tmp_path):
    with hold(tmp_path), pytest.raises(BusyError, match=rf"capture of a: .* found pid {os.getpid()} on .* since 20"):  # noqa: SIM117
        with hold(tmp_path):
            pass
    with hold(tmp_path):
        pass


def test_only_sealed_work_of_the_same_cache_is_cleared(tmp_path, caplog):
    """a is sealed, then sealed again with new weights; b, and an unfinished capture for a, stay as they are."""

    def work_on(weights: str, out: str, seal: bool = True) -> None:
        with hold(tmp_path, out=out, teacher={"weights_sha256": weights}) as work:
            fill(work)
            if seal:
                work.seal()

    work_on("unfinished", "a", seal=False)
    work_on("old", "a")
    work_on("other", "b")
    with caplog.at_level("INFO"):
        work_on("new", "a")
    left = {json.loads(path.read_text())["teacher"]["weights_sha256"] for path in tmp_path.glob("work/*/identity.json")}
    assert left == {"unfinished", "other", "new"}
    assert caplog.messages == [
        "a: another cache than the last one, which is kept until this one is sealed: teacher.weights_sha256 was old, is new"
    ]


def test_where_links_cannot_lead_spans_are_copied_with_a_warning(tmp_path, monkeypatch, caplog):
    expected = tree(sealed(tmp_path / "linked"))

    def no_link(source, target):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_link)
    out = sealed(tmp_path / "copied")
    assert tree(out) == expected
    assert caplog.messages[0].startswith("a: 8 spans were copied, because links from ")


# ---------------------------------------------------------------- the manifest


def test_manifest_survives_a_round_trip(tmp_path):
    out = sealed(tmp_path)
    manifest = Manifest.read(out)
    assert manifest.extents == EXTENTS
    assert len(manifest.records) == len(PARTS)
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
        match=r"transfer/c/1/1/0 \(transfer view 1, rows 4 to 7\): expected 72 bytes, found .* \(1 of 11 files missing",
    ):
        Cache.open(out)


def test_edited_metadata_is_found_on_opening(tmp_path):
    out = sealed(tmp_path)
    path = out / "logits.zarr/transfer/zarr.json"
    path.write_text(path.read_text().replace("float32", "int32"))
    with pytest.raises(IntegrityError, match=r"transfer/zarr.json: expected sha256"):
        Cache.open(out)
