"""What the rooms of a capture share: where spans are in a cache, and what records are called."""

from caches import hold
from pipeline.cache.layout import Layout
from pipeline.cache.room import record_name, records_of, shard


def test_a_span_lies_where_zarr_looks_for_it():
    layout = Layout.plan((3,), "float32", 4)
    assert shard(layout.shard(1, 2), "logits", "transfer") == "logits.zarr/transfer/c/1/2/0"


def test_records_by_name(tmp_path):
    assert record_name("hidden_scale", ("valid", 0, 12)) == "hidden_scale-valid-0-12"
    with hold(tmp_path) as work:
        assert list(records_of(work.folder)) == []
        (work.folder / "records").mkdir()
        (work.folder / "records/logits-test-0-0.json").write_text("{}")
        assert list(records_of(work.folder)) == ["logits-test-0-0"]
