"""Rows: which rows of a split a model trains on. The split and its caches stay as they are; what is not chosen is not read.

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
    """A choice of rows, not yet made; `spec.text` is its canonical text."""

    spec: spec.Spec

    @classmethod
    def parse(cls, text: str) -> "Selection":
        """Raises InputError for what is not one of ROWS, or a plug-in, with settings that fit."""
        return cls(spec.parse(text, ROWS, VERSIONS, given=2))

    @property
    def text(self) -> str:
        """Canonical, with every setting by name; equal text chooses equal rows of equal labels."""
        return self.spec.text

    def choose(self, labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
        """The chosen rows, ascending: (n,) int64. labels: (N,) int64, -1 where unknown; classes: names in label order.

        Raises InputError for settings that do not fit these rows, and where no row is chosen.
        """
        try:
            rows = np.asarray(self.spec(labels, tuple(classes)))
        except (ValueError, TypeError) as error:  # of lists that are no array
            found, fix = first_line(error), "Correct the function."
            raise InputError(f"rows {self.text}", expected="row numbers", found=found, fix=fix) from error
        if not rows.size:
            found = f"none of {len(labels):,}"
            raise InputError(f"rows {self.text}", expected="one row or more", found=found, fix=_FIX)
        distinct = np.unique(rows)
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or distinct.size < rows.size:
            found = f"{rows.dtype} {rows.shape}" + (" with duplicates" if distinct.size < rows.size else "")
            raise InputError(f"rows {self.text}", expected="different row numbers", found=found, fix="Correct the function.")
        if not 0 <= distinct[0] <= distinct[-1] < len(labels):
            found = f"{distinct[0]} to {distinct[-1]}"
            expected = f"row numbers from 0 to {len(labels) - 1}"
            raise InputError(f"rows {self.text}", expected=expected, found=found, fix="Correct the function.")
        return distinct.astype(np.int64)


# ---------------------------------------------------------------- what can be chosen: (labels, class names, settings) → rows


def every(labels: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """All rows."""
    return np.arange(len(labels))


def fraction(labels: np.ndarray, names: Sequence[str], share: float, balanced: bool = True, seed: int = 0) -> np.ndarray:
    """A share of the rows, in (0, 1]; at one seed a smaller share is part of a larger one.

    balanced: every class gives its share, to within one row; rows without a label count as a class of their own. Else the
    rows with the smallest random bits, round(share · N) of them, whatever their classes.
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
    # Row k of the n of a class is taken where k + u < share · n. Every class has a u of its own, evenly spread over (0, 1):
    # with one u for all, classes of equal size would all round up or all round down.
    present = np.unique(labels)
    offsets = np.empty(len(present))
    offsets[randomness.order(present, seed, Use.ROWS, _CLASS)] = (np.arange(len(present)) + 0.5) / len(present)
    return np.flatnonzero(stratified(labels, order, offsets) < share)


def only(labels: np.ndarray, names: Sequence[str], classes: list[int | str]) -> np.ndarray:
    """The rows of some classes, each given by its label or its name."""
    return np.flatnonzero(np.isin(_labelled(labels), class_numbers(classes, names, "rows by class")))


def without(labels: np.ndarray, names: Sequence[str], classes: list[int | str]) -> np.ndarray:
    """The rows of all other classes."""
    return np.flatnonzero(~np.isin(_labelled(labels), class_numbers(classes, names, "rows by class")))


_Table = dict[str, Callable[..., np.ndarray]]

ROWS: _Table = {"all": every, "fraction": fraction, "only": only, "without": without}
VERSIONS = {"all": 1, "fraction": 1, "only": 1, "without": 1}


def stratified(labels: np.ndarray, order: np.ndarray, offsets: np.ndarray | float = 0.5) -> np.ndarray:
    """Each row's place within its class, as a share of the class: (N,) float64, in (0, 1) for offsets in (0, 1).

    (k + u) / n for the k-th, from 0 on, of the n rows of a class in this order. order: a permutation of the rows;
    offsets: u, one for all, or one for each label that occurs, ascending.
    """
    _, group, sizes = np.unique(labels[order], return_inverse=True, return_counts=True)
    by_class = np.argsort(group, kind="stable")  # every class's rows together, each in this order
    ranks = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    found = np.empty(len(order))
    found[order[by_class]] = (ranks + np.repeat(np.broadcast_to(offsets, sizes.shape), sizes)) / np.repeat(sizes, sizes)
    return found


def _labelled(labels: np.ndarray) -> np.ndarray:
    """The labels, where all are known."""
    if missing := int((labels == UNLABELLED).sum()):
        fix = "Choose by fraction(…), which needs no labels, or label the rows."
        raise InputError("rows by class", expected="a label for every row", found=f"{missing:,} rows without", fix=fix)
    return labels
