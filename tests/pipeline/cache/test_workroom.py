"""The work room on this machine: what is removed from it, and when; test_writer.py has the rest."""

import json

import pytest

from caches import DIGESTS, PARTS, fill, hold
from pipeline.base.errors import BusyError
from pipeline.cache.workroom import plain


def test_one_capture_at_a_time(tmp_path):
    with hold(tmp_path), pytest.raises(BusyError, match="capture of a"), hold(tmp_path):
        pass


def test_what_a_killed_worker_left_is_removed_before_others_start(tmp_path):
    with hold(tmp_path) as work:
        fill(work, PARTS[:2])
        kept, folder = PARTS[0], work.room.spans
        (work.folder / "records/logits-transfer-0-1.json").unlink()
        partial = folder / "logits.zarr/transfer/c/0/5/.0.1-2.partial"
        partial.parent.mkdir()
        partial.write_bytes(b"half")
        assert work.room.tidy() == 2
        assert not partial.exists()
        assert [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()] == [
            "logits.zarr/transfer/c/0/0/0"
        ]
        assert kept not in work.resume(DIGESTS)


def test_facts_that_only_messages_need(tmp_path):
    assert plain(tmp_path / "none") == {}
    for text, found in {"[1]": {}, "{": {}, json.dumps({"a": 1}): {"a": 1}}.items():
        (tmp_path / "file").write_text(text)
        assert plain(tmp_path / "file") == found
