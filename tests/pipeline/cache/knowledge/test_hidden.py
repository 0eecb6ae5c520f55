"""Hidden states as they are stored and read: by hand, and within the bounds that they claim."""

import numpy as np
import pytest

from pipeline.cache.knowledge.head import Head, channels_of
from pipeline.cache.knowledge.hidden import Hidden
from pipeline.cache.layout import Unholdable

GENERATOR = np.random.default_rng(3)
HIDDEN = (GENERATOR.normal(size=(50, 16)) * GENERATOR.uniform(0.01, 30, size=16)).astype(np.float32)
HIDDEN[7] = 0
WEIGHT, BIAS = GENERATOR.normal(size=(9, 16)).astype(np.float32), GENERATOR.normal(size=9).astype(np.float32)
EXACT = HIDDEN.astype(np.float64) @ WEIGHT.T.astype(np.float64) + BIAS


def of(dtype: str) -> tuple[Hidden, Head]:
    return Hidden.plan(16, dtype, 64, "7", "rows"), Head(WEIGHT, BIAS, channels_of(HIDDEN[:20]) if dtype == "int8" else None)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_logits_are_off_by_no_more_than_rounding_can_make_them(dtype):
    kept, head = of(dtype)
    held = kept.stored(EXACT.astype(np.float32), HIDDEN, head)
    assert {name: each.dtype for name, each in kept.arrays.items()} == {name: str(block.dtype) for name, block in held.items()}
    off = np.abs(kept.logits(held, head) - EXACT).max(axis=1)
    float32 = 1e-5 * np.abs(EXACT).max()
    assert (off <= kept.rounding(held, head) + float32).all()
    assert (off.max() > 100 * float32) == (dtype == "int8")


def test_int8_by_hand():
    """Scales of channels 2 and 4: the row (2, −4) is (1, −1) of them, and (1, 1) is (1/2, 1/4), 127 and 63.5 of 1/254."""
    kept, head = (
        Hidden.plan(2, "int8", 4, "7", "rows"),
        Head(np.eye(2, dtype=np.float32), np.zeros(2, np.float32), np.array([2, 4], np.float32)),
    )
    held = kept.stored(np.zeros((3, 2), np.float32), np.array([[2, -4], [1, 0], [1, 1]], np.float32), head)
    assert held["hidden"].tolist() == [[127, -127], [127, 0], [127, 64]]  # 63.5 goes to the even number
    np.testing.assert_allclose(held["hidden_scale"][:, 0], [1 / 127, 0.5 / 127, 0.5 / 127])
    np.testing.assert_allclose(kept.logits(held, head), [[2, -4], [1, 0], [1, 128 / 127]], rtol=1e-6)


@pytest.mark.parametrize(("dtype", "value"), [("int8", np.nan), ("int8", np.inf), ("float32", np.nan), ("float16", 70_000)])
def test_numbers_that_cannot_be_held_are_named(dtype, value):
    kept, head = of(dtype)
    odd = HIDDEN.copy()
    odd[4, 3] = value
    with pytest.raises(Unholdable) as caught:
        kept.stored(EXACT, odd, head)
    assert (caught.value.row, caught.value.column) == (4, 3)
