"""Class-bias correction, for a student that predicts a class too rarely or too often, because it saw few rows of it or none.

Hinton, Vinyals, Dean 2015 (arXiv 1503.02531), section 3: a student that never saw a 3 classifies most of them correctly
after its bias for 3 is raised by 3.5. For a student that saw only 7s and 8s, their biases are lowered by 7.6. The paper
chose these offsets on the test set; here they are chosen on the validation split.
"""

from collections.abc import Sequence

import numpy as np
import torch

from pipeline.base.errors import InputError
from pipeline.models.predict import Inputs, predict
from pipeline.stats import metrics

VERSION = 1  # of the choice of offsets
MARGIN = 1e-3  # in logits, from an offset to the nearest one with other errors: far above the rounding of float32
TOLERANCE = 1e-6  # in nats: a smaller gain in NLL is not worth another round
_STEPS = 1000  # of the root search: usually ten are enough, and a hundred for the most extreme float32 logits
_CLOSE = 1e-4  # share of the range of the logits: how far a corrected net may be from logits + offsets


def offsets(logits: np.ndarray, labels: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Offsets to the logits of `classes` that give the fewest errors on these rows, and then the lowest NLL at T = 1.

    logits: (N, C) float, finite; labels: (N,) int in [0, C). Returns (C,) float64, in logits, 0 for all other classes.
    For one class the minimum is exact, up to MARGIN. Several classes are shifted one by one, then all by the same amount,
    each time to the exact minimum, until no shift helps. This is repeated in the opposite order, and the better result is
    kept. Raises InputError for a class that is unknown, is named twice, or has no rows or all rows.
    """
    require_rows(labels, logits.shape[1], classes)
    group = sorted(classes)
    moves = [[name] for name in group]
    if len(group) > 1 and not np.isin(labels, group).all():
        moves.append(group)
    ends = [_descend(logits, labels, order) for order in (moves, moves[::-1])]
    return min(ends, key=lambda end: _cost(logits, labels, end))


def require_rows(labels: np.ndarray, count: int, classes: Sequence[int]) -> None:
    """Raise InputError unless `classes` are distinct, within `count`, and each has some of the rows in `labels` but not all."""
    group = sorted(classes)
    fix = "Correct the classes of the bias correction, or add validation rows of them."
    if len(set(group)) < len(group) or not set(group) <= set(range(count)):
        expected = f"different classes from 0 to {count - 1}"
        raise InputError("bias correction, classes", expected=expected, found=str(list(classes)), fix=fix)
    for name in group:
        rows = int((labels == name).sum())
        if not 0 < rows < len(labels):
            found = f"{rows} rows of it among {len(labels)}"
            raise InputError(f"bias correction of class {name}", expected="rows of it and of others", found=found, fix=fix)


def require_bias(model: torch.nn.Module, count: int) -> torch.nn.Parameter:
    """The last parameter of the model. Raises InputError if its shape is not (count,)."""
    *_, bias = model.parameters()  # build refuses models without parameters
    shape = tuple(bias.shape)
    _require(shape == (count,), f"a last parameter of shape {shape} for {count} classes")
    return bias


def fold_into(model: torch.nn.Module, offsets: np.ndarray, inputs: Inputs, logits: np.ndarray) -> np.ndarray:
    """Add `offsets` to the last parameter of the model, in place, and check that its logits change by exactly these.

    offsets: (C,) float, in logits. inputs: of N rows, see predict; logits: (N, C) float, the predictions for them before.
    Returns the predictions afterwards, (N, C) float32. Raises InputError, and restores the model, if its last parameter is
    not the bias of its logits.
    """
    bias = require_bias(model, len(offsets))
    before = bias.detach().clone()
    try:
        with torch.no_grad():
            bias.add_(torch.from_numpy(offsets).to(bias))
        after, wanted = predict(model, inputs), logits + offsets
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
        raise InputError("bias correction", expected=expected, found=found, fix="Change the model, or do not correct its bias.")


def _cost(logits: np.ndarray, labels: np.ndarray, offsets: np.ndarray) -> tuple[int, float]:
    """The objective: errors first, then NLL in nats."""
    corrected = logits + offsets
    return metrics.errors(corrected, labels), metrics.nll(corrected, labels)


def _descend(logits: np.ndarray, labels: np.ndarray, moves: Sequence[Sequence[int]]) -> np.ndarray:
    """Start with no offsets, and shift each group of classes in `moves` by one amount, until no shift is better."""
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
    """The shift of the classes `inside`, (C,) bool, with the fewest errors, and among those with the lowest NLL.

    Each row has one point, its largest logit outside minus its largest inside: above it, a class inside is predicted, and
    below it one outside. So errors are constant between two points. NLL is convex in the shift, so in each interval with the
    fewest errors, the shift nearest to the minimum of NLL is best.
    """
    inner, outer = (np.where(part, logits, -np.inf) for part in (inside, ~inside))
    change = (inner.argmax(axis=1) != labels).astype(int) - (
        outer.argmax(axis=1) != labels
    )  # of errors, from below the point to above
    flips = change != 0
    points, index = np.unique((outer.max(axis=1) - inner.max(axis=1))[flips], return_inverse=True)
    errors = np.append(0, np.cumsum(np.bincount(index, weights=change[flips], minlength=len(points))))
    fewest = errors == errors.min()
    low, high = np.append(-np.inf, points)[fewest], np.append(points, np.inf)[fewest]
    gap = np.logaddexp.reduce(inner, axis=1) - np.logaddexp.reduce(outer, axis=1)
    share = inside[labels].mean()
    margin = np.minimum(MARGIN, (high - low) / 2)
    candidates = np.clip(_lowest_nll(gap, share), low + margin, high - margin)
    return min(map(float, candidates), key=lambda shift: float(np.logaddexp(gap + shift, 0).mean() - share * shift))


def _lowest_nll(gap: np.ndarray, share: float) -> float:
    """The shift x for which the mean of sigmoid(gap + x), the probability inside, equals the share of labels inside."""
    from scipy.optimize import brentq
    from scipy.special import expit

    reach = 1 + abs(np.log(share / (1 - share))) + 2 * np.abs(gap).max()  # at −reach, all probabilities are below the share
    return float(brentq(lambda shift: expit(gap + shift).mean() - share, -reach, reach, maxiter=_STEPS))
