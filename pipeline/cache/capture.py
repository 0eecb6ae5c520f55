"""Capture: run one teacher once over the transfer set and its views, and keep its raw logits.

Three things go on at once: images of the next span are decoded ahead, the teacher runs, and the spans behind it are
encoded, hashed and made durable.
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
from pipeline.cache.identity import identity
from pipeline.cache.layout import SPLITS, Layout, Unholdable
from pipeline.cache.manifest import Extent, Manifest
from pipeline.cache.provenance import Provenance
from pipeline.cache.writer import Work
from pipeline.data.splits import Split, open_splits
from pipeline.data.views import Policy
from pipeline.models.build import flops
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.predict import HostBuffer, tiles

BEHIND = 2  # spans that may wait to be written


@dataclass(frozen=True)
class Captured:
    """What a capture did. computed, kept: spans that ran through the teacher now, and that an earlier run had left."""

    manifest: Manifest
    computed: int
    kept: int


def capture(
    *,
    teacher: Path,
    splits: Path,
    policy: str,
    views: int,
    view_seed: int,
    dtype: str,
    tile: int,
    work: Path,
    out: Path,
    provenance: Path,
    device: torch.device,
    anew: bool = False,
) -> Captured:
    """Write the cache of teacher `teacher` (a folder) to `out`: `views` views of the transfer set; valid and test as they are.

    Spans already recorded below `work` under the same identity are kept, unless it is to be done anew. tile: rows of one
    forward pass. Memory does not grow with the number of rows. Raises InputError where teacher and data do not fit and
    where there is no room left, BusyError where another process captures the same, or replaces the teacher or the data
    meanwhile, IntegrityError where the teacher gives NaN, infinity or what `dtype` cannot hold; what was recorded until
    then is kept.
    """
    for setting, value in {"views": views, "tile": tile}.items():
        if value < 1:
            raise InputError(f"capture {setting}", expected="1 or more", found=str(value), fix="Correct the setting.")
    opened = open_splits(splits, SPLITS)
    seen = Policy.parse(policy, view_seed)
    layout = Layout.plan(len(opened["transfer"].classes), dtype, opened["transfer"].span)
    taught = Checkpoint.teacher(teacher)
    model = taught.spec
    known = identity(taught, opened["transfer"], seen, tile, layout)
    extents = {
        split: Extent(found.rows, views if split == "transfer" else 1, found.inputs_digest) for split, found in opened.items()
    }
    started = time.monotonic()
    with Work.hold(work, out, known, layout, extents) as progress:
        # Done anew, before anything is thrown away: none of it would be there again if the teacher were damaged.
        net = taught.load(taught.nets[0], device) if anew else None
        missing = progress.resume({split: found.span_digests for split, found in opened.items()}, anew=anew)
        kept = progress.total - len(missing)
        try:
            if missing:
                net = net if net is not None else taught.load(taught.nets[0], device)
                with runtime.suited_threads(flops(net, opened["transfer"].shape) * tile):
                    _fill(progress, taught.name, net, opened, missing, kept, seen, tile, device)
            plugins = spec.witnesses(model, *seen.steps)
            manifest = progress.seal([taught.witness, opened["transfer"].witness, *plugins])
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _without_room(progress, work) from error
            raise
    made: dict[str, Any] = {"teacher": taught.name, "manifest": manifest.digest, **runtime.provenance(device)}
    made |= {"spans_computed": len(missing), "spans_kept": kept, "seconds": round(time.monotonic() - started, 3)}
    Provenance(**made).write(provenance)
    return Captured(manifest, len(missing), kept)


def _fill(
    work: Work,
    name: str,
    net: torch.nn.Module,
    splits: Mapping[str, Split],
    missing: Sequence[tuple[str, int, int]],
    kept: int,
    policy: Policy,
    tile: int,
    device: torch.device,
) -> None:
    """Publish every missing span. A span's images are decoded once for all its views."""
    bar = runtime.progress((), f"capture {name}", total=kept + len(missing), unit="spans")
    bar.update(kept)
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


def _decoded(
    splits: Mapping[str, Split], missing: Sequence[tuple[str, int, int]]
) -> Iterator[tuple[str, int, list[int], torch.Tensor]]:
    """(split, span, its missing views, its pixels), the pixels of the next span decoded meanwhile."""
    by_span = groupby(
        sorted(missing, key=lambda part: (SPLITS.index(part[0]), part[2], part[1])), lambda part: (part[0], part[2])
    )
    plan = [(split, span, [view for _, view, _ in group]) for (split, span), group in by_span]
    pixels = ahead(partial(splits[split].images, span) for split, span, _ in plan)
    for (split, span, views), found in zip(plan, pixels, strict=True):
        yield split, span, views, torch.from_numpy(found)


def _publish(work: Work, name: str, source: Split, split: str, view: int, span: int, buffer: HostBuffer, bar: Any) -> None:
    try:
        work.publish(split, view, span, source.span_digests[span], buffer.numpy())
    except Unholdable as error:
        start, _ = source.spans()[span]
        place = f"{split} view {view}, row {start + error.row} (id {source.ids(span)[error.row]})"
        raise IntegrityError(
            f"teacher {name}, {place}, class {source.classes[error.column]}",
            expected=f"a finite logit that {work.layout.dtype} can hold",
            found=str(error.value),
            fix="Train it again; where its logits are only large, set `dtype: float32`. This span was not recorded.",
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
