"""Capture: run one teacher once over the transfer set and its views, and store its raw logits.

A teacher of which there are logits only is not run but looked up. For a net three threads work at once: one reads the next span
and decodes its images, or encodes its texts, one runs the teacher on views that it makes tile by tile, one encodes, hashes
and writes the finished spans.
"""

import errno
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from pipeline.base import files, runtime, spec
from pipeline.base.background import Behind, ahead
from pipeline.base.errors import InputError, IntegrityError
from pipeline.base.settings import check
from pipeline.cache.identity import identity
from pipeline.cache.layout import SPLITS, Layout, Unholdable
from pipeline.cache.manifest import Extent, Manifest, Part
from pipeline.cache.provenance import Provenance
from pipeline.cache.writer import Work
from pipeline.data.settings import Views
from pipeline.data.splits import Split, open_splits
from pipeline.data.views import Policy, open_views
from pipeline.models.build import flops
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.encoding import example, tensor
from pipeline.models.lookup import Lookup
from pipeline.models.predict import HostBuffer, predict, tiles
from pipeline.models.showing import in_views, texts_in_views

BEHIND = 2  # spans that may wait to be written
TIMED_ROWS = 64  # at most, by whose time a capture is estimated
TIMED_SHARE = 0.1  # of the spans: where fewer are missing, nothing is estimated
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Captured:
    """The result of a capture. computed: spans computed now; kept: spans that an earlier run had recorded."""

    manifest: Manifest
    computed: int
    kept: int


def capture(
    *,
    teacher: Path,
    splits: Path,
    views: Views,
    dtype: str,
    tile: int,
    work: Path,
    out: Path,
    provenance: Path,
    device: torch.device,
    anew: bool = False,
) -> Captured:
    """Write a teacher's cache: its raw logits for views of the transfer set, and for the unaugmented valid and test splits.

    Memory does not grow with the number of rows. Recorded spans survive an error or a kill; the next run continues from them.

    Args:
        teacher: The folder of the trained teacher.
        splits: The folder that ingest wrote.
        views: How many views of each transfer row, under which policy; view 0 is the row's own image.
        dtype: The stored dtype: `float32`, or `float16` for half the size and 11 significant bits.
        tile: Rows per forward pass, 1 or more; without effect on imported logits.
        work: The folder for work in progress. Spans that it holds for an equal identity are reused.
        out: The cache folder to write or replace.
        provenance: The JSON file to write, about the machine and the time taken.
        device: Where the teacher runs, see `runtime.prepare`.
        anew: Whether to discard the spans in `work` and compute all.

    Returns:
        The manifest of the cache, and how many spans were computed and kept.

    Raises:
        InputError: A setting is wrong, teacher and data do not fit, imported logits are of other views, or the disk is full.
        IntegrityError: The teacher or the data are damaged, or a logit is NaN, infinite, or too large for `dtype`.
        BusyError: Another process runs the same capture, or has replaced the teacher or the data meanwhile.
    """
    check(views)
    if tile < 1:
        raise InputError("tile", expected="1 or more", found=str(tile), fix="Correct the setting.")
    opened = open_splits(splits, SPLITS)
    view_policy, view_count = open_views(views)
    view_policy.require_kind(opened["transfer"].inputs.kind)
    layout = Layout.plan(len(opened["transfer"].classes), dtype, opened["transfer"].span)
    checkpoint = Checkpoint.teacher(teacher)
    source: _Source = (
        _Table(Lookup.open(checkpoint, opened, view_policy, view_count))
        if checkpoint.kind == "imported"
        else _Net(checkpoint, view_policy, tile, device)
    )
    cache_identity = identity(checkpoint, opened["transfer"], view_policy, tile, layout)
    counts = {split: view_count if split == "transfer" else 1 for split in opened}
    extents = {split: Extent(found.rows, counts[split], found.inputs_digest) for split, found in opened.items()}
    started = time.monotonic()
    with Work.hold(work, out, cache_identity, layout, extents) as progress:
        # Load the teacher before spans are discarded: if it is damaged, they could not be computed again.
        if anew:
            source.load()
        missing = progress.resume({split: found.span_digests for split, found in opened.items()}, anew=anew)
        kept = progress.total - len(missing)
        try:
            if missing:
                source.fill(progress, opened, missing)
            plugins = spec.witnesses(*view_policy.steps)
            manifest = progress.seal([checkpoint.witness, opened["transfer"].witness, *source.witnesses, *plugins])
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _without_room(progress, work) from error
            raise
    facts: dict[str, Any] = {"teacher": checkpoint.name, "manifest": manifest.digest, **runtime.provenance(device)}
    facts |= {"spans_computed": len(missing), "spans_kept": kept, "seconds": round(time.monotonic() - started, 3)}
    Provenance(**facts).write(provenance)
    return Captured(manifest, len(missing), kept)


