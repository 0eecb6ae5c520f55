"""Metrics of logits against labels and against a teacher, computed in float64 at T = 1. Needs only numpy.

logits: (N, C) float; labels: (N,) int64 in [0, C).
"""

from typing import NamedTuple

import numpy as np

VERSION = 1  # of the metrics
SUM_WITHIN = 0.01  # of 1, for probabilities: those of float16 are no more exact

ECE_BINS = 15


class Summary(NamedTuple):
    """All metrics of one model on one split; NLL and KL in nats."""

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
    """Number of rows whose largest logit is not the label's. Of equal logits, the first counts."""
    return int((logits.argmax(axis=1) != labels).sum())


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of rows that are classified correctly.

    Args:
        logits: (N, C) float.
        labels: (N,) int64 in [0, C).

    Returns:
        The share, 0 to 1.
    """
    return 1 - errors(logits, labels) / len(labels)


def at_chance(accuracy: float, labels: np.ndarray) -> bool:
    """Whether an accuracy is no better than always predicting the commonest class, within two standard errors.

    If even an accuracy of 1 would lie within two standard errors, the share of the commonest class itself is the limit.
    """
    share = np.bincount(labels).max() / len(labels)
    most = share + 2 * np.sqrt(share * (1 - share) / len(labels))
    return bool(accuracy <= (most if most < 1 else share))


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood of the labels.

    Args:
        logits: (N, C) float.
        labels: (N,) int64 in [0, C).

    Returns:
        The mean over rows, in nats.
    """
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def ece(logits: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error (Guo et al. 2017, arXiv 1706.04599, equation 3).

    The mean of |accuracy − confidence| over 15 bins of equal width, weighted by the rows in each. Bin b holds confidences in
    (b/15, (b+1)/15].

    Args:
        logits: (N, C) float.
        labels: (N,) int64 in [0, C).

    Returns:
        The error, 0 to 1.
    """
    rows, confidence, right = reliability(logits, labels)
    return float(np.abs(right - confidence).sum() / rows.sum())


def reliability(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The bins of `ece`: (3, ECE_BINS) float64, of each the number of rows, the sum of confidences, the rows that are right."""
    confidence = np.exp(log_softmax(logits).max(axis=1))
    right = logits.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(int) - 1, 0, ECE_BINS - 1)
    sums = (np.bincount(bins, weights=each, minlength=ECE_BINS) for each in (None, confidence, right))
    return np.stack([each.astype(np.float64) for each in sums])


def brier(logits: np.ndarray, labels: np.ndarray) -> float:
    """Brier score (Brier 1950), 0 to 2: squared distance of the probabilities from the one-hot label, mean over rows."""
    distance = np.exp(log_softmax(logits))
    distance[np.arange(len(labels)), labels] -= 1
    return float((distance**2).sum(axis=1).mean())


def agreement(logits: np.ndarray, teacher: np.ndarray) -> float:
    """Share of rows on which student and teacher predict the same class.

    Args:
        logits: (N, C) float, of the student.
        teacher: (N, C) float, logits of the teacher.

    Returns:
        The share, 0 to 1.
    """
    return float((logits.argmax(axis=1) == teacher.argmax(axis=1)).mean())


def kl_to_teacher(logits: np.ndarray, teacher: np.ndarray) -> float:
    """Mean KL(teacher ‖ student) at T = 1, in nats."""
    return kl_at(logits, teacher, 1.0)


def kl_at(logits: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    """Mean KL(softmax(teacher / T) ‖ softmax(logits / T)), in nats. logits, teacher: (N, C) float."""
    target = log_softmax(teacher.astype(np.float64) / temperature)
    return float((np.exp(target) * (target - log_softmax(logits.astype(np.float64) / temperature))).sum(axis=1).mean())


def summary(logits: np.ndarray, labels: np.ndarray, teacher: np.ndarray) -> Summary:
    """All metrics of one model on one split.

    Args:
        logits: (N, C) float.
        labels: (N,) int64 in [0, C).
        teacher: (N, C) float, logits of the teacher or of the ensemble.

    Returns:
        A named tuple of all metrics.
    """
    return Summary(
        accuracy(logits, labels), errors(logits, labels), nll(logits, labels), ece(logits, labels), brier(logits, labels),
        agreement(logits, teacher), kl_to_teacher(logits, teacher),
    )  # fmt: skip


def are_probabilities(logits: np.ndarray) -> bool:
    """Whether these are no logits but probabilities: every row, (n, classes), lies in [0, 1] and sums to 1."""
    if not ((logits >= 0) & (logits <= 1)).all():
        return False
    return bool((np.abs(logits.sum(axis=1, dtype=np.float64) - 1) < SUM_WITHIN).all())
