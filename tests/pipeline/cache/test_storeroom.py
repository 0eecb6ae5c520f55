"""Captures in a store: the bytes of one on disk, resuming, workers that meet, repairs, and data that grew."""

import json

import numpy as np
import pytest

import caches
from caches import DIGESTS, EXTENTS, PARTS, SPAN, fill, held, hold_in, identity, logits, publish, sealed_in
from conftest import tree
from pipeline.base import files
from pipeline.base.errors import IntegrityError
from pipeline.base.places import place
from pipeline.cache.knowledge.head import Head
from pipeline.cache.knowledge.hidden import Hidden
from pipeline.cache.knowledge.knowledge import Knowledge
from pipeline.cache.manifest import FILE_NAME, Extent
from pipeline.cache.reader import Cache
from pipeline.cache.verify import verify
from pipeline.cache.writer import Work, require_sealed


@pytest.fixture
def out(bucket):
    return place(bucket) / "caches/a"


def test_the_bytes_are_those_on_disk(out, tmp_path):
    assert sealed_in(out) == len(PARTS)
    with caches.hold(tmp_path) as work:
        fill(work)
        work.seal()
    assert held(out) == tree(tmp_path / "caches/a")
    assert np.array_equal(Cache.open(out).read("transfer"), logits("transfer"))
    assert sealed_in(out) == 0


def test_an_unfinished_capture_says_how_far_it_is_and_goes_on(out, tmp_path):
    require_sealed(out, tmp_path)
    with hold_in(out) as work:
        fill(work, PARTS[:3])
    with pytest.raises(IntegrityError, match="found an unsealed one: 3 of 8 spans captured"):
        require_sealed(out, tmp_path)
    with pytest.raises(IntegrityError, match=f"expected a sealed cache, found no {FILE_NAME}"):
        Cache.open(out)
    assert sealed_in(out) == len(PARTS) - 3
    require_sealed(out, tmp_path)


@pytest.mark.parametrize("damage", ["flip", "truncate", "missing", "record"])
def test_damaged_spans_are_found_and_computed_again(out, damage, tmp_path, caplog):
    sealed_in(out)
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
        assert sealed_in(out) == 1
    assert held(out) == before
    assert not verify(out, work=tmp_path).findings


def test_workers_who_meet_write_one_version(out):
    """The first bytes stay; last bits may differ; other numbers are refused; a lost reply is no conflict."""
    with hold_in(out) as first, hold_in(out) as second:
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
        with pytest.raises(IntegrityError, match="rows: expected others…, found rows-transfe…"):
            second.publish(*part, "others", logits("transfer")[0, SPAN : 2 * SPAN])


def int8(out):
    """A work on hidden states as int8, and how it publishes a span with a head of these channels."""
    kept = Knowledge(Hidden.plan(2, "int8", SPAN, "fc", "rows"))
    said = identity() | {"layout": kept.layout.to_dict(), "knowledge": kept.to_dict()}
    return Work.hold(out / "unused", out, said, kept, {"transfer": Extent(SPAN, 1, "t")})


def test_of_two_heads_the_first_one_stays(out):
    """Heads of two processors, whose last bits differ: spans of both go with the one that is kept, and stay."""
    heads = [
        Head(np.eye(3, 2, dtype="float32"), np.zeros(3, "float32"), np.full(2, 1 + 1e-6 * each, "float32")) for each in (0, 1)
    ]
    hidden = np.random.default_rng(0).normal(size=(SPAN, 2)).astype("float32")
    with int8(out) as first, int8(out) as second:
        first.keep_head(lambda: heads[0])
        second.keep_head(lambda: heads[1])
        assert [work.head.to_bytes() for work in (first, second)] == [heads[0].to_bytes()] * 2
        for work in (first, second):
            work.publish("transfer", 0, 0, "rows", heads[0].logits(hidden), hidden)
        second.seal()
    with int8(out) as again:
        again.keep_head(lambda: heads[1])
        assert again.resume({"transfer": ["rows"]}) == []
        assert again.head.to_bytes() == heads[0].to_bytes()


def test_a_worker_joins_and_its_records_are_gathered(out):
    with hold_in(out) as work:
        worker = Work.join(work.ticket)
        for part in PARTS[:5]:
            publish(worker, part)
        assert work.gather(PARTS) == PARTS[5:]
        assert fill(work) == 3
        work.seal()
    assert np.array_equal(Cache.open(out).read("transfer"), logits("transfer"))


def test_data_that_grew_keep_the_spans_of_rows_that_are_as_they_were(out):
    sealed_in(out, extents=EXTENTS | {"transfer": Extent(10, 1, "t")})
    former = files.current(out)
    assert sealed_in(out) == 3, "the second view"
    assert former.exists(), "who reads it can go on"
    assert np.array_equal(Cache.open(out).read("transfer"), logits("transfer"))
    assert not list(Cache.open(out).strays())


def test_another_identity_leaves_the_former_cache_alone(out, caplog):
    sealed_in(out)
    before, reader = held(out), Cache.open(out)
    with caplog.at_level("INFO"), hold_in(out, tile=8) as work:
        fill(work)
        assert held(out) == before
        work.seal()
    assert any("another cache than the last one" in each and "tile was 4, is 8" in each for each in caplog.messages)
    assert Cache.open(out).manifest.identity["tile"] == 8
    assert np.array_equal(reader.read("transfer"), logits("transfer")), "opened before"


def test_captures_that_cross_leave_a_whole_cache(out):
    """A is there; another identity is sealed while A is captured once more: whichever is named last is whole."""
    sealed_in(out)
    with hold_in(out) as again, hold_in(out, tile=8) as other:
        fill(other)
        assert fill(again) == 0
        other.seal()
        again.seal()
    assert Cache.open(out).manifest.identity["tile"] == 4
    assert np.array_equal(Cache.open(out).read("transfer"), logits("transfer"))


def test_anew_keeps_nothing_and_destroys_nothing(out):
    """It goes on where it was stopped, in a folder of its own; the sealed cache is there until it is done."""
    sealed_in(out)
    first, before = files.current(out), held(out)
    with hold_in(out, anew=True) as work:
        assert work.resume(DIGESTS, anew=True) == PARTS
        publish(work, PARTS[0])
    assert (files.current(out), held(out)) == (first, before)
    assert sealed_in(out) == len(PARTS) - 1
    assert files.current(out) != first
    assert held(out) == before
    assert sealed_in(out) == 0


def test_strays_are_found(out, tmp_path):
    sealed_in(out)
    files.write(files.current(out) / "logits.zarr/x", b"")
    [finding] = verify(out, work=tmp_path).findings
    assert (finding.expected, finding.found) == ("nothing", "a stray object")


def test_a_span_that_vanished_is_not_sealed(out):
    with hold_in(out) as work:
        fill(work)
        files.remove(work.room.spans / "logits.zarr/test/c/0/0/0")
        with pytest.raises(IntegrityError, match="found none. Something else writes into this store: run this again"):
            work.seal()
    assert files.current(out) == out


def test_a_span_that_is_replaced_after_it_was_read_is_noticed(out):
    sealed_in(out)
    cache = Cache.open(out)
    record = cache.records[0]
    block = cache.span(record)
    cache.file(record).write(bytes(cache.layout.encode(block + 1)))  # whole, and of the same size
    with pytest.raises(IntegrityError, match=f"expected sha256 {record.sha256}"):
        cache.span(record)