# ---------------------------------------------------------------- where logits come from


class _Source(Protocol):
    """What gives the logits of a teacher."""

    @property
    def witnesses(self) -> Sequence[files.Witness]:
        """They tell later whether what was loaded has changed, besides model.json."""

    def load(self) -> object:
        """Load the teacher, unless that was done; raises IntegrityError where it is damaged."""

    def fill(self, work: Work, splits: Mapping[str, Split], missing: Sequence[Part]) -> None:
        """Load the teacher, and publish every missing span."""


class _Net:
    """A net, which is run."""

    def __init__(self, checkpoint: Checkpoint, policy: Policy, tile: int, device: torch.device):
        self.checkpoint, self.policy, self.tile, self.device = checkpoint, policy, tile, device
        self.witnesses = spec.witnesses(checkpoint.spec)
        self.net: torch.nn.Module | None = None

    def load(self) -> torch.nn.Module:
        """The net with its weights."""
        if self.net is None:
            self.net = self.checkpoint.load(self.checkpoint.nets[0], self.device)
        return self.net

    def fill(self, work: Work, splits: Mapping[str, Split], missing: Sequence[Part]) -> None:
        """Say how long it will take, and run it on the rows of every span."""
        net = self.load()
        with runtime.suited_threads(flops(net, example(net, splits["transfer"].inputs)) * self.tile):
            _announce(work, net, splits, missing, self.tile)
            _fill(work, self.checkpoint.name, net, splits, missing, self.policy, self.tile, self.device)


@dataclass
class _Table:
    """Logits that were made elsewhere, which are looked up."""

    lookup: Lookup
    witnesses: list[files.Witness] = field(default_factory=list)

    def load(self) -> None:
        """Compare all of them with their sha256."""
        if not self.witnesses:
            self.witnesses.append(self.lookup.check())

    def fill(self, work: Work, splits: Mapping[str, Split], missing: Sequence[Part]) -> None:
        """Look every span up."""
        self.load()
        bar = _bar(work, missing, self.lookup.teacher.name)
        for split, view, span in missing:
            look_up = partial(self.lookup.read, split, view, *splits[split].spans()[span])
            _publish(work, self.lookup.teacher.name, splits[split], split, view, span, look_up, bar)
        bar.close()


