"""Encoding: how rows of a split become the tensor that a net takes.

Numbers are taken as they are. Texts are encoded by the net itself: a net for text has a method `encode`, which maps a list of n
texts to n rows of numbers, all of one shape, whatever the texts are. Teacher and student may so have different tokenizers.
What a net makes of two texts of its own says that shape: an encoding that is as long as the longest text of a batch is refused.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from pipeline.base import plugins
from pipeline.base.errors import InputError, lacks_memory
from pipeline.data.inputs.kinds import Inputs
from pipeline.models.predict import device_of

_TEXTS = ("", "a text, to try a net with")


def reads_text(net: nn.Module) -> bool:
    """Whether a net is one for text: it has a method `encode`."""
    return callable(getattr(net, "encode", None))


def tensor(net: nn.Module | None, rows: np.ndarray) -> torch.Tensor:
    """Rows as a net takes them.

    Args:
        net: The net, which encodes texts; None will do for numbers.
        rows: (n, *shape) numbers, or (n,) str objects, as Split.read gives them.

    Returns:
        (n, *shape) on the CPU: the numbers themselves, or what the net's `encode` gives.

    Raises:
        InputError: The net encodes no texts, or not to one row of numbers each.
    """
    if rows.dtype != object:
        return torch.from_numpy(rows)
    if net is None:
        raise ValueError("expected a net, which encodes the texts")
    return encode(net, rows.tolist())


def encode(net: nn.Module, texts: Sequence[str]) -> torch.Tensor:
    """Texts as a net takes them: (n, *shape). Raises InputError as `tensor` does, and where shape or dtype depend on them."""
    encoded, usual = _encoded(net, texts), _encoded(net, _TEXTS)
    if (encoded.shape[1:], encoded.dtype) != (usual.shape[1:], usual.dtype):
        raise InputError(
            f"net {type(net).__name__}, encode", expected=f"{_said(usual)} for each text, as for others", found=_said(encoded),
            fix="Let it pad or cut all texts to one length, not to the longest of those that it gets.",
        )  # fmt: skip
    return encoded


def _said(encoded: torch.Tensor) -> str:
    return f"{str(encoded.dtype).removeprefix('torch.')} {tuple(encoded.shape[1:])}"


def _encoded(net: nn.Module, texts: Sequence[str]) -> torch.Tensor:
    """What `encode` of the net makes of these texts, on the CPU or wherever it puts it."""
    what, fix = f"net {type(net).__name__}", "Correct its method `encode`."
    if not reads_text(net):
        raise InputError(what, expected="a net for text, with a method `encode`", found="none", fix="Choose another model.")
    try:
        found = net.encode(list(texts))  # type: ignore[operator]  # a module's attributes have no types
        encoded = torch.from_numpy(found) if isinstance(found, np.ndarray) else found
    except Exception as error:
        if lacks_memory(error) or isinstance(error, InputError):
            raise
        raise InputError(what, expected="texts that it can encode", found=plugins.reason(error), fix=fix) from error
    if not isinstance(encoded, torch.Tensor) or encoded.dim() < 2 or len(encoded) != len(texts):
        shape = tuple(encoded.shape) if isinstance(encoded, torch.Tensor) else type(encoded).__name__
        raise InputError(f"{what}, encode", expected=f"({len(texts)}, …) numbers", found=str(shape), fix=fix)
    return encoded.contiguous()


def example(net: nn.Module | None, inputs: Inputs, count: int = 2) -> torch.Tensor:
    """Rows to try a net with, made up, on the device of the net: encoded texts; 0, 1, 2, … for numbers, up to 127.

    net: is needed for texts.
    """
    if net is not None and inputs.kind == "text":
        return _encoded(net, [_TEXTS[row % len(_TEXTS)] for row in range(count)]).to(device_of(net))
    numbers = np.arange(count * math.prod(inputs.shape)).reshape(count, *inputs.shape) % 128
    return torch.from_numpy(numbers.astype(inputs.dtype)).to(device_of(net))
