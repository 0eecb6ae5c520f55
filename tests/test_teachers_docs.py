"""docs/teachers.md, as a new user would follow it."""

import re
from pathlib import Path

import numpy as np

from conftest import ROOT, run_capture, write_stage_one
from pipeline.cache.imported import import_logits
from pipeline.cache.reader import Cache
from pipeline.data.settings import Views
from pipeline.data.splits import open_splits

[WRITE] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/teachers.md").read_text(encoding="utf-8"), re.DOTALL)


def test_logits_that_the_example_writes_come_back_from_the_cache(tmp_path, monkeypatch):
    """Of the rows as they are, by the example's own teacher."""
    monkeypatch.chdir(tmp_path)
    write_stage_one(Path("data"))
    names: dict = {}
    exec(WRITE, names)
    import_logits(logits=["logits.parquet"], splits=Path("data/transfer"), views=Views(), out=Path("data/teachers/api"))
    run_capture(Path("data"), "api", policy="none", views=1)
    cache = Cache.open(Path("data/caches/api"))
    for name, split in open_splits(Path("data/transfer"), ["transfer", "valid", "test"]).items():
        assert np.allclose(cache.read(name)[0], names["ask"](split.read_all()), rtol=1e-5, atol=1e-3)
