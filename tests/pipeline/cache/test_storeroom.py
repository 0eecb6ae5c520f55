"""Captures in a store: the bytes of one on disk, resuming, workers that meet, repairs, and data that grew."""

import json

import numpy as np
import pytest

import caches
from caches import DIGESTS, EXTENTS, PARTS, SPAN, fill, identity, logits
from conftest import tree
from pipeline.base import files
from pipeline.base.errors import IntegrityError
from pipeline.base.places import place
from pipeline.cache.knowledge.knowledge import Knowledge
from pipeline.cache.manifest import FILE_NAME, Extent
from pipeline.cache.reader import Cache
from pipeline.cache.verify import verify
from pipeline.cache.writer import Work, require_sealed


@pytest.fixture
def out(bucket):
    return place(bucket) / "caches/a"


def hold(out, extents=EXTENTS, **facts):
    known = Knowledge.of_logits(caches.CLASSES, "float32", SPAN)
    return Work.hold(out / "unused", out, identity() | facts, known, extents)


def held(out) -> dict[str, bytes]:
    """Every file of the present generation."""
    base = files.current(out)
    return {name: (base / name).read_bytes() for name in files.sizes(base)}


def sealed(out, **how):
    with hold(out, **how) as work:
        computed = fill(work)
        work.seal()
    return computed


def publish(work, part, add=0.0):
    split, view, span = part
    return work.publish(*part, DIGESTS[split][span], logits(split)[view, span * SPAN : (span + 1) * SPAN] + np.float32(add))


def test_the_bytes_are_those_on_disk(out, tmp_path):
    assert sealed(out) == len(PARTS)
    with caches.hold(tmp_path) as work:
        fill(work)
        work.seal()
    assert held(out) == tree(tmp_path / "caches/a")
    assert np.array_equal(Cache.open(out).read("transfer"), logits("transfer"))
    assert sealed(out) == 0


def test_an_unfinished_capture_says_how_far_it_is_and_goes_on(out, tmp_path):
    require_sealed(out, tmp_path)
    with hold(out) as work:
        fill(work, PARTS[:3])
    with pytest.raises(IntegrityError, match="found an unsealed one: 3 of 8 spans captured"):
        require_sealed(out, tmp_path)
    with pytest.raises(IntegrityError, match=f"expected a sealed cache, found no {FILE_NAME}"):
        Cache.open(out)
    assert sealed(out) == len(PARTS) - 3
    require_sealed(out, tmp_path)


@pytest.mark.parametrize("damage", ["flip", "truncate", "missing", "record"])
def test_damaged_spans_are_found_and_computed_again(out, damage, tmp_path, caplog):
    sealed(out)
    before, span = held(out), files.current(out) / "logits.zarr/transfer/c/1/1/0"
    data = span.read_bytes()
    if damage == "record":
        files.write(out / f"{files.current(out).name}.work/records/logits-transfer-1-1.json", b"{")
    elif damage == "missing":
        files.remove(span)
    else:
        files.write(span, data[:-1] if damage == "truncate" else data[:9] + bytes([data[9] ^ 1]) + data[10:])
    if damage != "record":
        [finding] = verify(out, work=tmp_path).findings
        assert "transfer view 1, rows 4 to 7" in finding.where
    if damage == "flip":
        with pytest.raises(IntegrityError, match="transfer view 1, rows 4 to 7"):
            Cache.open(out).read("transfer")
    with caplog.at_level("INFO"):
        assert sealed(out) == 1
    assert held(out) == before
    assert not verify(out, work=tmp_path).findings


def test_workers_who_meet_write_one_version(out):
    """The first bytes stay; last bits may differ; other numbers are refused; a lost reply is no conflict."""
    with hold(out) as first, hold(out) as second:
        part = PARTS[1]
        record = publish(first, part)
        assert publish(second, part) == record
        assert publish(second, part, add=1e-7) == record, "what is there is taken"
        with pytest.raises(
            IntegrityError, match="expected what the teacher gives, as another worker wrote it, found others, by 0"
        ):
            publish(second, part, add=0.5)
        record_path = first.folder / "records" / f"logits-{'-'.join(map(str, part))}.json"
        files.remove(record_path)  # the first one was killed before it recorded its span
        assert publish(second, part, add=1e-7) == record
        assert json.loads(record_path.read_bytes())["record"]["sha256"] == record.sha256


def test_a_worker_joins_and_its_records_are_gathered(out):
    with hold(out) as work:
        worker = Work.join(work.ticket)
        for part in PARTS[:5]:
            publish(worker, part)
        assert work.gather(PARTS) == PARTS[5:]
        assert fill(work) == 3
        work.seal()
    assert np.array_equal(Cache.open(out).read("transfer"), logits("transfer"))


def test_data_that_grew_keep_the_spans_of_rows_that_are_as_they_were(out):
    sealed(out, extents=EXTENTS | {"transfer": Extent(10, 1, "t")})
    former = files.current(out)
    assert sealed(out) == 3, "the second view"
    assert not former.exists()
    assert np.array_equal(Cache.open(out).read("transfer"), logits("transfer"))
    assert not list(Cache.open(out).strays())


def test_another_identity_leaves_the_former_cache_alone_until_it_is_sealed(out, caplog):
    sealed(out)
    before = held(out)
    with caplog.at_level("INFO"), hold(out, tile=8) as work:
        fill(work)
        assert held(out) == before
        work.seal()
    assert any("another cache than the last one" in each and "tile was 4, is 8" in each for each in caplog.messages)
    assert Cache.open(out).manifest.identity["tile"] == 8
    assert {name.partition("/")[0].partition(".")[0] for name in files.sizes(out)} == {"current", files.current(out).name}


def test_anew_keeps_nothing(out):
    sealed(out)
    with hold(out) as work:
        assert work.resume(DIGESTS, anew=True) == PARTS


def test_strays_are_found(out, tmp_path):
    sealed(out)
    files.write(files.current(out) / "logits.zarr/x", b"")
    [finding] = verify(out, work=tmp_path).findings
    assert (finding.expected, finding.found) == ("nothing", "a stray object")


def test_a_span_that_vanished_is_not_sealed(out):
    with hold(out) as work:
        fill(work)
        files.remove(work.room.spans / "logits.zarr/test/c/0/0/0")
        with pytest.raises(IntegrityError, match="found none. Something else writes into this store: run this again"):
            work.seal()
    assert files.current(out) == out


def test_a_span_that_is_replaced_after_it_was_read_is_noticed(out):
    sealed(out)
    cache = Cache.open(out)
    record = cache.records[0]
    block = cache.span(record)
    cache.file(record).write(bytes(cache.layout.encode(block + 1)))  # whole, and of the same size
    with pytest.raises(IntegrityError, match=f"expected sha256 {record.sha256}"):
        cache.span(record)
