"""What a source publishes: outputs in order, logits first, into the arrays of their names."""

import numpy as np
import pytest

from caches import DIGESTS, hold, logits
from conftest import write_stage_one
from pipeline.base.errors import IntegrityError
from pipeline.cache.source import progress_of, publish
from pipeline.data.splits import open_splits


def test_a_span_is_published_unless_a_number_cannot_be_stored(tmp_path):
    split = open_splits(write_stage_one(tmp_path / "data") / "transfer", ["train"])["train"]
    with hold(tmp_path) as work:
        missing = work.resume(DIGESTS)
        bar = progress_of(work, missing[1:], "a")
        assert (bar.n, bar.total) == (1, len(missing))
        publish(work, "a", split, "transfer", 0, 0, lambda: [logits("transfer")[0, :4]])
        odd = logits("transfer")[0, :4].copy()
        odd[2, 1] = np.nan
        with pytest.raises(
            IntegrityError, match=r"teacher a, transfer view 0, row 10 \(id row-10\), class 1: expected a finite logit"
        ):
            publish(work, "a", split, "transfer", 0, 1, lambda: [odd])
        assert set(work.records) == {("transfer", 0, 0)}