def _announce(work: Work, net: torch.nn.Module, splits: Mapping[str, Split], missing: Sequence[Part], tile: int) -> None:
    """Say how large the cache will be and, unless little is missing, by a few rows' time, how long the teacher will take."""
    ends = {split: found.spans() for split, found in splits.items()}
    rows = sum(stop - start for split, _, span in missing for start, stop in [ends[split][span]])
    size = sum(
        extent.views * sum(work.layout.shard_bytes(stop - start) for start, stop in ends[split])
        for split, extent in work.extents.items()
    )
    views = work.extents["transfer"].views
    estimate = ""
    if len(missing) >= TIMED_SHARE * work.total:
        each = _row_seconds(net, _some(net, splits["transfer"], min(tile, TIMED_ROWS)))
        estimate = f", about {_duration(rows * each)} at {1 / each:,.0f} rows a second"
    _log.info(
        "%s: %s MB, %s rows × %s views; %s rows to run%s",
        work.out.name, f"{size / 1e6:,.1f}", f"{splits['transfer'].rows:,}", f"{views:,}", f"{rows:,}", estimate,
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


def _fill(
    work: Work,
    name: str,
    net: torch.nn.Module,
    splits: Mapping[str, Split],
    missing: Sequence[Part],
    policy: Policy,
    tile: int,
    device: torch.device,
) -> None:
    """Compute and publish every missing span. A span's images are decoded once for all its views."""
    bar = _bar(work, missing, name)
    with Behind.running(BEHIND) as writer:
        for split, span, views, held in _read(splits, missing, net, policy):
            on_device = held.to(device)
            for view in views:
                shown = partial(_shown, on_device, splits[split], span, view, policy)
                buffer = HostBuffer(len(held))
                for first, logits in tiles(net, len(held), shown, tile=tile):
                    writer.check()  # a full disk stops the teacher at once
                    buffer.add(first, logits)
                writer.put(partial(_publish, work, name, splits[split], split, view, span, buffer.numpy, bar))
    bar.close()


def _bar(work: Work, missing: Sequence[Part], name: str) -> Any:
    """The progress of a capture, with the spans that an earlier run had recorded."""
    bar = runtime.progress((), f"capture {name}", total=work.total, unit="spans")
    bar.update(work.total - len(missing))
    return bar


def _shown(held: torch.Tensor, split: Split, span: int, view: int, policy: Policy, rows: slice) -> torch.Tensor:
    """Some rows of a span in a view. held: all of them, untouched; texts are in that view already."""
    if split.inputs.kind == "text":
        return held[rows]
    return in_views(held, split, span, rows, np.full(rows.stop - rows.start, view), policy)


def _read(
    splits: Mapping[str, Split], missing: Sequence[Part], net: torch.nn.Module, policy: Policy
) -> Iterator[tuple[str, int, list[int], torch.Tensor]]:
    """(split, span, its missing views, its rows as the net takes them); the next span is read meanwhile.

    Texts are read once, too, but encoded in each view by itself, one view ahead.
    """
    ordered = sorted(missing, key=lambda part: (SPLITS.index(part[0]), part[2], part[1]))
    by_span = groupby(ordered, lambda part: (part[0], part[2]))
    plan = [(split, span, [view for _, view, _ in group]) for (split, span), group in by_span]
    if splits["transfer"].inputs.kind != "text":
        rows = ahead(partial(_numbers, net, splits[split], span) for split, span, _ in plan)
        for (split, span, views), found in zip(plan, rows, strict=True):
            yield split, span, views, found
        return
    each = [(split, span, view) for split, span, views in plan for view in views]
    encoded = ahead(job for split, span, views in plan for job in _texts(net, splits[split], span, views, policy))
    for (split, span, view), found in zip(each, encoded, strict=True):
        yield split, span, [view], found


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


def _publish(
    work: Work, name: str, source: Split, split: str, view: int, span: int, logits: Callable[[], np.ndarray], bar: Any
) -> None:
    try:
        work.publish(split, view, span, source.span_digests[span], logits())
    except Unholdable as error:
        start, _ = source.spans()[span]
        row = f"{split} view {view}, row {start + error.row} (id {source.ids(span)[error.row]})"
        raise IntegrityError(
            f"teacher {name}, {row}, class {source.classes[error.column]}",
            expected=f"a finite logit that {work.layout.dtype} can hold",
            found=str(error.value),
            fix="Make it again; if its logits are only large, set `dtype: float32`. This span was not recorded.",
        ) from error
    bar.update()


def _without_room(work: Work, root: Path) -> InputError:
    left = work.total - len(work.records)
    size = left * work.layout.shard_bytes(work.layout.span)
    return InputError(
        str(root),
        expected=f"about {size / 1e9:.3g} GB of room for the {left:,} spans that are left",
        found=f"{shutil.disk_usage(root).free / 1e9:.3g} GB",
        fix=f"Make room, or set SOFTCACHE_WORK to another disk, then run again: {len(work.records):,} spans are kept.",
    )
