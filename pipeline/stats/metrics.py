"""Metrics of logits against labels and against a teacher, in float64 at T = 1. numpy only.

logits: (N, C) float; labels: (N,) int64 in [0, C).
"""

from typing import NamedTuple

import numpy as np

VERSION = 1  # of what is measured

ECE_BINS = 15


class Summary(NamedTuple):
    """Every metric of one model on one split."""

    accuracy: float
    errors: int
    nll: float
    ece: float
    brier: float
    agreement: float
    kl_to_teacher: float


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """(N, C) float64 log-probabilities."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    probabilities: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return probabilities


def errors(logits: np.ndarray, labels: np.ndarray) -> int:
    """Rows whose largest logit is not the label's; the first of equal logits counts."""
    return int((logits.argmax(axis=1) != labels).sum())


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of rows that are right."""
    return 1 - errors(logits, labels) / len(labels)


def at_chance(accuracy: float, labels: np.ndarray) -> bool:
    """Whether an accuracy on rows of these labels cannot be told from that of always naming the commonest class.

    It is at most two standard errors, of a share over so many rows, above that class's share. Where even a perfect one would
    be, only what is no better than that share counts.
    """
    share = np.bincount(labels).max() / len(labels)
    most = share + 2 * np.sqrt(share * (1 - share) / len(labels))
    return bool(accuracy <= (most if most < 1 else share))


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood of the labels, in nats."""
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def ece(logits: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error: |accuracy − confidence| of 15 bins of equal width in (0, 1], weighted by their rows.

    Guo et al. 2017 (arXiv 1706.04599), equation 3. Bin b holds confidences in (b/15, (b+1)/15].
    """
    confidence = np.exp(log_softmax(logits).max(axis=1))
    right = logits.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(int) - 1, 0, ECE_BINS - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def brier(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean squared distance of the probabilities from the one-hot label, summed over classes (Brier 1950): 0 to 2."""
    distance = np.exp(log_softmax(logits))
    distance[np.arange(len(labels)), labels] -= 1
    return float((distance**2).sum(axis=1).mean())


def agreement(logits: np.ndarray, teacher: np.ndarray) -> float:
    """Share of rows on which student and teacher name the same class."""
    return float((logits.argmax(axis=1) == teacher.argmax(axis=1)).mean())


def kl_to_teacher(logits: np.ndarray, teacher: np.ndarray) -> float:
    """Mean KL(teacher ‖ student) at T = 1, in nats."""
    target = log_softmax(teacher)
    return float((np.exp(target) * (target - log_softmax(logits))).sum(axis=1).mean())


def summary(logits: np.ndarray, labels: np.ndarray, teacher: np.ndarray) -> Summary:
    """Measure one model on one split."""
    return Summary(
        accuracy(logits, labels), errors(logits, labels), nll(logits, labels), ece(logits, labels), brier(logits, labels),
        agreement(logits, teacher), kl_to_teacher(logits, teacher),
    )  # fmt: skip
