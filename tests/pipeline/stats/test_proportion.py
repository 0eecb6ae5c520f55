"""The interval of a share."""

import pytest

from pipeline.stats.proportion import wilson


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3, by its four examples
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_intervals(count, total, low, high):
    assert wilson(count, total) == pytest.approx((low, high), abs=5e-5)


def test_the_ends_are_where_the_share_is_just_in_doubt():
    """The definition: at an end, the share is 1.96 standard errors away, with the standard error of that end."""
    for end in wilson(700, 719):
        assert abs(700 / 719 - end) == pytest.approx(1.959964 * (end * (1 - end) / 719) ** 0.5, rel=1e-6)


def test_all_and_none():
    low, high = wilson(40, 40)
    assert high == pytest.approx(1)
    assert wilson(0, 40) == pytest.approx((0, 1 - low))
