"""Rows: those of a split as a net takes them, to run it on all of them; in memory where they fit, else read in each pass."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
from torch import nn

from pipeline.base import runtime
from pipeline.base.background import ahead
from pipeline.data.splits import Split
from pipeline.models.encoding import example, tensor


@dataclass(frozen=True)
class Rows:
    """All rows of a split, or some that follow each other, untouched, for `predict`.

    most_bytes: they are held, from the first pass on, where they take no more; else every pass reads them span by span, the
    next span while the net runs. The pieces are the same to the last bit. net: needed for texts, which it encodes; see `of`.
    some: the numbers of the rows; None for all.
    """

    source: Split
    device: torch.device
    most_bytes: int
    net: nn.Module | None = None
    some: range | None = None

    def of(self, net: nn.Module) -> "Rows":
        """These rows as this net takes them: numbers are the same for all nets, and are held once."""
        return replace(self, net=net) if self.source.inputs.kind == "text" else self

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, rows: slice) -> "Rows":
        """Some of these rows, which follow each other. Of the others none is held, and no span is read without need."""
        return replace(self, some=self._numbers[rows])

    def split(self, size: int) -> Iterator[torch.Tensor]:
        """The rows, `size` at a time from the first one on: (size, *shape) on the device, the last piece may be smaller.

        Raises IntegrityError where the split's bytes have changed, InputError as encoding.tensor does.
        """
        if self._fits:
            yield from self._held.split(size)
            return
        waiting: list[torch.Tensor] = []
        for found in ahead(partial(self._placed, span) for span in self._spans):
            waiting.append(found)
            if sum(map(len, waiting)) < size:  # small spans: a piece takes several
                continue
            held = _joined(waiting)
            whole = len(held) // size * size
            yield from held[:whole].split(size)
            waiting = [held[whole:]] if whole < len(held) else []
        if waiting:
            yield _joined(waiting)

    @property
    def _numbers(self) -> range:
        return range(self.source.rows) if self.some is None else self.some

    @property
    def _spans(self) -> range:
        """The spans that have some of these rows."""
        first, end = self._numbers.start, self._numbers.stop
        return range(first // self.source.span, -(-end // self.source.span))

    def _placed(self, span: int) -> torch.Tensor:
        return tensor(self.net, self._read(span)).to(self.device)

    def _read(self, span: int) -> np.ndarray:
        start, stop = self.source.spans()[span]
        first, end = max(self._numbers.start, start), min(self._numbers.stop, stop)
        return self.source.read(span, None if (first, end) == (start, stop) else np.arange(first - start, end - start))

    @property
    def _fits(self) -> bool:
        one = example(self.net, self.source.inputs, 1)
        return len(self) * math.prod(one.shape) * one.dtype.itemsize <= self.most_bytes

    @cached_property
    def _held(self) -> torch.Tensor:
        spans = runtime.progress(self._spans, f"reading {self.source.path.name}", unit="spans")
        return tensor(self.net, np.concatenate([self._read(span) for span in spans])).to(self.device)


def _joined(pieces: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat(list(pieces)) if len(pieces) > 1 else pieces[0]
