"""Nets from elsewhere: those of other libraries, by name or out of files."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import nn

from pipeline.base import files
from pipeline.base.errors import InputError
from pipeline.base.libraries import version
from pipeline.base.spec import Spec, name_in
from pipeline.models import onnx, pretrained
from pipeline.models.timm import timm
from pipeline.models.torchvision import torchvision
from pipeline.models.transformers import transformers

MODELS: dict[str, Callable[..., nn.Module]] = {
    "timm": timm, "torchvision": torchvision, "transformers": transformers, "onnx": onnx.onnx
}  # fmt: skip
VERSIONS = {"timm": 1, "torchvision": 1, "transformers": 1, "onnx": 1}  # of our part of them
LIBRARIES = {"timm": "timm", "torchvision": "torchvision", "transformers": "transformers"}  # whose code is the net
_ASSETS: dict[str, Callable[[str], dict[str, bytes]]] = {"transformers": pretrained.assets, "onnx": onnx.assets}
_READ: dict[str, Callable[[str], list[Path]]] = {"transformers": pretrained.files, "onnx": onnx.files}


def require_student(model: Spec) -> None:
    """Raise InputError for a student out of files: its initial weights would be bound to nothing."""
    if files_of(model):
        what, expected = f"model {model.text}", "a student built in, of your own, or by name, such as timm('resnet18')"
        raise InputError(what, expected=expected, found="one out of files", fix="Take it as a teacher: `softcache adopt`.")


def behaviour(model: Spec) -> str:
    """The behaviour of a spec, with the version of the library whose code is the net: another one may give other logits."""
    library = LIBRARIES.get(name_in(model.text))  # the name of a plug-in, which has a colon, is in none of these tables
    return model.behaviour if library is None else f"{model.behaviour}, {library} {version(library)}"


def assets_of(model: Spec) -> dict[str, bytes]:
    """What a net is made of besides weights, such as a configuration and a tokenizer: files by name. Most have none.

    Raises InputError where they are missing.
    """
    find = _ASSETS.get(name_in(model.text))
    return {} if find is None else find(str(model.arguments["path"]))


def files_of(model: Spec) -> list[Path]:
    """The files that a net is read out of, its weights too. Raises InputError where they are missing."""
    find = _READ.get(name_in(model.text))
    return [] if find is None else find(str(model.arguments["path"]))


def witnesses_of(model: Spec) -> list[files.Witness]:
    """A witness of each of `files_of`."""
    return [files.Witness.of_file(path, files.sha256_file(path)) for path in files_of(model)]


def moved(model: Spec, folder: Path) -> Spec:
    """The same spec, its assets in another folder."""
    return replace(model, arguments=model.arguments | {"path": str(folder)})
