"""The identity of a cache: all that a logit is a function of, besides its row and view."""

from pathlib import Path
from typing import Any

from pipeline.base import commands
from pipeline.cache.layout import Layout
from pipeline.cache.reader import Cache
from pipeline.data.splits import Split
from pipeline.data.views import Policy
from pipeline.models import predict
from pipeline.models.modelfile import FILE_NAME, ModelFile


def identity(teacher: ModelFile, split: Split, policy: Policy, tile: int, layout: Layout) -> dict[str, Any]:
    """What the manifest binds: two captures with equal identities give equal logits. Rows and views are extents: they grow.

    split: the transfer set. Raises InputError where teacher and data do not fit each other.
    """
    teacher.require_fit(split)
    return {
        "output": "raw logits, before any temperature",
        "teacher": _teacher(teacher),
        "classes": list(teacher.classes),
        "inputs": {"decoder": split.decoder, "mode": split.mode, "shape": list(split.shape)},
        "views": policy.to_dict(),
        "precision": "float32",
        "tile": tile,
        "inference": predict.VERSION,
        "layout": layout.to_dict(),
    }


def require_teacher(cache: Cache, folder: Path) -> None:
    """Raise InputError where the teacher that lies in `folder` is no longer the one whose logits the cache holds.

    A cache may come without its teacher: then there is nothing to compare.
    """
    if not (folder / FILE_NAME).exists():
        return
    cache.require(_teacher(ModelFile.teacher(folder)), "teacher", f"Run {commands.capture(cache.path)}.")


def _teacher(model: ModelFile) -> dict[str, str | None]:
    net = model.nets[0]
    return {"name": model.name, "model": model.model, "behaviour": model.behaviour, "weights_sha256": net.sha256}
