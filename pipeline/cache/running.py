"""Running: a teacher's net as the source of a cache, and what of it is kept.

Three threads work at once: one reads the next span and decodes its images, or encodes its texts, one runs the teacher on
views that it makes tile by tile, one encodes, hashes and writes the finished spans.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
import torch

from pipeline.base import runtime, spec
from pipeline.base.background import Behind, ahead
from pipeline.base.errors import InputError
from pipeline.cache.knowledge.features import FeatureArray
from pipeline.cache.knowledge.head import Head, channels_of
from pipeline.cache.knowledge.hidden import Hidden
from pipeline.cache.knowledge.knowledge import Kind, Knowledge
from pipeline.cache.knowledge.logits import Logits
from pipeline.cache.manifest import Part, SpanViews, by_span
from pipeline.cache.settings import Keep
from pipeline.cache.source import progress_of, publish, size_of
from pipeline.cache.writer import Work
from pipeline.data.splits import Split
from pipeline.data.views import Policy
from pipeline.models import watched
from pipeline.models.build import flops
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.encoding import example, tensor
from pipeline.models.predict import HostBuffer, outputs, predict
from pipeline.models.showing import in_views, texts_in_views
from pipeline.models.watched import Feature, Watched, head_of

BEHIND = 2  # spans that are being written by one thread, or wait for it
TIMED_ROWS = 64  # at most, by whose time a capture is estimated
TIMED_SHARE = 0.1  # of the spans: where fewer are missing, nothing is estimated
CALIBRATED_ROWS = 1024  # of the first validation span, at most, whose hidden states give the scales of channels
_log = logging.getLogger(__name__)


class Running:
    """A net, which is run: a source.Source. splits: those of the cache, by name.

    Raises InputError where the net is not of these data, or a feature is named twice or is none.
    """

    def __init__(self, checkpoint: Checkpoint, policy: Policy, splits: Mapping[str, Split], keep: Keep, device: torch.device):
        checkpoint.require_fit(splits["transfer"])  # before its net is tried on such inputs
        self.checkpoint, self.policy, self.splits, self.keep, self.device = checkpoint, policy, splits, keep, device
        self.witnesses = spec.witnesses(checkpoint.spec)
        self._runner = ThreadPoolExecutor(1, thread_name_prefix="net")
        self.features = sorted(
            (Feature.parse(text) for text in keep.layers), key=lambda each: each.text
        )  # in whatever order given
        if len({each.text for each in self.features}) < len(self.features):
            found = ", ".join(keep.layers)
            raise InputError("features", expected="each feature once", found=found, fix="Correct the setting.")

    def load(self) -> torch.nn.Module:
        """The net with its weights."""
        return self._net

    @cached_property
    def _net(self) -> torch.nn.Module:
        return self.checkpoint.load(self.checkpoint.nets[0], self.device)

    @cached_property
    def _head(self) -> watched.Head | None:
        return head_of(self._net, self.splits["transfer"].inputs) if self.keep.knowledge != "logits" else None

    @cached_property
    def watched(self) -> Watched:
        """The net, which gives everything that is kept."""
        head = self._head if self.knowledge.main.headed else None
        return Watched(self._net, self.features, None if head is None else head.name)

    @cached_property
    def knowledge(self) -> Knowledge:
        """What is kept. Raises InputError where the net has no such layers, or its logits are not those of a linear layer."""
        transfer, dtype = self.splits["transfer"], self.keep.dtype
        kind, head = self.keep.knowledge, self._head
        name, classes = self.checkpoint.name, len(transfer.classes)
        if kind == "hidden" and head is None:
            expected, found = "a net whose logits are the outputs of one linear layer", f"others, of {self.checkpoint.model}"
            raise InputError(f"teacher {name}, knowledge", expected=expected, found=found, fix="Set `knowledge: logits`.")
        if kind == "auto":
            if head is None:
                kind, told = "logits", "its logits are not those of a linear layer"
            else:
                kind = "hidden" if head.weight.shape[1] < classes or dtype == "int8" else "logits"
                told = f"{head.weight.shape[1]:,} hidden numbers give {classes:,} logits"
                told += ", which cannot be int8" if dtype == "int8" else ""
            _log.info("%s: keeps %s: %s", name, kind, told)
        self.keep.require_dtype(kind)
        main: Kind = Logits.plan(classes, dtype, transfer.span)
        if kind == "hidden" and head is not None:
            calibrated = self.splits["valid"].span_digests[0]
            main = Hidden.plan(head.weight.shape[1], dtype, transfer.span, head.name, calibrated)
        if not self.features:
            return Knowledge(main)
        shapes = Watched(self._net, self.features).shapes(example(self._net, transfer.inputs))[1:]
        stored = "float32" if dtype == "float32" else "float16"
        planned = [
            FeatureArray.plan(each.text, shape, stored, transfer.span)
            for each, shape in zip(self.features, shapes, strict=True)
        ]
        return Knowledge(main, {each.text: each for each in planned})

    def head(self) -> Head:
        """The head, with the scales of the channels of its inputs where these become int8."""
        if self._head is None:
            raise ValueError("expected hidden states, found logits")
        weight, bias = self._head.weight.numpy(), self._head.bias.numpy()
        if self.keep.dtype != "int8":
            return Head(weight, bias)
        valid = self.splits["valid"]
        start, stop = valid.spans()[0]
        rows = tensor(self._net, valid.read(0, np.arange(min(CALIBRATED_ROWS, stop - start))))
        return Head(weight, bias, channels_of(self.run(rows)[1]))

    def run(self, rows: torch.Tensor) -> list[np.ndarray]:
        """Everything that is kept, of rows as the net takes them: the logits, hidden states if kept, features as floats."""
        with self.threads():
            return _numpy(self._buffers(len(rows), rows.__getitem__, [torch.float32] * self._count))

    def threads(self) -> contextlib.AbstractContextManager[None]:
        """A context with as many threads as a tile is worth."""
        return runtime.suited_threads(self._row_flops * self.keep.tile)

    @cached_property
    def _row_flops(self) -> float:
        return flops(self._net, example(self._net, self.splits["transfer"].inputs))

    def fill(self, work: Work, splits: Mapping[str, Split], missing: Sequence[Part]) -> None:
        """Say how long it will take, and run it on the rows of every span, which are decoded once for all their views."""
        with self.threads():
            _announce(work, self._net, splits, missing, self.keep.tile)
            bar = progress_of(work, missing, self.checkpoint.name)

            def write(*given: Any) -> None:
                publish(work, self.checkpoint.name, *given)
                bar.update()

            with Behind.running(BEHIND + work.room.writers - 1, workers=work.room.writers) as writer:
                for split, span, views, held in _read(splits, missing, self._net, self.policy):
                    on_device = held.to(self.device)
                    for view in views:
                        given = partial(_numpy, self._seen(on_device, split, span, view, writer.check))
                        writer.put(partial(write, splits[split], split, view, span, given))
        bar.close()

    def fill_span(self, work: Work, span: SpanViews) -> None:
        """Read one span, run the net on it in these views, and publish what it gives. Threads may do that at the same time.

        One thread alone runs the net, whoever asks, so that as many cores work at it as in `fill`.
        """
        split = self.splits[span.split]
        held: torch.Tensor | None = None
        texts = _texts(self._net, split, span.span, span.views, self.policy) if split.inputs.kind == "text" else None
        for view in span.views:
            if texts is not None:
                held = next(texts)()
            elif held is None:
                held = _numbers(self._net, split, span.span)
            found = self._runner.submit(self._run_apart, held, span.split, span.span, view).result()
            publish(work, self.checkpoint.name, split, span.split, view, span.span, partial(_numpy, found))

    def _run_apart(self, held: torch.Tensor, split: str, span: int, view: int) -> list[HostBuffer]:
        with self.threads():
            return self._seen(held.to(self.device), split, span, view)

    def _seen(
        self, held: torch.Tensor, split: str, span: int, view: int, check: Callable[[], object] = lambda: None
    ) -> list[HostBuffer]:
        """What the net gives of a span in a view. held: its rows, see _shown. check: see _buffers."""
        stored = [torch.float32] * (self._count - len(self.features))
        stored += [getattr(torch, each.dtype) for each in self.knowledge.features.values()]
        return self._buffers(len(held), partial(_shown, held, self.splits[split], span, view, self.policy), stored, check)

    def _buffers(
        self,
        rows: int,
        inputs: Callable[[slice], torch.Tensor],
        dtypes: Sequence[torch.dtype],
        check: Callable[[], object] = lambda: None,
    ) -> list[HostBuffer]:
        """Run the net on some rows, tile by tile: a buffer of each dtype for each of its outputs.

        check: called at each tile; a full disk stops the teacher at once.
        """
        buffers = [HostBuffer(rows, dtype) for dtype in dtypes]
        for first, found in outputs(self.watched, rows, inputs, tile=self.keep.tile):
            check()
            for buffer, dtype, each in zip(buffers, dtypes, found, strict=True):
                buffer.add(first, each.to(dtype))  # half of what features take is not copied
        return buffers

    @property
    def _count(self) -> int:
        """How many tensors the watched net returns."""
        return 1 + self.knowledge.main.headed + len(self.features)


def _numpy(buffers: Sequence[HostBuffer]) -> list[np.ndarray]:
    return [buffer.numpy() for buffer in buffers]


def _announce(work: Work, net: torch.nn.Module, splits: Mapping[str, Split], missing: Sequence[Part], tile: int) -> None:
    """Say how large the cache will be and, unless little is missing, by a few rows' time, how long the teacher will take."""
    ends = {split: found.spans() for split, found in splits.items()}
    rows = sum(stop - start for split, _, span in missing for start, stop in [ends[split][span]])
    views = work.extents["transfer"].views
    estimate = ""
    if len(missing) >= TIMED_SHARE * work.total:
        each = _row_seconds(net, _some(net, splits["transfer"], min(tile, TIMED_ROWS)))
        estimate = f", about {_duration(rows * each)} at {1 / each:,.0f} rows a second"
    _log.info(
        "%s: %s MB, %s rows × %s %s; %s rows to run%s",
        work.name, f"{size_of(work) / 1e6:,.1f}", f"{splits['transfer'].rows:,}", f"{views:,}",
        "view" if views == 1 else "views", f"{rows:,}", estimate,
    )  # fmt: skip


