"""A small cache of made-up logits, written without a teacher."""

from pathlib import Path

import numpy as np

from pipeline.base import files
from pipeline.cache.knowledge.knowledge import Knowledge
from pipeline.cache.manifest import Extent, parts
from pipeline.cache.writer import Work

CLASSES, SPAN = 3, 4


EXTENTS = {"transfer": Extent(10, 2, "t"), "valid": Extent(4, 1, "v"), "test": Extent(3, 1, "e")}


def identity(dtype="float32") -> dict:
    kept = Knowledge.of_logits(CLASSES, dtype, SPAN)
    return {
        "output": "raw logits",
        "teacher": {"name": "a", "model": "m", "behaviour": "version 1", "weights_sha256": "w"},
        "classes": ["x", "y", "z"],
        "inputs": {"decoder": "d", "mode": "L", "shape": [1, 2, 2]},
        "views": {"policy": "none()", "seed": 0, "behaviours": ["version 1"]},
        "precision": "float32",
        "tile": 4,
        "inference": 1,
        "layout": kept.layout.to_dict(),
        "knowledge": kept.to_dict(),
    }


def logits(split: str) -> np.ndarray:
    """(views, rows, classes) float32, all different."""
    extent = EXTENTS[split]
    generator = np.random.default_rng(len(split))
    return generator.normal(size=(extent.views, extent.rows, CLASSES)).astype(np.float32)


DIGESTS = {split: [f"rows-{split}-{span}" for span in range(-(-extent.rows // SPAN))] for split, extent in EXTENTS.items()}


PARTS = list(parts(EXTENTS, SPAN))


def hold(tmp_path: Path, dtype="float32", out="caches/a", **facts):
    """The work of a cache `out`, both below tmp_path; facts: changes to its identity."""
    return Work.hold(
        tmp_path / "work", tmp_path / out, identity(dtype) | facts, Knowledge.of_logits(CLASSES, dtype, SPAN), EXTENTS
    )


def fill(work: Work, only=None, digests=DIGESTS) -> int:
    """Publish what is missing; returns how many spans that were."""
    missing = [part for part in work.resume(digests) if only is None or part in only]
    for split, view, span in missing:
        work.publish(split, view, span, digests[split][span], logits(split)[view, span * SPAN : (span + 1) * SPAN])
    return len(missing)


def sealed(tmp_path: Path, dtype="float32") -> Path:
    with hold(tmp_path, dtype) as work:
        fill(work)
        work.seal()
    return tmp_path / "caches/a"


def span_file(cache: Path, split="transfer", view=1, span=1) -> Path:
    return cache / "logits.zarr" / split / "c" / str(view) / str(span) / "0"


def hold_in(out, extents=EXTENTS, anew=False, **facts):
    """The work of a cache in a store. facts: changes to its identity."""
    known = Knowledge.of_logits(CLASSES, "float32", SPAN)
    return Work.hold(out / "unused", out, identity() | facts, known, extents, anew=anew)


def held(out) -> dict[str, bytes]:
    """Every file of the present generation."""
    base = files.current(out)
    return {name: (base / name).read_bytes() for name in files.sizes(base)}


def sealed_in(out, **how):
    """Capture it to its end; returns how many spans that took."""
    with hold_in(out, **how) as work:
        computed = fill(work)
        work.seal()
    return computed


def publish(work, part, add=0.0):
    """Publish a span, whose logits are off by so much."""
    split, view, span = part
    return work.publish(*part, DIGESTS[split][span], logits(split)[view, span * SPAN : (span + 1) * SPAN] + np.float32(add))
