"""Examples: the rows that a model trains on, with their inputs and target logits, in a new order every epoch.

Rows that fit in memory are read and verified once, and shuffled exactly. Other rows are streamed: the spans in a random
order, a window of spans at a time, the rows shuffled within the window, the next window read in the background. Sizes and
settings alone decide which of the two it is, so that the same settings give the same order on any machine.

Of several ranks each has the same order, and trains on its own piece of every batch. It reads no inputs of other pieces where
rows are streamed, unless views mix rows; spans of a cache it reads whole. Rows that fit in memory are held by every rank.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import cycle, pairwise
from typing import NamedTuple

import numpy as np
import torch

from pipeline.base import randomness, ranks, runtime
from pipeline.base.background import ahead
from pipeline.base.errors import InputError
from pipeline.base.randomness import Use
from pipeline.base.ranks import Ranks
from pipeline.data.views import NONE, Policy
from pipeline.training.featured import Featured
from pipeline.training.inputs import Inputs, NoInputs
from pipeline.training.signal import Signal
from pipeline.training.targets import Targets

BLOCK_BYTES = 1 << 20  # gathered at a time and cut into batches: one big gather is faster than many small ones
_HOST = torch.device("cpu")
SPARE = 12  # one span in so many is left for what readers hold beside it: stored bytes, and what libraries keep
READERS = 2  # threads that read spans: one waits for the disk or hashes while the other decodes


class Batch(NamedTuple):
    """The examples of one step, on the device.

    rows, views: (B,) int64. inputs: (B, *shape), in that view; empty without a split. targets: (B, layers, classes) target
    logits, one layer for each temperature that they depend on; empty without a teacher. partners, shares: of views that mix two
    rows, the other row, (B, 1) int64, and the share of the row itself, (B, 1) float32; (B, 0) for all other views.
    features: of teachers, (B, …) each, which a batch gets when it is complete; none where only logits are learned from.
    """

    rows: torch.Tensor
    views: torch.Tensor
    inputs: torch.Tensor
    targets: torch.Tensor
    partners: torch.Tensor
    shares: torch.Tensor
    features: tuple[torch.Tensor, ...] = ()

    def cut(self, start: int, stop: int) -> "Batch":
        """Some of its rows, which share memory with it."""
        return Batch._make((*(column[start:stop] for column in self._columns), ()))

    def split(self, size: int) -> Iterator["Batch"]:
        """Its rows in batches of `size`, which divides their number; they share memory with it."""
        if not len(self.rows):
            return iter(())  # torch would give one empty batch
        return map(Batch, *(torch.split(column, size) for column in self._columns))

    def joined(self, other: "Batch") -> "Batch":
        """These rows, then those of `other`."""
        return Batch._make((*map(torch.cat, zip(self._columns, other._columns, strict=True)), ()))

    @property
    def _columns(self) -> tuple[torch.Tensor, ...]:
        """All but the features, which it still lacks."""
        return self.rows, self.views, self.inputs, self.targets, self.partners, self.shares


@dataclass(frozen=True)
class Window:
    """Rows in memory: all of them on the device, or a window on the host.

    rows: (n,) int64, their numbers. inputs: (layers, n, *shape): a layer is a view, or the first, second … view that was drawn
    of each row; there is one where no view is applied yet. stored: (layers, n, *shape) of the signal, likewise. drawn: whether
    only drawn views were read.
    """

    rows: np.ndarray
    inputs: torch.Tensor
    stored: torch.Tensor
    drawn: bool = False

    def blocks(
        self,
        order: np.ndarray,
        views: np.ndarray,
        cuts: Sequence[int],
        policy: Policy,
        device: torch.device,
        source: Inputs,
    ) -> Iterator[Batch]:
        """The rows at the indices `order`, each in its views, as one block from each cut to the next.

        order: (n,) int64. views: (n, draws) int64, those of each row, which follow each other. cuts: counted in examples.
        policy: makes views of the inputs; views.NONE where they are in their views. source: what the rows are of. The targets
        of a block are what is stored. Indices are copied to the device once for all blocks, so that a GPU does not wait at
        each block.
        """
        draws = views.shape[1]
        drawn, order = views[order].ravel(), np.repeat(order, draws)
        rows, layers = self.rows[order], np.arange(len(order)) % draws if self.drawn else drawn
        held_on = self.inputs.device
        indices = torch.from_numpy(order).to(held_on)
        of_layer = indices + torch.from_numpy(layers).to(held_on) * len(self.rows)
        seen_at = of_layer if len(self.inputs) > 1 else indices
        stored_at = of_layer if len(self.stored) > 1 else indices
        shown = [torch.from_numpy(column).to(device) for column in (rows, drawn)]
        inputs, targets = self.inputs.flatten(0, 1), self.stored.flatten(0, 1)
        for start, stop in pairwise(cuts):
            here = slice(start, stop)
            own = inputs.index_select(0, seen_at[here]).to(device)
            stored = targets.index_select(0, stored_at[here]).to(device)
            partners, shares = (torch.empty((stop - start, 0), dtype=kind) for kind in (torch.int64, torch.float32))
            if not policy.mixes:
                seen = policy.apply(own, rows[here], drawn[here])
            else:
                others, weights = policy.partners(rows[here], drawn[here], source.span, source.rows, source.shape)
                there = torch.from_numpy(self._positions(others, source.span)).to(held_on)
                seen = policy.apply(own, rows[here], drawn[here], (others, inputs.index_select(0, there).to(device)))
                partners, shares = (torch.from_numpy(column)[:, None].to(device) for column in (others, weights))
            yield Batch(shown[0][here], shown[1][here], seen, stored, partners, shares)

    def _positions(self, rows: np.ndarray, span: int) -> np.ndarray:
        """Where in the window these rows are; the spans that it holds are whole, in any order."""
        starts = np.flatnonzero(np.r_[True, self.rows[1:] // span != self.rows[:-1] // span])
        spans = self.rows[starts] // span
        order = np.argsort(spans)
        found: np.ndarray = starts[order[np.searchsorted(spans[order], rows // span)]] + rows % span
        return found


class _Load(NamedTuple):
    """What is read for a window. rows: by span, which of its rows. order: (n,) int64, their indices, as trained on."""

    rows: dict[int, np.ndarray]
    order: np.ndarray


@dataclass(frozen=True)
class Examples:
    """What a student or a teacher trains on.

    inputs: where the rows come from, shown under `policy`. views: each epoch draws one of this many views for each row; None
    gives every row a new view in every epoch. signal: where the target logits come from. memory_bytes: memory for rows; it
    counts one float32 logit per class and view even where no logits are stored, so that the order of rows is the same for
    cached and live teachers, and besides the bytes of features. chosen: (n,) int64, the rows to train on, ascending; None for
    all. Spans without a chosen row are not read; the chosen rows come in the order that they have among all rows. draws: how
    many different views of each row an epoch draws; they are examples of one batch, side by side. ranks: whose pieces of the
    batches are read, by default those of this process.
    Raises InputError where not even four spans fit in memory_bytes, for rows that do not exist, and for chosen rows under a
    policy that mixes rows: what was left out would be learned from as a partner.
    """

    inputs: Inputs
    policy: Policy
    views: int | None
    signal: Signal
    memory_bytes: int
    device: torch.device
    chosen: np.ndarray | None = None
    draws: int = 1
    ranks: Ranks = field(default_factory=ranks.current)
    _spare: list[list[Window]] = field(init=False, default_factory=list, repr=False, compare=False)

    @classmethod
    def of_targets(cls, targets: Targets | Featured, views: int, memory_bytes: int, device: torch.device) -> "Examples":
        """Target logits, and features, without inputs, for a training loop of your own."""
        classes = next(iter(targets.caches.values())).manifest.identity["classes"]
        return cls(NoInputs(targets.rows, targets.span, classes), NONE, views, targets, memory_bytes, device)

    def __post_init__(self) -> None:
        most = (math.inf if self.views is None else self.views) if self.policy.augments else 1
        if self.draws > most:
            expected, fix = f"{most} or less: a row has so many different views", "Set `draws: 1`, or take more views."
            raise InputError("draws", expected=expected, found=str(self.draws), fix=fix)
        if self.chosen is not None and not self._is_choice(self.chosen):
            raise InputError(
                "chosen rows",
                expected=f"one or more of rows 0 to {self.inputs.rows - 1}, ascending, int64",
                found=f"{self.chosen.dtype} {self.chosen.shape}: {np.array2string(self.chosen, threshold=6, edgeitems=2)}",
                fix="Choose them with data.selection.Selection.",
            )
        if self.chosen is not None and self.policy.mixes:
            raise InputError(
                "rows",
                expected=f"all of them, as view policy {self.policy.text} mixes each row with any other of its span",
                found=f"{len(self.chosen):,} of {self.inputs.rows:,}",
                fix="Set `rows: all`, or choose a policy that mixes no rows.",
            )
        if not self.whole and self.window_spans < 1:
            need = 4 * self._span_bytes / 1e9
            raise InputError(
                "memory",
                expected=f"at least {need:.3g} GB: four spans of {self.inputs.span:,} rows",
                found=f"{self.memory_bytes / 1e9:g} GB",
                fix="Raise the setting `memory`.",
            )

    @property
    def rows(self) -> int:
        """Number of rows in an epoch."""
        return self.inputs.rows if self.chosen is None else len(self.chosen)

    @property
    def whole(self) -> bool:
        """Whether the rows, in all views, fit in memory; then they are kept from the first epoch on."""
        if self.views is None and self.inputs.replays:  # new views in every epoch, which are made when rows are read
            return False
        return self.rows * (self._held_views * self._input_bytes + (self.views or 1) * self._signal_bytes) <= self.memory_bytes

    @property
    def temperatures(self) -> int:
        """The number of temperatures, at least 1, whose target logits fit in memory at once."""
        if not self.whole:
            return 1
        left = self.memory_bytes // self.rows - self._held_views * self._input_bytes
        left -= (self.views or 1) * self.signal.feature_bytes
        return max(1, left // ((self.views or 1) * max(self._logits_bytes, 1)))

    def release(self) -> None:
        """Free the memory of the rows; the next epoch reads them again."""
        self.__dict__.pop("_kept", None)
        self._spare.clear()

    @property
    def window_spans(self) -> int:
        """Number of spans in a window while streaming: two windows fit in memory, the two spans that are being read, and more.

        Of spans with only some chosen rows, a window holds more, up to the same number of rows.
        """
        spans = self.memory_bytes // self._span_bytes
        return (spans - spans // SPARE - READERS) // 2

    def epoch(self, seed: int, epoch: int, batch_size: int) -> Iterator[Batch]:
        """Every row once, in batches of `batch_size` rows (the last may be smaller); a pure function of (seed, epoch).

        A rank gets its piece of every batch; of the last one it may be empty. Each rank needs a row of a full batch.
        Raises IntegrityError for damaged data.
        """
        own = self.draws * _length(self.ranks.piece(min(batch_size, self.rows)))  # counted in examples
        rest: Batch | None = None
        for block in self._blocks(seed, epoch, batch_size, own):
            piece = block if rest is None else rest.joined(block)
            count, rest = len(piece.rows), None
            if over := count % own:
                piece, rest = piece.cut(0, count - over), piece.cut(count - over, count)
            yield from map(self._with_targets, piece.split(own))
        if rest is not None:
            yield self._with_targets(rest)
        elif not _length(self.ranks.piece(self.rows % batch_size or batch_size)):
            yield self._with_targets(piece.cut(0, 0))

    def _with_targets(self, batch: Batch) -> Batch:
        """The batch with target logits, and features, in place of what is stored for them."""
        stored = batch.targets
        return batch._replace(targets=self.signal.targets(stored, batch.inputs), features=self.signal.features(stored))

    def _blocks(self, seed: int, epoch: int, batch_size: int, own: int) -> Iterator[Batch]:
        """The shuffled rows of the epoch, in blocks that end where a batch or a window ends. own: examples of a full batch."""
        size = own * max(1, BLOCK_BYTES // (own * max(1, self._input_bytes + self._stored_bytes)))
        policy = NONE if self.inputs.replays else self.policy
        given = 0
        for window, order in self._windows(seed, epoch, batch_size):
            views, count = self._drawn(seed, epoch, window.rows), len(order) * self.draws
            cuts = [0, *range(-given % own or size, count, size), count]
            yield from window.blocks(order, views, cuts, policy, self.device, self.inputs)
            given += count

    def _windows(self, seed: int, epoch: int, batch_size: int) -> Iterator[tuple[Window, np.ndarray]]:
        """Rows in memory, and the indices of those to train on, in their order."""
        if self.whole:
            order = randomness.order(self._kept.rows, seed, Use.ORDER, epoch)
            yield self._kept, order[self._own(0, len(order), batch_size)]
            return
        size = min(self._window_rows, self.rows)
        if not self._reads_all:
            size = min(size, (size // batch_size + 2) * _length(self.ranks.piece(batch_size)))
        buffers = self._spare.pop() if self._spare else [self._buffer(size, self.draws, _HOST) for _ in range(2)]
        windows = zip(cycle(buffers), self._loads(seed, epoch, batch_size), strict=False)
        try:
            # a buffer is filled again only when its window is used up
            jobs = (partial(self._loaded, buffer, load, (seed, epoch)) for buffer, load in windows)
            yield from ahead(jobs, depth=1)
        finally:
            self._spare.append(buffers)  # for the next epoch; an epoch that runs at the same time has its own buffers

    @property
    def _reads_all(self) -> bool:
        """Whether a window holds the rows of all ranks: views that mix rows take any of them."""
        return self.ranks.alone or self.policy.mixes

    def _own(self, start: int, count: int, batch_size: int) -> slice | np.ndarray:
        """Which of `count` rows are this rank's, that follow the first `start` ones of an epoch."""
        if self.ranks.alone:
            return slice(None)
        places = np.arange(start, start + count)
        last = self.rows - self.rows % batch_size  # where the smaller batch begins
        found = np.zeros(count, bool)
        for size, here in ((batch_size, places < last), (self.rows - last, places >= last)):
            piece, inside = self.ranks.piece(size), places % batch_size
            found |= here & (piece.start <= inside) & (inside < piece.stop)
        return np.flatnonzero(found)

    def _loads(self, seed: int, epoch: int, batch_size: int) -> Iterator[_Load]:
        """What is read for each window of an epoch, where rows are streamed."""
        start = 0
        for spans in self._grouped(self._spans[randomness.order(self._spans, seed, Use.SPANS, epoch)]):
            held = {int(span): self._held(int(span)) for span in spans}
            rows = np.concatenate(list(held.values()))
            order = randomness.order(rows, seed, Use.ORDER, epoch)
            order = order[self._own(start, len(rows), batch_size)]
            start += len(rows)
            if not self._reads_all:
                read = np.sort(order)
                own = np.split(rows[read], np.searchsorted(read, np.cumsum([len(some) for some in held.values()]))[:-1])
                held = {span: some for span, some in zip(held, own, strict=True) if len(some)}
                order = np.searchsorted(read, order)
            if len(order):
                yield _Load(held, order)

    def _loaded(self, buffer: Window, load: _Load, draw: tuple[int, int]) -> tuple[Window, np.ndarray]:
        return self._load(buffer, load.rows, draw), load.order

    @cached_property
    def _kept(self) -> Window:
        """All rows, in all views."""
        return self._load(
            self._buffer(self.rows, self.views or 1, self.device),
            {int(span): self._held(int(span)) for span in self._spans},
            None,
        )

    def _grouped(self, spans: np.ndarray) -> Iterator[np.ndarray]:
        """The spans in this order, as many at a time as fit in a window."""
        start, held = 0, 0
        for index, span in enumerate(spans):
            count = len(self._held(int(span)))
            if held + count > self._window_rows:
                yield spans[start:index]
                start, held = index, 0
            held += count
        yield spans[start:]

    def _buffer(self, rows: int, views: int, device: torch.device) -> Window:
        shape, held = self.inputs.shape, views if self.inputs.replays else 1
        inputs = torch.empty((held, rows, *shape), dtype=self.inputs.dtype, device=device)
        stored = torch.empty((views, rows, *self.signal.shape), dtype=self.signal.dtype, device=device)
        return Window(np.empty(rows, np.int64), inputs, stored)

    def _load(self, buffer: Window, held: Mapping[int, np.ndarray], draw: tuple[int, int] | None) -> Window:
        """Fill a buffer with rows of spans, and return the part of it that they take.

        held: by span, its rows. draw: (seed, epoch), to read only the views of each row that this epoch draws; None for all.
        """
        spans, rows = list(held), list(held.values())
        stops = np.cumsum([len(some) for some in rows])

        def fill(number: int) -> None:
            where = slice(stops[number] - len(rows[number]), stops[number])
            self._fill(buffer, where, spans[number], rows[number], draw)

        with ThreadPoolExecutor(READERS) as pool:
            filled = pool.map(fill, range(len(spans)))
            for _ in filled if draw else runtime.progress(filled, "reading", total=len(spans), unit="spans"):
                pass
        inputs, stored = (each[:, : stops[-1]] for each in (buffer.inputs, buffer.stored))
        return Window(np.concatenate(rows), inputs, stored, drawn=draw is not None)

    def _fill(self, buffer: Window, where: slice, span: int, rows: np.ndarray, draw: tuple[int, int] | None) -> None:
        inside = None if len(rows) == self._count(span) else rows - span * self.inputs.span  # indices in the span
        drawn = None if draw is None else torch.from_numpy(self._drawn(*draw, rows))
        self._fill_inputs(buffer.inputs[:, where], span, inside, drawn)
        wanted = buffer.stored[:, where]
        if not wanted.numel():
            return
        every = range(len(wanted)) if drawn is None else np.unique(drawn).tolist()
        if inside is None and (drawn is None or len(every) == 1):  # read into the buffer itself
            for layer, view in zip(wanted, every, strict=True):
                self.signal.read(view, span, layer)
            return
        held = torch.empty((self._count(span), *self.signal.shape), dtype=self.signal.dtype)
        chosen = slice(None) if inside is None else torch.from_numpy(inside)
        for view in every:
            self.signal.read(view, span, held)
            if drawn is None:
                wanted[view] = held[chosen]
                continue
            for layer, of_rows in zip(wanted, drawn.unbind(1), strict=True):
                layer[of_rows == view] = held[chosen][of_rows == view]

    def _fill_inputs(self, wanted: torch.Tensor, span: int, inside: np.ndarray | None, drawn: torch.Tensor | None) -> None:
        """Read the inputs of a span, (layers, n, *shape): untouched, in all views, or each row in the views that were drawn."""
        every = [np.full(wanted.shape[1], view) for view in range(len(wanted))]
        views = every if drawn is None else list(drawn.numpy().T[: len(wanted)])
        for layer, found in zip(wanted, self.inputs.read(span, inside, views), strict=True):
            layer.copy_(found)

    def _drawn(self, seed: int, epoch: int, rows: np.ndarray) -> np.ndarray:
        """The views of each row in this epoch, all different: (n, draws) int64, a pure function of (seed, epoch, row)."""
        if self.views is None:
            return np.tile(epoch * self.draws + np.arange(self.draws) + 1, (len(rows), 1))
        found = np.zeros((len(rows), self.draws), np.int64)
        for number in range(self.draws if self.views > 1 else 0):
            address = (epoch, rows, number) if number else (epoch, rows)
            drawn = randomness.integers(self.views - number, seed, Use.DRAW, *address)
            for taken in np.sort(found[:, :number], axis=1).T:  # the drawn-th of those that are left
                drawn += drawn >= taken
            found[:, number] = drawn
        return found

    def _held(self, span: int) -> np.ndarray:
        """The rows of a span that are trained on."""
        start = span * self.inputs.span
        if self.chosen is None:
            return np.arange(start, start + self._count(span))
        first, stop = np.searchsorted(self.chosen, (start, start + self.inputs.span))
        return self.chosen[first:stop]

    def _count(self, span: int) -> int:
        """Number of rows in a span, chosen or not."""
        return min(self.inputs.span, self.inputs.rows - span * self.inputs.span)

    @cached_property
    def _spans(self) -> np.ndarray:
        """The spans with rows to train on."""
        if self.chosen is None:
            return np.arange(-(-self.inputs.rows // self.inputs.span))
        return np.unique(self.chosen // self.inputs.span)

    def _is_choice(self, rows: np.ndarray) -> bool:
        if rows.ndim != 1 or rows.dtype != np.int64 or not rows.size:
            return False
        return bool(rows[0] >= 0 and rows[-1] < self.inputs.rows and (np.diff(rows) > 0).all())

    @property
    def _window_rows(self) -> int:
        return self.window_spans * self.inputs.span

    @property
    def _held_views(self) -> int:
        """How many views of the inputs are held where all are."""
        return (self.views or 1) if self.inputs.replays else 1

    @property
    def _input_bytes(self) -> int:
        return math.prod(self.inputs.shape) * self.inputs.dtype.itemsize

    @property
    def _stored_bytes(self) -> int:
        return math.prod(self.signal.shape) * self.signal.dtype.itemsize

    @property
    def _logits_bytes(self) -> int:
        """Bytes that are counted for the logits of a row in one view: those stored, where they are all there is."""
        if not self._input_bytes:
            return self._stored_bytes - self.signal.feature_bytes
        return 0 if self.views is None else len(self.inputs.classes) * torch.float32.itemsize

    @property
    def _signal_bytes(self) -> int:
        """Bytes that are counted for what a row in one view is taught by: logits and features."""
        return self._logits_bytes + self.signal.feature_bytes

    @property
    def _span_bytes(self) -> int:
        views = self.draws if self.inputs.replays else 1
        return self.inputs.span * (self.draws * self._signal_bytes + views * self._input_bytes)


def _length(piece: slice) -> int:
    length: int = piece.stop - piece.start
    return length
