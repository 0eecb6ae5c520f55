"""Config: what config.json of an export says, which softcache_export.py goes by."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

import softcache_export
from pipeline.base import files
from pipeline.base.errors import InputError
from pipeline.data.splits import described
from pipeline.models import onnxfile
from pipeline.models.encoding import encode, example, reads_text
from pipeline.models.modelfile import ModelFile, Net

_TEXTS = ("", "Some words, to compare with: 1 and 2!", "Größe ÅNGSTRÖM ß 東京")


def config(model: ModelFile, net: Net, module: torch.nn.Module, output: str, written: Mapping[str, bytes]) -> dict[str, Any]:
    """The content of config.json.

    Args:
        model: The folder of the run.
        net: Its net that is exported.
        module: The net in torch.
        output: What the ONNX models give, `logits` or `probabilities`.
        written: The other files of the export that have to be as they are.

    Returns:
        Plain values; `softcache_export.config` reads them.

    Raises:
        InputError: The net's property `encoding` does not say what its method `encode` does.
    """
    taken = example(module, model.inputs)
    return {
        "format": softcache_export.FORMAT,
        "name": model.name,
        "kind": model.kind,
        "model": model.model,
        "seed": net.seed,
        "id2label": {str(label): name for label, name in enumerate(model.classes)},
        "label2id": {name: label for label, name in enumerate(model.classes)},
        "inputs": described(model.inputs) | {"shape": list(taken.shape[1:]), "dtype": str(taken.dtype).removeprefix("torch.")},
        "encoding": _encoding(module) if reads_text(module) else None,
        "output": output,
        "opset": onnxfile.OPSET,
        "weights_sha256": net.sha256,
        "data": asdict(model.data),
        "recipe": None if model.recipe is None else asdict(model.recipe),
        "views": None if model.views is None else asdict(model.views),
        "rows": None if model.rows is None else asdict(model.rows),
        "soft": None if model.soft is None else asdict(model.soft),
        "files": {name: files.sha256(content) for name, content in written.items()},
    }


def _encoding(module: torch.nn.Module) -> Mapping[str, Any] | None:
    """How the net encodes texts, in the words of softcache_export.encoded; None where only its own code can do it."""
    found: object = getattr(module, "encoding", None)
    if not isinstance(found, Mapping) or found.get("name") not in softcache_export.ENCODINGS:
        return None
    if not np.array_equal(softcache_export.encoded(found, _TEXTS), encode(module, _TEXTS).numpy()):
        expected, fix = "a property `encoding` that says what its `encode` does", "Correct it, or leave it out."
        raise InputError(f"net {type(module).__name__}", expected=expected, found="another", fix=fix)
    return dict(found)
