"""Capture: run one teacher once over the transfer set and its views, and keep its raw logits."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline import closure, files, models, runtime, transfer
from pipeline.cache import PIXELS
from pipeline.checkpoint import WEIGHTS, Checkpoint
from pipeline.errors import InputError
from pipeline.layout import SPLITS, Layout
from pipeline.manifest import Extent, Manifest
from pipeline.predict import predict
from pipeline.transfer import Split
from pipeline.views import Policy
from pipeline.work import Work

SHAPING = ("models", "predict", *PIXELS)  # the modules whose code a logit is a function of


@dataclass(frozen=True)
class Captured:
    """What a capture did. computed, kept: spans that ran through the teacher now, and that an earlier run had left."""

    manifest: Manifest
    computed: int
    kept: int


def capture(
    *,
    name: str,
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
) -> Captured:
    """Write the cache of teacher `teacher` (a folder) to `out`: `views` views of the transfer set; valid and test as they are.

    Spans already recorded below `work` under the same identity are kept. tile: rows of one forward pass.
    Raises InputError where teacher and data do not fit, BusyError where another process captures the same,
    IntegrityError where the teacher gives NaN, infinity or what `dtype` cannot hold.
    """
    for setting, value in {"views": views, "tile": tile}.items():
        if value < 1:
            raise InputError(f"capture {setting}", expected="1 or more", found=str(value), fix="Correct the setting.")
    opened = transfer.open_splits(splits, SPLITS)
    checkpoint = Checkpoint.open(teacher)
    _check_fit(name, checkpoint, opened["transfer"])
    net = checkpoint.load(teacher / WEIGHTS, device)
    seen = Policy.parse(policy, view_seed)
    layout = Layout.plan(len(checkpoint.classes), dtype, opened["transfer"].span)
    identity = _identity(checkpoint, teacher / WEIGHTS, opened["transfer"], seen, tile, layout)
    extents = {
        split: Extent(found.rows, views if split == "transfer" else 1, found.inputs_digest) for split, found in opened.items()
    }
    started = time.monotonic()
    with Work.hold(work, name, identity, layout) as progress:
        computed, kept = _fill(progress, name, net, opened, extents, seen, tile, device)
        manifest = progress.seal(out, extents)
        progress.clear_former(out)
    facts = {"teacher": name, "manifest": manifest.digest, **runtime.provenance(device)}
    facts |= {"spans_computed": computed, "spans_kept": kept, "seconds": round(time.monotonic() - started, 3)}
    files.write(provenance, files.readable_json(facts))
    return Captured(manifest, computed, kept)


def _fill(
    work: Work,
    name: str,
    net: torch.nn.Module,
    splits: dict[str, Split],
    extents: dict[str, Extent],
    policy: Policy,
    tile: int,
    device: torch.device,
) -> tuple[int, int]:
    """Publish every span that is missing; a span's images are decoded once for all its views."""
    plan = [(split, span) for split, found in splits.items() for span in range(len(found.span_digests))]
    total = sum(extents[split].views for split, _ in plan)
    computed = 0
    with runtime.progress((), f"capture {name}", total=total, unit="span") as bar:
        for split, span in plan:
            rows_digest = splits[split].span_digests[span]
            missing = [view for view in range(extents[split].views) if not work.done(split, view, span, rows_digest)]
            bar.update(extents[split].views - len(missing))
            if not missing:
                continue
            start, stop = splits[split].spans()[span]
            pixels = torch.from_numpy(splits[split].images(span)).to(device)
            for view in missing:
                shown = policy.apply(pixels, np.arange(start, stop), np.full(stop - start, view))
                work.publish(split, view, span, rows_digest, predict(net, shown, tile=tile))
                bar.update()
                computed += 1
    return computed, total - computed


def _identity(checkpoint: Checkpoint, weights: Path, split: Split, policy: Policy, tile: int, layout: Layout) -> dict[str, Any]:
    """All that a logit is a function of, besides its row. Rows and views are extents: they may grow."""
    return {
        "output": "raw logits, before any temperature",
        "teacher": {
            "model": checkpoint.model,
            "weights_sha256": files.sha256_file(weights),
            "source_sha256": models.parse(checkpoint.model).source_sha256,
        },
        "classes": list(checkpoint.classes),
        "inputs": {"decoder": split.decoder, "mode": split.mode, "shape": list(split.shape)},
        "views": {"policy": policy.text, "seed": policy.seed},
        "precision": "float32",
        "tile": tile,
        "code": {module: closure.tree_sha256(f"pipeline.{module}") for module in SHAPING},
        "layout": layout.facts(),
    }


def _check_fit(name: str, checkpoint: Checkpoint, split: Split) -> None:
    for what, expected, found in (
        ("classes", checkpoint.classes, split.classes),
        ("pixel shape", checkpoint.shape, split.shape),
    ):
        if expected != found:
            fix = f"Train it on these data: run `softcache teach {name}`."
            raise InputError(
                f"teacher {name}, {what}", expected=f"{found} as in the transfer set", found=str(expected), fix=fix
            )
