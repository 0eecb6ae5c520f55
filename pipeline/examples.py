"""Examples: the rows that a model trains on, with their pixels and target logits, in a new order every epoch.

What fits the memory budget is read once, verified, and shuffled exactly. What does not is streamed: the spans in a
random order, a window of them at a time, the rows shuffled within the window, the next window read in the background.
Which of the two it is follows from sizes and settings alone, so that the same settings give the same order anywhere.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise

import numpy as np
import torch

from pipeline import randomness, runtime
from pipeline.background import ahead
from pipeline.errors import InputError
from pipeline.randomness import Use
from pipeline.targets import Targets
from pipeline.transfer import Split
from pipeline.views import Policy

BLOCK_BYTES = 16 << 20  # gathered at a time and cut into batches: many small gathers cost more than the bytes do


@dataclass(frozen=True)
class Batch:
    """Rows of one step, on the device.

    rows, views: (B,) int64. pixels: (B, C, H, W) uint8, as the view shows them. targets: (B, classes) target logits, or
    None without teachers.
    """

    rows: torch.Tensor
    views: torch.Tensor
    pixels: torch.Tensor
    targets: torch.Tensor | None

    def cut(self, start: int, stop: int) -> "Batch":
        """Some of its rows, sharing memory."""
        targets = None if self.targets is None else self.targets[start:stop]
        return Batch(self.rows[start:stop], self.views[start:stop], self.pixels[start:stop], targets)

    def joined(self, other: "Batch") -> "Batch":
        """These rows, then those of `other`."""
        targets = None if self.targets is None else torch.cat([self.targets, other.targets])
        return Batch(*(torch.cat([getattr(self, name), getattr(other, name)]) for name in ("rows", "views", "pixels")), targets)


@dataclass(frozen=True)
class Window:
    """Rows in memory, on the device.

    rows: (n,) int64, which they are. pixels: (n, C, H, W) uint8, untouched. targets: (views, n, classes), or None;
    where only the drawn view of each row was kept, views is 1.
    """

    rows: np.ndarray
    pixels: torch.Tensor
    targets: torch.Tensor | None

    def batch(self, places: np.ndarray, views: np.ndarray, policy: Policy) -> Batch:
        """The rows at `places` in the views given, both (B,) int64."""
        device, rows = self.pixels.device, self.rows[places]
        chosen, seen = torch.from_numpy(places).to(device), torch.from_numpy(views).to(device)
        pixels = policy.apply(self.pixels.index_select(0, chosen), rows, views)
        if self.targets is None:
            targets = None
        else:
            layers = seen * len(self.rows) if len(self.targets) > 1 else 0
            targets = self.targets.flatten(0, 1).index_select(0, layers + chosen)
        return Batch(torch.from_numpy(rows).to(device), seen, pixels, targets)


@dataclass(frozen=True)
class Examples:
    """A split to train on.

    views: each epoch draws, for each row, one of this many views; None gives every row a view that no epoch had before.
    targets: None to train on labels alone. memory_bytes: what rows may take, pixels and target logits together.
    """

    split: Split
    policy: Policy
    views: int | None
    targets: Targets | None
    memory_bytes: int
    device: torch.device

    def __post_init__(self) -> None:
        if not self.whole and self.window_spans < 1:
            need = 4 * self._span_bytes / 1e9
            raise InputError(
                "memory",
                expected=f"at least {need:.3g} GB: four spans of {self.split.span:,} rows",
                found=f"{self.memory_bytes / 1e9:g} GB",
                fix="Raise the setting `memory`.",
            )

    @property
    def whole(self) -> bool:
        """Whether all rows, in all views, fit the budget and are kept from the first epoch on."""
        return self.split.rows * (self._pixel_bytes + (self.views or 1) * self._target_bytes) <= self.memory_bytes

    @property
    def window_spans(self) -> int:
        """Spans of a window while streaming: two windows fit the budget, with a span on its way into each."""
        return (self.memory_bytes // self._span_bytes - 2) // 2

    def epoch(self, seed: int, epoch: int, batch_size: int) -> Iterator[Batch]:
        """Every row once, in batches of `batch_size` (the last may be smaller); a pure function of (seed, epoch).

        Raises IntegrityError for damage in what is read.
        """
        rest: Batch | None = None
        for block in self._blocks(seed, epoch, batch_size):
            piece = block if rest is None else rest.joined(block)
            count = len(piece.rows)
            full = count - count % batch_size
            for start in range(0, full, batch_size):
                yield piece.cut(start, start + batch_size)
            rest = piece.cut(full, count) if full < count else None
        if rest is not None:
            yield rest

    def _blocks(self, seed: int, epoch: int, batch_size: int) -> Iterator[Batch]:
        """The rows of the epoch, shuffled, in blocks that end where a batch does, or a window."""
        size = batch_size * max(1, BLOCK_BYTES // (batch_size * (self._pixel_bytes + self._target_bytes)))
        given = 0
        for window in self._windows(seed, epoch):
            order = randomness.order(window.rows, seed, Use.ORDER, epoch)
            views = self._drawn(seed, epoch, window.rows)
            cuts = [0, *range(-given % batch_size or size, len(order), size), len(order)]
            for start, stop in pairwise(cuts):
                places = order[start:stop]
                yield window.batch(places, views[places], self.policy)
            given += len(order)

    def _windows(self, seed: int, epoch: int) -> Iterator[Window]:
        if self.whole:
            yield self._kept
            return
        order = randomness.permutation(len(self.split.spans()), seed, Use.SPANS, epoch)
        jobs = (partial(self._drawn_span, seed, epoch, int(span)) for span in order)
        # One reader: decoding uses several threads by itself, and the model needs the rest of the machine.
        loaded = ahead(jobs, depth=self.window_spans)
        for start in range(0, len(order), self.window_spans):
            spans = order[start : start + self.window_spans]
            yield self._gathered([self._rows(span) for span in spans], loaded, views=1)

    @cached_property
    def _kept(self) -> Window:
        spans = range(len(self.split.spans()))
        loaded = ahead((partial(self._whole_span, span) for span in spans), workers=runtime.cores(), depth=runtime.cores())
        bar = runtime.progress(loaded, f"reading {self.split.path.name}", total=len(spans), unit="span")
        return self._gathered([self._rows(span) for span in spans], iter(bar), views=self.views or 1)

    def _gathered(self, rows: Sequence[np.ndarray], loaded: Iterator, views: int) -> Window:
        """Spans as one window, copied one by one, so that no more than a span is ever there twice."""
        held = np.concatenate(rows)
        pixels = torch.empty((len(held), *self.split.shape), dtype=torch.uint8, device=self.device)
        targets = None
        start = 0
        for span in rows:
            stop = start + len(span)
            shown, wanted = next(loaded)
            pixels[start:stop] = shown
            if wanted is not None:
                if targets is None:
                    targets = torch.empty((views, len(held), wanted.shape[2]), dtype=wanted.dtype, device=self.device)
                targets[:, start:stop] = wanted
            start = stop
        return Window(held, pixels, targets)

    def _whole_span(self, span: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Pixels (n, C, H, W) of one span, and its target logits (views, n, classes)."""
        wanted = None
        if self.targets is not None:
            wanted = torch.stack([self.targets.span("transfer", view, span) for view in range(self.views)])
        return torch.from_numpy(self.split.images(span)), wanted

    def _drawn_span(self, seed: int, epoch: int, span: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Likewise, of each row only the view that this epoch draws: (1, n, classes)."""
        wanted = None
        if self.targets is not None:
            drawn = torch.from_numpy(self._drawn(seed, epoch, self._rows(span)))
            for view in drawn.unique().tolist():
                found = self.targets.span("transfer", view, span)
                wanted = found if wanted is None else torch.where((drawn == view)[:, None], found, wanted)
            wanted = wanted[None]
        return torch.from_numpy(self.split.images(span)), wanted

    def _drawn(self, seed: int, epoch: int, rows: np.ndarray) -> np.ndarray:
        """The view of each row in this epoch: (n,) int64, a pure function of (seed, epoch, row)."""
        if self.views is None:
            return np.full(len(rows), epoch + 1)
        return randomness.integers(self.views, seed, Use.DRAW, epoch, rows)

    def _rows(self, span: int) -> np.ndarray:
        return np.arange(*self.split.spans()[span])

    @property
    def _pixel_bytes(self) -> int:
        return int(np.prod(self.split.shape))

    @property
    def _target_bytes(self) -> int:
        return 0 if self.targets is None else self.targets.classes * self.targets.itemsize

    @property
    def _span_bytes(self) -> int:
        return self.split.span * (self._pixel_bytes + self._target_bytes)
