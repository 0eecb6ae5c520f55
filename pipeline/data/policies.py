"""Policies: steps that augment images. Each is a pure function of pixels and of addressed random draws."""

import math
from collections.abc import Callable

import numpy as np
import torch

from pipeline.base.errors import InputError

# draw(high, slot): random integers in [0, high), one per image of the batch; a step's draws have different slots.
Draw = Callable[[int, int], np.ndarray]


def none(images: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Leave the pixels as they are."""
    return images


def shift(images: torch.Tensor, draw: Draw, pixels: int) -> torch.Tensor:
    """Move the image by up to `pixels` in both directions, uniformly; uncovered pixels are 0."""
    count, _, height, width = images.shape
    _require_within("shift", pixels, images)
    device = images.device
    down, right = (torch.from_numpy(draw(2 * pixels + 1, slot)).to(device) for slot in (0, 1))
    padded = torch.nn.functional.pad(images, (pixels,) * 4)
    rows = down[:, None] + torch.arange(height, device=device)  # (B, H)
    columns = right[:, None] + torch.arange(width, device=device)  # (B, W)
    example = torch.arange(count, device=device)[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[example, rows[:, :, None], columns[:, None, :]]  # (B, H, W, C)
    return moved.permute(0, 3, 1, 2)


def flip(images: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Mirror left and right, half of the time."""
    mirrored = torch.from_numpy(draw(2, 0) == 1).to(images.device)
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def affine(images: torch.Tensor, draw: Draw, rotate: float = 0, zoom: float = 0, shear: float = 0) -> torch.Tensor:
    """Rotate by up to `rotate` degrees, zoom by up to the share `zoom`, shear by up to the share `shear`, all uniformly.

    The center of the image stays. Bilinear; uncovered pixels are 0.
    """
    height, width = images.shape[2:]
    angle, grown, leaning = (
        reach * (draw(2 * _STEPS + 1, slot) - _STEPS) / _STEPS
        for slot, reach in enumerate((math.radians(rotate), math.log1p(zoom), shear))
    )
    cosine, sine = np.cos(angle) * np.exp(-grown), np.sin(angle) * np.exp(-grown)
    back = np.stack([cosine, sine, leaning * cosine - sine, leaning * sine + cosine])  # maps a pixel to its source
    down_down, right_down, down_right, right_right = _fixed(back).to(images.device)[:, :, None, None]
    # Twice the distance from the center, which lies between pixels if their number is even.
    down = torch.arange(height, dtype=torch.int32, device=images.device)[:, None] * 2 - (height - 1)
    right = torch.arange(width, dtype=torch.int32, device=images.device) * 2 - (width - 1)
    was_down = (down_down * down + (height - 1) * _ONE) + right_down * right
    was_right = (down_right * down + (width - 1) * _ONE) + right_right * right
    return _sampled(images, was_down >> 1, was_right >> 1)


def elastic(images: torch.Tensor, draw: Draw, pixels: int, points: int = 4) -> torch.Tensor:
    """Bend the image: the points of a points × points grid move by up to `pixels` in both directions, uniformly.

    Like the elastic distortions of Simard, Steinkraus, Platt 2003, but their field is smoothed noise; this one is linear
    between the grid's points. Bilinear; uncovered pixels are 0.
    """
    height, width = images.shape[2:]
    _require_within("elastic", pixels, images)
    moves = np.stack([draw(2 * _STEPS + 1, slot) - _STEPS for slot in range(2 * points * points)])
    grid = _fixed(moves * (pixels / _STEPS)).view(2, points, points, -1).permute(0, 3, 1, 2).to(images.device)
    bent = _between(_between(grid, width, 3), height, 2)  # (2, B, H, W)
    down, right = (torch.arange(size, dtype=torch.int32, device=images.device) * _ONE for size in (height, width))
    return _sampled(images, bent[0] + down[:, None], bent[1] + right)


# Coordinates are 32-bit integers, so that pixels are the same on every device and in every batch.
_ONE = 1 << 16  # one pixel
_STEPS = 1000  # a draw is one of this many steps to either side of 0


def _require_within(step: str, pixels: int, images: torch.Tensor) -> None:
    size = max(images.shape[2:])
    if pixels > size:
        expected = f"at most {size} pixels, the size of the images"
        raise InputError(f"view policy {step}", expected=expected, found=str(pixels), fix="Move by less.")


def _fixed(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.rint(values * _ONE).astype(np.int32))


def _between(grid: torch.Tensor, size: int, axis: int) -> torch.Tensor:
    """`size` values along an axis, evenly spaced from the grid's first point to its last, by linear interpolation."""
    steps, last = grid.shape[axis] - 1, max(size - 1, 1)
    scaled = np.arange(size) * steps
    below = np.minimum(scaled // last, steps - 1)
    shape = [1] * grid.dim()
    shape[axis] = size
    share = torch.from_numpy(np.rint((scaled / last - below) * 256).astype(np.int32)).view(shape).to(grid.device)
    first = torch.from_numpy(below).to(grid.device)
    one, next_one = (grid.index_select(axis, first + step) for step in (0, 1))
    return one + ((next_one - one) * share >> 8)


def _sampled(images: torch.Tensor, down: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The images sampled at other coordinates, bilinear, 0 outside. down, right: (B, H, W) int32, in 1/_ONE pixels."""
    _, channels, height, width = images.shape
    down, right = down.clamp(-_ONE, height * _ONE), right.clamp(-_ONE, width * _ONE)
    framed = torch.nn.functional.pad(images, (1, 2, 1, 2)).to(torch.int32)
    pairs = framed[..., :-1] | framed[..., 1:] << 8
    fours = (pairs[..., :-1, :] | pairs[..., 1:, :] << 16).flatten(2)  # a pixel, right of it, below it, below right
    indices = (((down >> 16) + 1) * (width + 2) + ((right >> 16) + 1)).flatten(1).to(torch.int64)
    seen = fours.gather(2, indices[:, None].expand(-1, channels, -1))
    low, far = (((offset & (_ONE - 1)) >> 8).flatten(1)[:, None] for offset in (down, right))  # weights, out of 256
    above = (seen & 255) * (256 - far) + (seen >> 8 & 255) * far
    below = (seen >> 16 & 255) * (256 - far) + (seen >> 24 & 255) * far
    return ((above * (256 - low) + below * low + (1 << 15)) >> 16).to(torch.uint8).view(images.shape)


POLICIES: dict[str, Callable[..., torch.Tensor]] = {
    "none": none, "shift": shift, "flip": flip, "affine": affine, "elastic": elastic,
}  # fmt: skip
VERSIONS = {"none": 1, "shift": 1, "flip": 1, "affine": 1, "elastic": 1}
RANGES = {  # setting → (whether it is an integer, least, most)
    "pixels": (True, 0, math.inf),
    "points": (True, 2, 64),
    "rotate": (False, 0, 180),
    "zoom": (False, 0, 1),
    "shear": (False, 0, 1),
}
