"""Scaled: a net of another library that takes uint8 pixels, which it scales as that library's configuration says."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from pipeline.base.errors import InputError
from pipeline.models.zoo.requirements import require


class Scaled(nn.Module):
    """A net behind the scaling of its inputs: pixels to [0, 1], minus `mean`, over `std`, by channel.

    Inputs that are no uint8 pixels are arrays that the user has scaled; they pass as they are. Grey images are shown to a net
    for colour ones with three equal channels. native: (height, width) that the library made the net for; None where it does
    not say.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self, net: nn.Module, channels: int, mean: Sequence[float], std: Sequence[float], native: tuple[int, int] | None
    ):
        super().__init__()
        self.net, self.channels, self.native = net, channels, native
        for name, values in {"mean": mean, "std": std}.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(-1, 1, 1), persistent=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits of inputs.

        Args:
            inputs: (B, channels, height, width), uint8 pixels or floats.

        Returns:
            (B, classes) float32.
        """
        values = inputs.to(torch.float32)
        if inputs.dtype == torch.uint8:
            values = (values / 255 - self.mean) / self.std
        if inputs.shape[1] == 1 < self.channels:
            values = values.expand(-1, self.channels, -1, -1)
        logits: torch.Tensor = self.net(values)
        return logits


def image_size(what: str, shape: Sequence[int], size: object) -> tuple[int, int] | None:
    """The size that a spec names, as (height, width); None where it names none. Raises InputError unless inputs are images."""
    require(len(shape) == 3, what, "images", f"inputs of shape {tuple(shape)}")
    if size is None:
        return None
    both: list[Any] = size if isinstance(size, list) else [size, size]
    whole = len(both) == 2 and all(isinstance(each, int) and not isinstance(each, bool) and each > 0 for each in both)
    require(whole, f"{what} size", "pixels such as 224, or [height, width]", size)
    return both[0], both[1]


def wrong_size(what: str, native: tuple[int, int], found: Sequence[int], more: str = "") -> InputError:
    """The error about images of another size than a net was made for. more: what else the user may do."""
    (height, width), (rows, columns) = native, found
    fix = f"Set `size: [{height}, {width}]` in ingest{more}."
    return InputError(what, expected=f"{height}×{width}, as its library says", found=f"{rows}×{columns}", fix=fix)


def numbers(what: str, value: object, default: Sequence[float], *, above: float = -math.inf) -> Sequence[float]:
    """One number for each channel: those that a spec gives, or else the default. Raises InputError for anything else."""
    if value is None:
        return default
    held: list[Any] = value if isinstance(value, list) else [value]
    fit = bool(held) and all(isinstance(each, int | float) and not isinstance(each, bool) and each > above for each in held)
    require(fit, what, "a number for each channel", value)
    return held
