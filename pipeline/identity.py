"""The identity of a cache: all that a logit is a function of, besides its row and view."""

from pathlib import Path
from typing import Any

from pipeline import closure, files, models
from pipeline.cache import PIXELS
from pipeline.checkpoint import WEIGHTS, Checkpoint
from pipeline.layout import Layout
from pipeline.transfer import Split
from pipeline.views import Policy

SHAPING = ("models", "predict", *PIXELS)  # the modules whose code a logit is a function of


def identity(name: str, teacher: Path, split: Split, policy: Policy, tile: int, layout: Layout) -> dict[str, Any]:
    """What the manifest binds: two captures with equal identities give equal logits. Rows and views are extents: they grow.

    teacher: its folder; split: the transfer set. Raises InputError where teacher and data do not fit each other.
    """
    checkpoint = Checkpoint.open(teacher)
    checkpoint.require_fit(name, split)
    return {
        "output": "raw logits, before any temperature",
        "teacher": {
            "model": checkpoint.model,
            "weights_sha256": files.sha256_file(teacher / WEIGHTS),
            "source_sha256": models.parse(checkpoint.model).source_sha256,
        },
        "classes": list(checkpoint.classes),
        "inputs": {"decoder": split.decoder, "mode": split.mode, "shape": list(split.shape)},
        "views": policy.facts(),
        "precision": "float32",
        "tile": tile,
        "code": {module: closure.tree_sha256(f"pipeline.{module}") for module in SHAPING},
        "layout": layout.facts(),
    }
