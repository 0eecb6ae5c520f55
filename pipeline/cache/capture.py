"""Capture: run one teacher once over the transfer set and its views, and store its raw logits, or what gives them.

A teacher of which there are logits only is not run but looked up.
"""

import errno
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pipeline.base import files, runtime, spec
from pipeline.base.errors import InputError
from pipeline.base.places import Place
from pipeline.base.settings import check
from pipeline.cache.address import Address
from pipeline.cache.identity import identity
from pipeline.cache.knowledge.head import Head
from pipeline.cache.knowledge.knowledge import Knowledge
from pipeline.cache.layout import SPLITS
from pipeline.cache.manifest import Extent, Manifest, Part
from pipeline.cache.provenance import Provenance
from pipeline.cache.running import Running
from pipeline.cache.settings import Keep
from pipeline.cache.source import Source, progress_of, publish
from pipeline.cache.writer import Work
from pipeline.data.settings import Views
from pipeline.data.splits import Split, open_splits
from pipeline.data.views import open_views
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.lookup import Lookup


@dataclass(frozen=True)
class Captured:
    """The result of a capture. computed: spans computed now; kept: spans that an earlier run had recorded."""

    manifest: Manifest
    computed: int
    kept: int


def capture(
    *,
    teacher: Place,
    splits: Place,
    views: Views,
    keep: Keep,
    work: Place,
    out: Place,
    provenance: Place,
    device: torch.device,
    anew: bool = False,
    store: Place | None = None,
) -> Captured:
    """Write a teacher's cache: its raw logits, or what gives them, and features if asked for.

    They are of all views of the transfer set, and of the unaugmented valid and test splits.

    Memory does not grow with the number of rows. Recorded spans survive an error or a kill; the next run continues from them.

    Args:
        teacher: The folder of the trained teacher.
        splits: The folder that ingest wrote.
        views: How many views of each transfer row, under which policy; view 0 is the row's own image.
        keep: What is kept and in which dtype: `float32`, `float16` for half the size and 11 significant bits, `int8` of hidden
            states only; and rows per forward pass, without effect on imported logits.
        work: The folder for work in progress. Spans that it holds for an equal identity are reused.
        out: The cache folder to write or replace.
        provenance: The JSON file to write, about the machine and the time taken.
        device: Where the teacher runs, see `runtime.prepare`.
        anew: Whether to discard the spans in `work` and compute all.
        store: Where spans are kept instead of in `out`, which then has the manifest and their address; see address.py.

    Returns:
        The manifest of the cache, and how many spans were computed and kept.

    Raises:
        InputError: A setting is wrong, teacher and data do not fit, imported logits are of other views, or the disk is full.
        IntegrityError: The teacher or the data are damaged, or a logit is NaN, infinite, or too large for `dtype`.
        BusyError: Another process runs the same capture, or has replaced the teacher or the data meanwhile.
    """
    check(views)
    check(keep)
    if store is not None:
        store = files.resolved(store)
        _require_local(out)
    opened = open_splits(splits, SPLITS)
    view_policy, view_count = open_views(views)
    view_policy.require_kind(opened["transfer"].inputs.kind)
    checkpoint = Checkpoint.teacher(teacher)
    source: Source
    if checkpoint.kind == "imported":
        source = _Table.of(Lookup.open(checkpoint, opened, view_policy, view_count), keep, opened["transfer"])
    else:
        source = Running(checkpoint, view_policy, opened, keep, device)
    cache_identity = identity(checkpoint, opened["transfer"], view_policy, keep.tile, source.knowledge)
    counts = {split: view_count if split == "transfer" else 1 for split in opened}
    extents = {split: Extent(found.rows, counts[split], found.inputs_digest) for split, found in opened.items()}
    started = time.monotonic()
    with Work.hold(work, out, cache_identity, source.knowledge, extents, store) as progress:
        # Load the teacher before spans are discarded: if it is damaged, they could not be computed again.
        if anew:
            source.load()
        if source.knowledge.main.headed:
            progress.keep_head(source.head, anew=anew)
        missing = progress.resume({split: found.span_digests for split, found in opened.items()}, anew=anew)
        kept = progress.total - len(missing)
        try:
            if missing:
                source.fill(progress, opened, missing)
            plugins = spec.witnesses(*view_policy.steps)
            manifest = progress.seal([checkpoint.witness, opened["transfer"].witness, *source.witnesses, *plugins])
            if store is not None and isinstance(out, Path):
                Address(str(progress.room.sealed)).write(out, manifest)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT) and isinstance(work, Path):
                raise _without_room(progress, work) from error
            raise
    facts: dict[str, Any] = {"teacher": checkpoint.name, "manifest": manifest.digest, **runtime.provenance(device)}
    facts |= {"spans_computed": len(missing), "spans_kept": kept, "seconds": round(time.monotonic() - started, 3)}
    Provenance(**facts).write(provenance)
    return Captured(manifest, len(missing), kept)


# ---------------------------------------------------------------- logits that were made elsewhere


@dataclass
class _Table:
    """Logits that were made elsewhere, which are looked up."""

    lookup: Lookup
    knowledge: Knowledge
    witnesses: list[files.Witness] = field(default_factory=list)

    @classmethod
    def of(cls, lookup: Lookup, keep: Keep, split: Split) -> "_Table":
        """Logits are all there is of such a teacher; raises InputError where anything else is asked for."""
        if keep.knowledge == "hidden" or keep.layers:
            what = f"teacher {lookup.teacher.name}, {'features' if keep.layers else 'knowledge'}"
            fix = "Leave it out: such a teacher has logits alone."
            raise InputError(what, expected="a teacher with a net", found="logits that were made elsewhere", fix=fix)
        keep.require_dtype("logits")
        return cls(lookup, Knowledge.of_logits(len(split.classes), keep.dtype, split.span))

    def load(self) -> None:
        """Compare all of them with their sha256."""
        if not self.witnesses:
            self.witnesses.append(self.lookup.check())

    def head(self) -> Head:
        """There is none."""
        raise ValueError("expected hidden states, found logits")

    def fill(self, work: Work, splits: Mapping[str, Split], missing: Sequence[Part]) -> None:
        """Look every span up."""
        self.load()
        bar = progress_of(work, missing, self.lookup.teacher.name)
        for split, view, span in missing:
            found = [self.lookup.read(split, view, *splits[split].spans()[span])]
            publish(work, self.lookup.teacher.name, splits[split], split, view, span, found.copy, bar)
        bar.close()


def _require_local(out: Place) -> None:
    """Raise InputError for a folder in a store, whose spans need no other."""
    if not isinstance(out, Path):
        fix = "Leave out --store, or name a folder of this machine with --data."
        raise InputError("store", expected="a cache whose manifest is on this machine", found=str(out), fix=fix)


def _without_room(work: Work, root: Path) -> InputError:
    left = work.total - len(work.records)
    size = left * work.knowledge.shard_bytes(work.span)
    return InputError(
        str(root),
        expected=f"about {size / 1e9:.3g} GB of room for the {left:,} spans that are left",
        found=f"{shutil.disk_usage(root).free / 1e9:.3g} GB",
        fix=f"Make room, or set SOFTCACHE_WORK to another disk, then run again: {len(work.records):,} spans are kept.",
    )
