"""Addressed randomness: golden values, independence of batching, uniformity."""

import numpy as np

from pipeline.base import randomness
from pipeline.base.randomness import Use

MASK = (1 << 64) - 1


def reference(seed: int, *address: int) -> int:
    """The same hash in Python's own integers, after the published SplitMix64."""

    def mix(value: int) -> int:
        value = (value + 0x9E3779B97F4A7C15) & MASK
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
        return value ^ (value >> 31)

    state = mix(seed & MASK)
    for part in address:
        state = mix(state ^ (part & MASK))
    return state


def test_first_output_is_that_of_splitmix64():
    """The published generator's first output for seed 1234567 is 6457827717110365317."""
    assert int(randomness.bits(1234567)) == 6457827717110365317


def test_bits_agree_with_arithmetic_in_python_integers():
    for seed, *address in ((0, 0), (1, 2, 3), (2**64 - 1, 2**63 - 1, 5), (-1, 7)):
        assert int(randomness.bits(seed, *address)) == reference(seed, *address)


def test_a_longer_address_goes_on_from_a_shorter_one():
    rows = np.arange(20)
    assert (randomness.extended(randomness.bits(3, 5, rows), 7, 8) == randomness.bits(3, 5, rows, 7, 8)).all()


def test_a_value_depends_on_its_address_alone():
    """One by one, all at once, or in another order: the same values."""
    rows = np.arange(1000)
    together = randomness.bits(3, Use.POLICY, rows, 2)
    assert together[417] == randomness.bits(3, Use.POLICY, 417, 2)
    backwards = randomness.bits(3, Use.POLICY, rows[::-1], 2)
    assert (backwards[::-1] == together).all()


def test_every_part_of_an_address_matters():
    values = {int(randomness.bits(*address)) for address in ((1, 2, 3), (2, 1, 3), (1, 3, 2), (1, 2), (1, 2, 3, 0))}
    assert len(values) == 5


def test_permutation_holds_every_row_once_and_is_golden():
    assert sorted(randomness.permutation(1000, 5, Use.ORDER, 1)) == list(range(1000))
    expected = sorted(range(8), key=lambda row: reference(5, Use.ORDER, 1, row))
    assert randomness.permutation(8, 5, Use.ORDER, 1).tolist() == expected


def test_integers_are_uniform():
    """Chi-square over 25 values of 50,000 draws; 99.99 % of fair draws stay below 60.1 (24 degrees of freedom)."""
    drawn = randomness.integers(25, 0, Use.POLICY, np.arange(50_000), 1)
    counts = np.bincount(drawn, minlength=25)
    assert ((counts - 2000) ** 2 / 2000).sum() < 60.1


def test_an_order_is_that_of_the_random_bits():
    """Of more rows than are hashed at a time."""
    rows = np.arange(150_000)
    assert (randomness.order(rows, 3, 1) == np.argsort(randomness.bits(3, 1, rows))).all()
