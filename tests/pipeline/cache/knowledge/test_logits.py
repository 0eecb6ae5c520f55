"""Logits as they are stored: exact in float32; float16 says how far it may be off."""

import numpy as np

from pipeline.cache.knowledge.logits import Logits

LOGITS = np.array([[1.0001, -3], [60_000.5, 2.0]], np.float32)


def test_float32_is_exact_and_float16_within_half_a_unit_in_the_last_place():
    for dtype, exact in (("float32", True), ("float16", False)):
        kept = Logits.plan(2, dtype, 8)
        held = kept.stored(LOGITS, None, None)
        off = np.abs(kept.logits(held, None).astype(np.float32) - LOGITS).max(axis=1)
        assert kept.exact == exact == (not off.any())
        assert (off <= kept.rounding(held, None)).all()
