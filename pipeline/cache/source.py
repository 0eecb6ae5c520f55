"""A source of what a capture writes: a net that is run, or a table of logits that is looked up."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from pipeline.base import files, runtime
from pipeline.base.errors import IntegrityError
from pipeline.cache.knowledge.head import Head
from pipeline.cache.knowledge.knowledge import Knowledge
from pipeline.cache.layout import Unholdable
from pipeline.cache.manifest import Part
from pipeline.cache.writer import Work
from pipeline.data.splits import Split


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


def publish(
    work: Work,
    name: str,
    source: Split,
    split: str,
    view: int,
    span: int,
    outputs: Callable[[], Sequence[np.ndarray]],
    bar: Any,
) -> None:
    """Write what a teacher called `name` gives for one span.

    outputs: gives the logits, then the hidden states if these are kept, then every feature. Raises IntegrityError, naming the
    row, for a number that cannot be stored.
    """
    logits, *others = outputs()
    hidden = others.pop(0) if work.head is not None else None
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
        raise IntegrityError(
            f"teacher {name}, {row}, {place}",
            expected=f"a finite {what} that {work.knowledge.arrays[error.array].dtype} can hold",
            found=str(error.value),
            fix=f"Make it again; if its {what}s are only large, set `dtype: float32`. This span was not recorded.",
        ) from error
    bar.update()