def _some(net: torch.nn.Module, split: Split, count: int) -> torch.Tensor:
    """Rows to measure a teacher on: the first texts, as what a text takes depends on its length; numbers that are made up."""
    if split.inputs.kind != "text":
        return example(net, split.inputs, count)
    start, stop = split.spans()[0]
    return tensor(net, split.read(0, np.arange(min(count, stop - start))))


def _row_seconds(net: torch.nn.Module, shown: torch.Tensor) -> float:
    """The time that the teacher takes for a row, measured on these."""
    for _ in range(2):  # the first one warms up
        started = time.perf_counter()
        predict(net, shown, tile=len(shown))
        seconds = time.perf_counter() - started
    return seconds / len(shown)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _shown(held: torch.Tensor, split: Split, span: int, view: int, policy: Policy, rows: slice) -> torch.Tensor:
    """Some rows of a span in a view. held: all of them, untouched; texts are in that view already."""
    if split.inputs.kind == "text":
        return held[rows]
    return in_views(held, split, span, rows, np.full(rows.stop - rows.start, view), policy)


def _read(
    splits: Mapping[str, Split], missing: Sequence[Part], net: torch.nn.Module, policy: Policy
) -> Iterator[tuple[str, int, tuple[int, ...], torch.Tensor]]:
    """(split, span, its missing views, its rows as the net takes them); the next span is read meanwhile.

    Texts are read once, too, but encoded in each view by itself, one view ahead.
    """
    plan = [(each.split, each.span, each.views) for each in by_span(missing)]
    if splits["transfer"].inputs.kind != "text":
        rows = ahead(partial(_numbers, net, splits[split], span) for split, span, _ in plan)
        for (split, span, views), found in zip(plan, rows, strict=True):
            yield split, span, views, found
        return
    each = [(split, span, view) for split, span, views in plan for view in views]
    encoded = ahead(job for split, span, views in plan for job in _texts(net, splits[split], span, views, policy))
    for (split, span, view), found in zip(each, encoded, strict=True):
        yield split, span, (view,), found


def _numbers(net: torch.nn.Module, split: Split, span: int) -> torch.Tensor:
    return tensor(net, split.read(span))


def _texts(
    net: torch.nn.Module, split: Split, span: int, views: Sequence[int], policy: Policy
) -> Iterator[Callable[[], torch.Tensor]]:
    """For each view a job that encodes a span's texts in it; the first one that runs reads them."""
    read = cache(partial(split.read, span))
    rows = np.arange(*split.spans()[span])
    for view in views:
        yield partial(_encoded, net, read, rows, np.full(len(rows), view), policy)


def _encoded(
    net: torch.nn.Module, read: Callable[[], np.ndarray], rows: np.ndarray, views: np.ndarray, policy: Policy
) -> torch.Tensor:
    return texts_in_views(net, read(), rows, views, policy)
