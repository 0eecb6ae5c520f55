"""Capture: run one teacher once over the transfer set and its views, and store its raw logits.

Three threads work at once: one decodes the next span's images, one runs the teacher, one encodes, hashes and writes the
finished spans.
"""

import errno
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.base import runtime, spec
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
from pipeline.models.predict import HostBuffer, tiles

BEHIND = 2  # spans that may wait to be written


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
        tile: Rows per forward pass, 1 or more.
        work: The folder for work in progress. Spans that it holds for an equal identity are reused.
        out: The cache folder to write or replace.
        provenance: The JSON file to write, about the machine and the time taken.
        device: Where the teacher runs, see `runtime.prepare`.
        anew: Whether to discard the spans in `work` and compute all.

    Returns:
        The manifest of the cache, and how many spans were computed and kept.

    Raises:
        InputError: A setting is wrong, teacher and data do not fit, or the disk is full.
        IntegrityError: The teacher or the data are damaged, or a logit is NaN, infinite, or too large for `dtype`.
        BusyError: Another process runs the same capture, or has replaced the teacher or the data meanwhile.
    """
    check(views)
    if tile < 1:
        raise InputError("tile", expected="1 or more", found=str(tile), fix="Correct the setting.")
    opened = open_splits(splits, SPLITS)
    view_policy, view_count = open_views(views)
    layout = Layout.plan(len(opened["transfer"].classes), dtype, opened["transfer"].span)
    checkpoint = Checkpoint.teacher(teacher)
    model = checkpoint.spec
    cache_identity = identity(checkpoint, opened["transfer"], view_policy, tile, layout)
    counts = {split: view_count if split == "transfer" else 1 for split in opened}
    extents = {split: Extent(found.rows, counts[split], found.inputs_digest) for split, found in opened.items()}
    started = time.monotonic()
    with Work.hold(work, out, cache_identity, layout, extents) as progress:
        # Load the teacher before spans are discarded: if it is damaged, they could not be computed again.
        net = checkpoint.load(checkpoint.nets[0], device) if anew else None
        missing = progress.resume({split: found.span_digests for split, found in opened.items()}, anew=anew)
        kept = progress.total - len(missing)
        try:
            if missing:
                net = net if net is not None else checkpoint.load(checkpoint.nets[0], device)
                with runtime.suited_threads(flops(net, opened["transfer"].shape) * tile):
                    _fill(progress, checkpoint.name, net, opened, missing, view_policy, tile, device)
            plugins = spec.witnesses(model, *view_policy.steps)
            manifest = progress.seal([checkpoint.witness, opened["transfer"].witness, *plugins])
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _without_room(progress, work) from error
            raise
    facts: dict[str, Any] = {"teacher": checkpoint.name, "manifest": manifest.digest, **runtime.provenance(device)}
    facts |= {"spans_computed": len(missing), "spans_kept": kept, "seconds": round(time.monotonic() - started, 3)}
    Provenance(**facts).write(provenance)
    return Captured(manifest, len(missing), kept)


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
    bar = runtime.progress((), f"capture {name}", total=work.total, unit="spans")
    bar.update(work.total - len(missing))
    with Behind.running(BEHIND) as writer:
        for split, span, views, pixels in _decoded(splits, missing):
            rows = np.arange(*splits[split].spans()[span])
            untouched = pixels.to(device)
            for view in views:
                shown = policy.apply(untouched, rows, np.full(len(rows), view))
                buffer = HostBuffer(len(rows))
                for first, logits in tiles(net, shown, tile=tile):
                    writer.check()  # a full disk stops the teacher at once
                    buffer.add(first, logits)
                writer.put(partial(_publish, work, name, splits[split], split, view, span, buffer, bar))
    bar.close()


def _decoded(splits: Mapping[str, Split], missing: Sequence[Part]) -> Iterator[tuple[str, int, list[int], torch.Tensor]]:
    """(split, span, its missing views, its pixels); the next span is decoded meanwhile."""
    ordered = sorted(missing, key=lambda part: (SPLITS.index(part[0]), part[2], part[1]))
    by_span = groupby(ordered, lambda part: (part[0], part[2]))
    plan = [(split, span, [view for _, view, _ in group]) for (split, span), group in by_span]
    pixels = ahead(partial(splits[split].images, span) for split, span, _ in plan)
    for (split, span, views), found in zip(plan, pixels, strict=True):
        yield split, span, views, torch.from_numpy(found)


def _publish(work: Work, name: str, source: Split, split: str, view: int, span: int, buffer: HostBuffer, bar: Any) -> None:
    try:
        work.publish(split, view, span, source.span_digests[span], buffer.numpy())
    except Unholdable as error:
        start, _ = source.spans()[span]
        row = f"{split} view {view}, row {start + error.row} (id {source.ids(span)[error.row]})"
        raise IntegrityError(
            f"teacher {name}, {row}, class {source.classes[error.column]}",
            expected=f"a finite logit that {work.layout.dtype} can hold",
            found=str(error.value),
            fix="Train it again; if its logits are only large, set `dtype: float32`. This span was not recorded.",
        ) from error
    bar.update()


def _without_room(work: Work, root: Path) -> InputError:
    left = work.total - len(work.records)
    return InputError(
        str(root),
        expected=f"about {left * work.layout.shard_bytes() / 1e9:.3g} GB of room for the {left:,} spans that are left",
        found=f"{shutil.disk_usage(root).free / 1e9:.3g} GB",
        fix=f"Make room, or set SOFTCACHE_WORK to another disk, then run again: {len(work.records):,} spans are kept.",
    )
