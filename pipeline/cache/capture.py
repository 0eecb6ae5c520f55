"""Capture: run one teacher once over the transfer set and its views, and store its raw logits, or what gives them.

A teacher of which there are logits only is not run but looked up.
"""

import errno
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.base import files, runtime
from pipeline.base.crew import HERE, Workers
from pipeline.base.errors import InputError
from pipeline.base.places import Place
from pipeline.cache.address import Address
from pipeline.cache.manifest import Manifest
from pipeline.cache.provenance import Provenance
from pipeline.cache.running import Running
from pipeline.cache.settings import Keep
from pipeline.cache.subject import Request, Subject
from pipeline.cache.workers import spread
from pipeline.cache.writer import Work
from pipeline.data.settings import Views


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
    workers: Workers = HERE,
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
        device: Where the teacher runs, see `runtime.prepare`; with workers, where this process finds out what is kept: prepare
            it with the threads of a worker then, which are 1 unless they are set.
        anew: Whether to discard the spans in `work` and compute all.
        workers: Who runs the teacher; logits that were made elsewhere are looked up here, whoever they are.
        store: Where spans are kept instead of in `out`, which then has the manifest and their address; see address.py.

    Returns:
        The manifest of the cache, and how many spans were computed and kept.

    Raises:
        InputError: A setting is wrong, teacher and data do not fit, imported logits are of other views, or the disk is full.
        IntegrityError: The teacher or the data are damaged, or a logit is NaN, infinite, or too large for `dtype`.
        BusyError: Another process runs the same capture, or has replaced the teacher or the data meanwhile.
    """
    if store is not None:
        store = files.resolved(store)
        _require_apart(store, out)
    request = Request(teacher, splits, views, keep, work)
    subject = Subject.open(request, device)
    opened, source = subject.splits, subject.source
    started = time.monotonic()
    with Work.hold(work, out, subject.identity, source.knowledge, subject.extents, store, anew) as progress:
        # Load the teacher before spans are discarded: if it is damaged, they could not be computed again.
        if anew:
            source.load()
        if source.knowledge.main.headed:
            progress.keep_head(source.head, anew=anew)
        missing = progress.resume({split: found.span_digests for split, found in opened.items()}, anew=anew)
        kept = progress.total - len(missing)
        made_by = {"workers": 1, **runtime.provenance(device)}
        try:
            if missing and workers.on != "here" and isinstance(source, Running):
                made_by |= spread(progress, request, missing, workers)
            elif missing:
                source.fill(progress, opened, missing)
                made_by |= runtime.provenance(device)  # with the threads that it took
            manifest = progress.seal(subject.witnesses)
            if store is not None and isinstance(out, Path):
                Address(str(progress.room.sealed)).write(out, manifest)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT) and isinstance(work, Path):
                raise _without_room(progress, work) from error
            raise
    facts: dict[str, Any] = {"teacher": subject.name, "manifest": manifest.digest, **made_by}
    facts |= {"spans_computed": len(missing), "spans_kept": kept, "seconds": round(time.monotonic() - started, 3)}
    Provenance(**facts).write(provenance)
    return Captured(manifest, len(missing), kept)


def _require_apart(store: Place, out: Place) -> None:
    """Raise InputError for a cache in a store, whose spans need no other, and for spans that would lie where the cache does."""
    if not isinstance(out, Path):
        fix = "Leave out --store, or name a folder of this machine with --data."
        raise InputError("store", expected="a cache whose manifest is on this machine", found=str(out), fix=fix)
    if isinstance(store, Path):
        place, folder = store / out.name, files.resolved(out)
        if place.is_relative_to(folder) or folder.is_relative_to(place):
            fix = "Name a folder outside of the caches."
            raise InputError("store", expected=f"a folder apart from {out}, which is replaced", found=str(store), fix=fix)


def _without_room(work: Work, root: Path) -> InputError:
    left = work.total - len(work.records)
    size = left * work.knowledge.shard_bytes(work.span)
    return InputError(
        str(root),
        expected=f"about {size / 1e9:.3g} GB of room for the {left:,} spans that are left",
        found=f"{shutil.disk_usage(root).free / 1e9:.3g} GB",
        fix=f"Make room, or set SOFTCACHE_WORK to another disk, then run again: {len(work.records):,} spans are kept.",
    )
