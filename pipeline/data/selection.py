"""Selection: which rows of a split a model trains on. The split and its caches do not change; other rows are not read.

A selection is a spec: `all`, `fraction(0.03)`, `only([7, 8])`, `without([3])`, or a function of your own,
`package.module:attribute(…)`, from (labels, class names) and its settings to row numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.base import randomness, spec
from pipeline.base.errors import InputError, first_line
from pipeline.base.randomness import Use
from pipeline.data.splits import UNLABELLED, class_numbers

_FIX = "Correct the setting `rows`."
_ROW, _CLASS = range(2)  # the second part of an address: random bits of a row, and of a class


@dataclass(frozen=True)
class Selection:
    """A parsed selection of rows, not yet applied to a split."""

    spec: spec.Spec

    @classmethod
    def parse(cls, text: str) -> "Selection":
        """Parse a selection.

        Args:
            text: A spec such as `fraction(0.5)`: one of ROWS, or a plug-in.

        Returns:
            The selection.

        Raises:
            InputError: The name is unknown, or a setting does not fit.
        """
        return cls(spec.parse(text, ROWS, VERSIONS, given=2))

    @property
    def text(self) -> str:
        """The canonical text, with every setting by name."""
        return self.spec.text

    def choose(self, labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
        """Apply the selection to the rows of a split.

        Args:
            labels: (N,) int64, the label of each row; -1 where unknown.
            classes: Class names in label order.

        Returns:
            (n,) int64, the numbers of the selected rows, ascending.

        Raises:
            InputError: The settings do not fit these rows, no row is selected, or a plug-in returns something else.
        """
        what, fix = f"rows {self.text}", "Correct the function."
        try:
            rows = np.asarray(self.spec(labels, tuple(classes)))
        except (ValueError, TypeError) as error:  # from numpy, for what is not an array
            raise InputError(what, expected="row numbers", found=first_line(error), fix=fix) from error
        if not rows.size:
            raise InputError(what, expected="one row or more", found=f"none of {len(labels):,}", fix=_FIX)
        distinct = np.unique(rows)
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or distinct.size < rows.size:
            found = f"{rows.dtype} {rows.shape}" + (" with duplicates" if distinct.size < rows.size else "")
            raise InputError(what, expected="different row numbers", found=found, fix=fix)
        if not 0 <= distinct[0] <= distinct[-1] < len(labels):
            expected = f"row numbers from 0 to {len(labels) - 1}"
            raise InputError(what, expected=expected, found=f"{distinct[0]} to {distinct[-1]}", fix=fix)
        return distinct.astype(np.int64)


# ---------------------------------------------------------------- selections: (labels, class names, settings) → rows


def every(labels: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """All rows."""
    return np.arange(len(labels))


def fraction(labels: np.ndarray, names: Sequence[str], share: float, balanced: bool = True, seed: int = 0) -> np.ndarray:
    """A random share, in (0, 1], of the rows. With the same seed a smaller share is part of a larger one.

    balanced: whether every class gives this share, to within one row; rows without a label count as one class. If not,
    the classes are ignored and round(share · N) rows are selected.
    """
    number = isinstance(share, int | float) and not isinstance(share, bool)
    if not number or not 0 < share <= 1:
        raise InputError("rows fraction(…), share", expected="a number in (0, 1]", found=repr(share), fix=_FIX)
    if not isinstance(balanced, bool):
        raise InputError("rows fraction(…), balanced", expected="True or False", found=repr(balanced), fix=_FIX)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise InputError("rows fraction(…), seed", expected="a whole number", found=repr(seed), fix=_FIX)
    order = randomness.permutation(len(labels), seed, Use.ROWS, _ROW)
    if not balanced:
        return order[: round(share * len(labels))]
    # Row k of the n rows of a class is selected if k + u < share · n. Each class has its own u, evenly spread over (0, 1):
    # with one u for all, classes of equal size would all round up or all round down.
    present = np.unique(labels)
    offsets = np.empty(len(present))
    offsets[randomness.order(present, seed, Use.ROWS, _CLASS)] = (np.arange(len(present)) + 0.5) / len(present)
    return np.flatnonzero(stratified(labels, order, offsets) < share)


def only(labels: np.ndarray, names: Sequence[str], classes: list[int | str]) -> np.ndarray:
    """The rows of the given classes, each named or given by its label."""
    return np.flatnonzero(np.isin(_labelled(labels), class_numbers(classes, names, "rows by class")))


def without(labels: np.ndarray, names: Sequence[str], classes: list[int | str]) -> np.ndarray:
    """The rows of all other classes."""
    return np.flatnonzero(~np.isin(_labelled(labels), class_numbers(classes, names, "rows by class")))


ROWS: dict[str, Callable[..., np.ndarray]] = {"all": every, "fraction": fraction, "only": only, "without": without}
VERSIONS = {"all": 1, "fraction": 1, "only": 1, "without": 1}


def stratified(labels: np.ndarray, order: np.ndarray, offsets: np.ndarray | float = 0.5) -> np.ndarray:
    """How far down its class each row is, as a share of the class: (N,) float64, in (0, 1) for offsets in (0, 1).

    It is (k + u) / n for row k, counted from 0, of the n rows of a class in the given order. order: a permutation of the
    rows. offsets: u, one for all classes, or one for each label that occurs, ascending.
    """
    _, sizes = np.unique(labels, return_counts=True)
    by_class = order[np.argsort(labels[order], kind="stable")]  # every class's rows together, each in this order
    found, start = np.empty(len(order)), 0
    for size, offset in zip(sizes.tolist(), np.broadcast_to(offsets, sizes.shape), strict=True):
        found[by_class[start : start + size]] = (np.arange(size) + offset) / size
        start += size
    return found


def _labelled(labels: np.ndarray) -> np.ndarray:
    """The labels; raises InputError unless all are known."""
    if missing := int((labels == UNLABELLED).sum()):
        fix = "Choose by fraction(…), which needs no labels, or label the rows."
        raise InputError("rows by class", expected="a label for every row", found=f"{missing:,} rows without", fix=fix)
    return labels
