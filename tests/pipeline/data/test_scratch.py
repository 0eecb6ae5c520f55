"""Scratch: whose folder is on this machine, wherever work in progress is."""

from pathlib import Path

import pytest

from pipeline.base.places import place
from pipeline.data import scratch


@pytest.mark.parametrize(("work", "folder"), [("own/work", "own/work"), ("s3://bucket/work", ".softcache")])
def test_each_variable_gives_room_on_this_machine(monkeypatch, work, folder):
    used = []
    for module in ("pipeline.data.decoded", "pipeline.base.nearby"):
        monkeypatch.setattr(f"{module}.use", lambda *given: used.append(given))
    monkeypatch.delenv("SOFTCACHE_DECODED", raising=False)
    monkeypatch.delenv("SOFTCACHE_NEARBY", raising=False)
    scratch.use(place(work))
    assert used == []
    monkeypatch.setenv("SOFTCACHE_DECODED", "2")
    monkeypatch.setenv("SOFTCACHE_NEARBY", "3")
    scratch.use(place(work))
    assert used == [(Path(folder) / "decoded", "2"), (Path(folder) / "nearby", "3")]
