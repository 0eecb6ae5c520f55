"""What ranges allow, and how they say it."""

import pytest

from pipeline.data.policies.ranges import Choice, Number, Pair


@pytest.mark.parametrize(
    ("allowed", "good", "bad", "words"),
    [
        (Number(0, 1), [0, 1, 0.5], [-0.1, 1.1, "a", None, True, [1]], "a number from 0 to 1"),
        (Number(2, whole=True), [2, 10**9], [1, 2.0, True], "a whole number from 2"),
        (Number(-float("inf")), [-1e300, 7], ["a", False], "a number"),
        (Pair(0.5, 2), [[0.5, 2], (1, 1)], [[2, 1], [0.4, 1], [1, 2.1], [1], 1, [1, 2, 3], ["a", 1]],
         "[low, high], numbers from 0.5 to 2"),
        (Choice(("a", "b")), ["a", "b"], ["c", 1, None, ["a"]], "'a' or 'b'"),
    ],
)  # fmt: skip
def test_ranges(allowed, good, bad, words):
    assert all(map(allowed.allows, good))
    assert not any(map(allowed.allows, bad))
    assert allowed.expected == words
