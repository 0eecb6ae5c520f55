"""Work on a cache: what is durable before what, resuming, sealing, and what is never adopted."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from caches import CLASSES, DIGESTS, PARTS, fill, hold, identity, logits, sealed, span_file
from conftest import tree
from pipeline.base import files
from pipeline.base.errors import BusyError, IntegrityError
from pipeline.cache.layout import Unholdable
from pipeline.cache.manifest import fingerprint
from pipeline.cache.reader import Cache
from pipeline.cache.writer import require_sealed


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
    path = folder / "spans/logits.zarr/transfer/c/1/1/0"
    data = path.read_bytes()
    path.unlink()  # the sealed cache shares the file
    if damage == "record":
        path.write_bytes(data)
        (folder / "records/logits-transfer-1-1.json").write_text("{")
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
    (folder / "records/logits-transfer-0-2.json").unlink()
    with caplog.at_level("INFO"), hold(tmp_path) as work:
        missing = work.resume(DIGESTS)
        assert missing == [("transfer", 0, 2)]
        assert not (folder / "spans/logits.zarr/transfer/c/0/2/0").exists()
    assert caplog.messages == ["a: resuming: 7/8 spans verified, 1 unrecorded and 0 damaged or outdated discarded"]
    assert Cache.open(out).read("transfer").tobytes() == logits("transfer").tobytes()


def test_a_record_in_anothers_place_is_never_adopted(tmp_path):
    """Two spans of equal rows: their records and their bytes swapped are whole, and wrong."""
    sealed(tmp_path)
    folder = tmp_path / "work" / fingerprint(identity())
    for one, other in ((f"{folder}/records/logits-transfer-0-1.json", f"{folder}/records/logits-transfer-1-1.json"),):
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


def test_two_captures_of_one_cache(tmp_path):
    with hold(tmp_path), pytest.raises(BusyError, match=rf"capture of a: .* found pid {os.getpid()} on .* since 20"):  # noqa: SIM117
        with hold(tmp_path):
            pass
    with hold(tmp_path):
        pass


def test_a_feature_that_changed_is_one_fact_of_the_message(tmp_path, caplog):
    said = {"layer1 | pool": {"shape": (16,), "dtype": "float16", "chunk": 512}}
    with hold(tmp_path, knowledge={"kind": "logits"}) as work:
        fill(work)
        work.seal()
    with caplog.at_level("INFO"), hold(tmp_path, knowledge={"kind": "logits", "features": said}) as work:
        fill(work)
        work.seal()
    [told] = [line for line in caplog.messages if "another cache" in line]
    assert told.endswith(": knowledge.features.layer1 | pool was None, is 16")


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
    assert caplog.messages[0].startswith("a: 8 spans were copied, because links from")


def test_a_record_exists_only_once_its_bytes_are_durable(tmp_path, monkeypatch):
    """What was synced and renamed, in order: the bytes, their place and its folder, and only then the record."""
    done: list[tuple[str, Path]] = []

    def watched(name: str, place: Callable[..., Path]) -> None:
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *given, **more: (done.append((name, place(*given))), real(*given, **more))[1])

    with hold(tmp_path) as work:
        work.resume(DIGESTS)
        watched("fsync", lambda descriptor: Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        for name in ("rename", "replace", "link"):
            watched(name, lambda source, target: Path(target))
        work.publish("transfer", 1, 1, DIGESTS["transfer"][1], logits("transfer")[1, 4:8])
        span, record = work.folder / "spans/logits.zarr/transfer/c/1/1/0", work.folder / "records/logits-transfer-1-1.json"
        names = [(name == "fsync", place) for name, place in done]
        placed, recorded = names.index((False, span)), names.index((False, record))
        assert any(synced and place.parent == span.parent for synced, place in names[:placed])
        assert (True, span.parent) in names[placed:recorded]
        assert any(synced and place.parent == record.parent for synced, place in names[placed:recorded])
        assert (True, record.parent) in names[recorded:]


def test_a_record_says_what_the_bytes_are(tmp_path):
    with hold(tmp_path) as work:
        block = logits("transfer")[1, 4:8]
        record = work.publish("transfer", 1, 1, "rows", block)
        data = (work.folder / "spans/logits.zarr/transfer/c/1/1/0").read_bytes()
        assert (record.low, record.high) == (block.min(), block.max())
        assert (record.size_bytes, record.sha256, record.rows) == (len(data), files.sha256(data), "rows")
        told = json.loads((work.folder / "records/logits-transfer-1-1.json").read_text())
        assert (told["cache"], told["record"]) == (fingerprint(identity()), vars(record))


def test_anew_keeps_nothing(tmp_path):
    sealed(tmp_path)
    with hold(tmp_path) as work:
        assert work.resume(DIGESTS, anew=True) == PARTS
        assert not list(work.folder.rglob("0"))
        assert not list(work.folder.glob("records/*"))


def test_a_cache_that_is_not_sealed_says_how_far_it_is(tmp_path):
    out = tmp_path / "caches/a"
    require_sealed(out, tmp_path / "work")  # nothing is known of it
    with hold(tmp_path) as work:
        fill(work, PARTS[:3])
    require_sealed(tmp_path / "caches/b", tmp_path / "work")
    with pytest.raises(IntegrityError, match="expected a sealed cache, found an unsealed one: 3 of 8 spans captured"):
        require_sealed(out, tmp_path / "work")
    sealed(tmp_path)
    require_sealed(out, tmp_path / "work")
