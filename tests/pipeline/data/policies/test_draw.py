"""Draws are addressed by seed, row, view, step and slot, or enumerated."""

import numpy as np

from pipeline.base import randomness
from pipeline.base.randomness import Use
from pipeline.data.policies.draw import WIDE, Addressed, Enumerated, below

ROWS, VIEWS = np.arange(7, 27), np.arange(20) % 4


def test_a_draw_is_that_of_its_whole_address():
    draw = Addressed.of(9, ROWS, VIEWS).of_step(3)
    assert (draw(11, 2) == randomness.integers(11, 9, Use.POLICY, ROWS, VIEWS, 3, 2)).all()
    assert draw(11, 2).dtype == np.int64
    expected = randomness.bits(9, Use.POLICY, ROWS[:, None], VIEWS[:, None], 3, 1, np.arange(5))
    assert (draw.bits(5, 1) == expected).all()


def test_what_stays_draws_what_changes_nothing():
    draw = Addressed.of(9, ROWS, VIEWS).of_step(0, identities=(5, 8))
    for slot, identity in enumerate((5, 8)):
        drawn = Addressed.of(9, ROWS, VIEWS).of_step(0)(11, slot)
        assert (draw(11, slot) == [identity if view == 0 else one for view, one in zip(VIEWS, drawn, strict=True)]).all()
        assert (draw(11, slot) != drawn).any()


def test_enumerated_draws_count_from_what_changes_nothing():
    draw = Enumerated(np.arange(6), ((3, 1, 2), (2, 0, 1)))
    assert draw(3, 0).tolist() == [1, 1, 2, 2, 0, 0]
    assert draw(2, 1).tolist() == [0, 1, 0, 1, 0, 1]


def test_limits_of_each_row():
    """Uniform below each limit: of 3,000 draws the mean is that of the numbers."""
    rows = np.arange(3000)
    draw = Addressed.of(1, rows, rows * 0 + 1).of_step(0)
    limits = np.where(rows % 2, 10, 4)
    found = below(draw, limits, 0)
    assert set(found[1::2]) == set(range(10))
    assert set(found[::2]) == set(range(4))
    assert abs(found[1::2].mean() - 4.5) < 0.4
    assert (below(lambda high, slot: np.array([WIDE - 1]), 1 << 31, 0) == (1 << 31) - 1).all()
