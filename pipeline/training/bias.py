"""Class-bias correction: a student that saw too few rows of a class, or none, names it too rarely or too often.

Hinton, Vinyals, Dean 2015 (arXiv 1503.02531), section 3: a student that never saw a 3 is right on most of them once the
bias of that class is raised by 3.5; one that saw only 7s and 8s, once theirs are lowered by 7.6. The paper chose these
offsets on the test set. Here the caller hands over rows of the validation split.
"""

from collections.abc import Sequence

import numpy as np
import torch

from pipeline.base.errors import InputError
from pipeline.models.predict import predict
from pipeline.stats import metrics

VERSION = 1  # of what is chosen
MARGIN = 1e-3  # logits between an offset and where an error comes or goes: far above the rounding of float32
TOLERANCE = 1e-6  # nats below which a lower NLL is not worth another round
_STEPS = 1000  # to a root; usually ten, and a hundred where logits lie as far apart as float32 allows
_CLOSE = 1e-4  # of the range of the logits: how far from logits + offsets a corrected net may be


def offsets(logits: np.ndarray, labels: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """What to add to the logits of `classes` for the fewest errors on these rows and, among equally few, the lowest NLL.

    logits: (N, C) float, finite; labels: (N,) int in [0, C). Returns (C,) float64, in logits, 0 for every other class.
    NLL is at T = 1. For one class the minimum is exact, but for MARGIN. Several are moved one at a time, then all together
    by a common shift, each time to the exact best, until none of these moves helps; then likewise in the opposite order,
    and the better end counts. Raises InputError for a class that is not there, is named twice, or has no rows or all rows.
    """
    require_rows(labels, logits.shape[1], classes)
    group = sorted(classes)
    moves = [[name] for name in group]
    if len(group) > 1 and not np.isin(labels, group).all():
        moves.append(group)
    ends = [_descend(logits, labels, order) for order in (moves, moves[::-1])]
    return min(ends, key=lambda end: _cost(logits, labels, end))


def require_rows(labels: np.ndarray, count: int, classes: Sequence[int]) -> None:
    """Raise InputError unless `classes` are different ones of `count`, each with rows of it and of others in `labels`."""
    group = sorted(classes)
    fix = "Correct the classes whose bias is to be chosen, or give validation rows of them."
    if len(set(group)) < len(group) or not set(group) <= set(range(count)):
        expected = f"different classes from 0 to {count - 1}"
        raise InputError("bias correction, classes", expected=expected, found=str(list(classes)), fix=fix)
    for name in group:
        rows = int((labels == name).sum())
        if not 0 < rows < len(labels):
            found = f"{rows} rows of it among {len(labels)}"
            raise InputError(f"bias correction of class {name}", expected="rows of it and of others", found=found, fix=fix)


def require_bias(model: torch.nn.Module, count: int) -> torch.nn.Parameter:
    """The model's last parameter, of shape (count,); raises InputError where it has another shape."""
    *_, bias = model.parameters()  # build lets no model pass that has none
    shape = tuple(bias.shape)
    _require(shape == (count,), f"a last parameter of shape {shape} for {count} classes")
    return bias


def fold_into(model: torch.nn.Module, offsets: np.ndarray, pixels: torch.Tensor, logits: np.ndarray) -> np.ndarray:
    """Add `offsets` to the model's last parameter, in place, and see by predicting that its logits moved by just that.

    offsets: (C,) float, in logits. pixels: (N, channels, H, W) uint8; logits: (N, C) float, what the model predicts for
    them now. Returns what it predicts afterwards, (N, C) float32. Raises InputError, with the model as it was, where its
    last parameter is not the bias of its logits.
    """
    bias = require_bias(model, len(offsets))
    before = bias.detach().clone()
    try:
        with torch.no_grad():
            bias.add_(torch.from_numpy(offsets).to(bias))
        after, wanted = predict(model, pixels), logits + offsets
        away = float(np.abs(after - wanted).max())
        _require(away <= _CLOSE * np.ptp(wanted), f"logits that are up to {away:g} away from logits + offsets")
    except BaseException:
        with torch.no_grad():
            bias.copy_(before)
        raise
    return after


def _require(holds: bool, found: str) -> None:
    if not holds:
        expected = "a net whose last parameter is the bias of its logits"
        raise InputError("bias correction", expected=expected, found=found, fix="Correct the model, or leave its bias be.")


def _cost(logits: np.ndarray, labels: np.ndarray, offsets: np.ndarray) -> tuple[int, float]:
    """What is minimised: errors first, then NLL in nats."""
    corrected = logits + offsets
    return metrics.errors(corrected, labels), metrics.nll(corrected, labels)


def _descend(logits: np.ndarray, labels: np.ndarray, moves: Sequence[Sequence[int]]) -> np.ndarray:
    """Offsets from which no move, of a group of classes by a common shift, does better; found from none at all."""
    offsets = np.zeros(logits.shape[1])
    errors, nll = _cost(logits, labels, offsets)
    improved = True
    while improved:
        improved = False
        for group in moves:
            inside = np.isin(np.arange(len(offsets)), group)
            moved = offsets + inside * _best_shift(logits + offsets, labels, inside)
            fewer, lower = _cost(logits, labels, moved)
            if fewer < errors or (fewer == errors and lower < nll - TOLERANCE):
                offsets, errors, nll, improved = moved, fewer, lower, True
    return offsets


def _best_shift(logits: np.ndarray, labels: np.ndarray, inside: np.ndarray) -> float:
    """The shift of the classes `inside` with the fewest errors and, among those, the lowest NLL. inside: (C,) bool.

    A row is predicted inside for shifts above, outside for shifts below, its largest logit outside minus its largest
    inside. So errors are constant between such points, and NLL, which is convex, is lowest as near its own minimum as the
    intervals of fewest errors allow.
    """
    inner, outer = (np.where(part, logits, -np.inf) for part in (inside, ~inside))
    change = (inner.argmax(axis=1) != labels).astype(int) - (outer.argmax(axis=1) != labels)  # in errors, past the point
    flips = change != 0
    points, row = np.unique((outer.max(axis=1) - inner.max(axis=1))[flips], return_inverse=True)
    errors = np.append(0, np.cumsum(np.bincount(row, weights=change[flips], minlength=len(points))))
    fewest = errors == errors.min()
    low, high = np.append(-np.inf, points)[fewest], np.append(points, np.inf)[fewest]
    gap = np.logaddexp.reduce(inner, axis=1) - np.logaddexp.reduce(outer, axis=1)
    share = inside[labels].mean()
    margin = np.minimum(MARGIN, (high - low) / 2)
    candidates = np.clip(_lowest_nll(gap, share), low + margin, high - margin)
    return min(map(float, candidates), key=lambda shift: float(np.logaddexp(gap + shift, 0).mean() - share * shift))


def _lowest_nll(gap: np.ndarray, share: float) -> float:
    """The shift x at which the mean of sigmoid(gap + x), the probability inside, is the share of labels inside."""
    from scipy.optimize import brentq
    from scipy.special import expit

    reach = 1 + abs(np.log(share / (1 - share))) + 2 * np.abs(gap).max()  # so far down no probability is above the share
    return float(brentq(lambda shift: expit(gap + shift).mean() - share, -reach, reach, maxiter=_STEPS))
