"""A source of what a capture writes: a net that is run, or a table of logits that is looked up."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from pipeline.base import files, runtime
from pipeline.base.errors import InputError, IntegrityError
from pipeline.cache.knowledge.head import Head
from pipeline.cache.knowledge.knowledge import Knowledge, sampled
from pipeline.cache.layout import Unholdable
from pipeline.cache.manifest import Part
from pipeline.cache.writer import Work
from pipeline.data.splits import Split

APART = 1e-4  # share of the sum of magnitudes that a logit is, by which rounding may change it; far more than it does


class Source(Protocol):
    """What gives the logits of a teacher, and whatever else is kept of it."""

    @property
    def knowledge(self) -> Knowledge:
        """What is kept."""

    @property
    def witnesses(self) -> Sequence[files.Witness]:
        """They tell later whether what was loaded has changed, besides model.json."""

    def load(self) -> object:
        """Load the teacher, unless that was done; raises IntegrityError where it is damaged."""

    def head(self) -> Head:
        """What makes logits of hidden states, where these are kept."""

    def fill(self, work: Work, splits: Mapping[str, Split], missing: Sequence[Part]) -> None:
        """Load the teacher, and publish every missing span."""


def progress_of(work: Work, missing: Sequence[Part], name: str) -> Any:
    """The progress of a capture, with the spans that an earlier run had recorded."""
    bar = runtime.progress((), f"capture {name}", total=work.total, unit="spans")
    bar.update(work.total - len(missing))
    return bar


def size_of(work: Work) -> int:
    """Bytes of all spans of the finished cache."""
    total = 0
    for extent in work.extents.values():
        whole, rest = divmod(extent.rows, work.span)
        each = whole * work.knowledge.shard_bytes(work.span) + (work.knowledge.shard_bytes(rest) if rest else 0)
        total += extent.views * each
    return total


def publish(
    work: Work,
    name: str,
    source: Split,
    split: str,
    view: int,
    span: int,
    outputs: Callable[[], Sequence[np.ndarray]],
) -> None:
    """Write what a teacher called `name` gives for one span.

    outputs: gives the logits, then the hidden states if these are kept, then every feature. Raises IntegrityError, naming the
    row, for a number that cannot be stored, and InputError where hidden states do not give the logits.
    """
    logits, *others = outputs()
    hidden = others.pop(0) if work.head is not None else None
    if work.head is not None and hidden is not None:
        _require_head(work.head, hidden, logits, f"teacher {name}, {split} view {view}, span {span}")
    try:
        work.publish(split, view, span, source.span_digests[span], logits, hidden, others)
    except Unholdable as error:
        start, _ = source.spans()[span]
        row = f"{split} view {view}, row {start + error.row} (id {source.ids(span)[error.row]})"
        what, place = (
            ("logit", f"class {source.classes[error.column]}")
            if error.array == "logits"
            else ("number", f"{error.array}, number {error.column}")
        )
        dtype = work.knowledge.arrays[error.array].dtype if error.array in work.knowledge.arrays else "float32"
        raise IntegrityError(
            f"teacher {name}, {row}, {place}",
            expected=f"a finite {what} that {dtype} can hold",
            found=str(error.value),
            fix=f"Make it again; if its {what}s are only large, set `dtype: float32`. This span was not recorded.",
        ) from error


def _require_head(head: Head, hidden: np.ndarray, logits: np.ndarray, where: str) -> None:
    """Raise InputError unless the head makes these logits of these hidden states; it was found by a few rows that are made up.

    A net may change what its last linear layer gives of some rows alone: one that cuts large logits off, say.
    """
    rows = sampled(len(logits))
    if (apart := head.apart(hidden[rows], logits[rows])) > APART:
        expected = "logits that are the outputs of the last linear layer, of every row"
        found = f"others, by {apart:.2g} of the sums that they are"
        raise InputError(f"{where}, knowledge", expected=expected, found=found, fix="Set `knowledge: logits`.")
