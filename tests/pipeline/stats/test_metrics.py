"""Metrics against values worked out by hand and formulas written another way."""

import math

import numpy as np
import pytest

from pipeline.stats import metrics

# Probabilities 1/2 and 1/2; 3/4 and 1/4; 1/5 and 4/5.
LOGITS = np.log(np.array([[0.5, 0.5], [0.75, 0.25], [0.2, 0.8]], np.float32))
LABELS = np.array([0, 1, 1])


def test_counts_by_hand():
    assert metrics.errors(LOGITS, LABELS) == 1
    assert metrics.accuracy(LOGITS, LABELS) == pytest.approx(2 / 3)


def test_nll_by_hand():
    assert metrics.nll(LOGITS, LABELS) == pytest.approx(-(math.log(0.5) + math.log(0.25) + math.log(0.8)) / 3)


@pytest.mark.parametrize(
    ("accuracy", "rows", "chance"),
    [
        (0.5, (50, 50), True),
        (0.6, (50, 50), True),  # 0.5 + 2 · √(0.25 / 100) = 0.6
        (0.61, (50, 50), False),
        (0.9, (90, 10), True),
        (0.97, (90, 10), False),  # 0.9 + 2 · √(0.09 / 100) = 0.96
        (0.99, (99, 1), True),
        (1.0, (99, 1), False),  # two standard errors above would be more than all: only the share itself counts
        (1.0, (3, 0), True),
    ],
)
def test_at_chance_by_hand(accuracy, rows, chance):
    assert metrics.at_chance(accuracy, np.repeat([0, 1], rows)) == chance


def test_nll_does_not_overflow():
    assert metrics.nll(np.array([[1e4, -1e4]], np.float32), np.array([1])) == pytest.approx(2e4)


def test_brier_by_hand():
    expected = ((0.5**2 + 0.5**2) + (0.75**2 + 0.75**2) + (0.2**2 + 0.2**2)) / 3
    assert metrics.brier(LOGITS, LABELS) == pytest.approx(expected)


def test_ece_by_hand():
    """Three bins of one row each: right at 0.5, wrong at 0.75, right at 0.8."""
    assert metrics.ece(LOGITS, LABELS) == pytest.approx((0.5 + 0.75 + 0.2) / 3)


def test_ece_against_a_loop_over_bins():
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(500, 4)) * 3, generator.integers(0, 4, 500)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert metrics.ece(logits, labels) == pytest.approx(expected)


def test_agreement_and_kl():
    assert metrics.agreement(LOGITS, LOGITS[:, ::-1]) == pytest.approx(1 / 3)  # equal logits: the first class on both sides
    assert metrics.kl_to_teacher(LOGITS, LOGITS) == pytest.approx(0, abs=1e-12)
    half = np.zeros((3, 2))
    expected = np.mean(
        [
            0.0,
            0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25),
            0.5 * math.log(0.5 / 0.2) + 0.5 * math.log(0.5 / 0.8),
        ]
    )
    assert metrics.kl_to_teacher(LOGITS, half) == pytest.approx(expected)
