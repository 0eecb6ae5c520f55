"""The identity of a cache: all that a logit depends on, besides its row and view."""

from typing import Any

from pipeline.base import commands, files
from pipeline.base.places import Place
from pipeline.cache.knowledge.knowledge import Knowledge
from pipeline.cache.reader import Cache
from pipeline.data.splits import Split, described
from pipeline.data.views import Policy
from pipeline.models import predict, watched
from pipeline.models.modelfile import FILE_NAME, ModelFile


def identity(teacher: ModelFile, split: Split, policy: Policy, tile: int, knowledge: Knowledge) -> dict[str, Any]:
    """The identity as the manifest stores it: captures of equal identity give equal logits. split: the transfer set.

    It holds no numbers of rows and views: these may grow. Of logits made elsewhere it names no tile and no loop.
    Raises InputError if teacher and data do not fit.
    """
    teacher.require_fit(split)
    way: dict[str, Any] = {"precision": "float32", "tile": tile, "inference": predict.VERSION}
    if teacher.kind == "imported":  # how its logits were computed is not known
        way = {"precision": "unknown", "tile": 0, "inference": None}
    return {
        "output": "raw logits, before any temperature",
        "teacher": _teacher(teacher),
        "classes": list(teacher.classes),
        "inputs": described(split.inputs),
        "views": policy.to_dict(),
        **way,
        "layout": knowledge.layout.to_dict(),
        "knowledge": knowledge.to_dict() | ({"steps": watched.VERSION} if knowledge.features else {}),
    }


def require_teacher(cache: Cache, folder: Place) -> None:
    """Raise InputError if the teacher in `folder` is not the one that the cache was captured from; it may be missing."""
    if not files.holds(folder, FILE_NAME):
        return
    cache.require(_teacher(ModelFile.teacher(folder)), "teacher", f"Run {commands.capture(cache.path)}.")


def _teacher(model: ModelFile) -> dict[str, Any]:
    net = model.nets[0]
    found: dict[str, Any] = {"name": model.name, "model": model.model, "behaviour": model.behaviour}
    found["weights_sha256"] = net.sha256
    if model.assets:
        found["assets"] = dict(model.assets)
    if model.outputs:
        found["outputs"] = {"count": model.outputs.count, "groups": [list(group) for group in model.outputs.groups]}
    return found
