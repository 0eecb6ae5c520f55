"""Libraries that may be missing, many with nets of other people: extras, imported when needed, missed in one clear message."""

import difflib
import importlib
from collections.abc import Iterable
from importlib import metadata
from types import ModuleType

from pipeline.base.errors import InputError, first_line

EXTRA = {
    "timm": "timm", "torchvision": "timm", "transformers": "transformers", "onnx": "export", "onnxruntime": "export",
    "tensorboard": "tensorboard", "obstore": "stores", "ray": "ray",
}  # fmt: skip


def needed(name: str, what: str) -> ModuleType:
    """Import a library.

    Args:
        name: What it is imported as.
        what: What needs it, for the message.

    Returns:
        Its module.

    Raises:
        InputError: It is not installed, or cannot be imported beside the installed torch.
    """
    try:
        return importlib.import_module(name)
    except Exception as error:  # one that was built for another torch fails in many ways
        absent = isinstance(error, ModuleNotFoundError) and error.name == name
        found = "none" if absent else first_line(error)
        fix = f'Install it: `pip install "softcache[{EXTRA[name]}]"`, or `pip install {name}`.'
        if not absent:
            fix = f"It is installed, but does not fit torch {version('torch')}: install the version and build that do."
        raise InputError(what, expected=f"the library {name}", found=found, fix=fix) from error


def version(name: str) -> str:
    """The installed version of a library; "none" where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


def similar(name: str, known: Iterable[str]) -> str:
    """The known names that are most like this one, for a message; empty where none is."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f", which is not one; close to {', '.join(close)}" if close else ", which is not one"
