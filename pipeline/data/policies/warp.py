"""Warps: steps that sample images at other coordinates. affine and elastic; `sampled` serves others too."""

import math

import numpy as np
import torch

from pipeline.base.errors import InputError
from pipeline.data.policies.draw import Draw

# Coordinates are 32-bit integers, so that pixels are the same on every device and in every batch.
ONE = 1 << 16  # one pixel
_PIECE = 1 << 18  # pixels that are sampled at once on a CPU, whose cache then holds what lies in between: twice as fast
STEPS = 1000  # a draw is one of this many steps to either side of 0


def affine(images: torch.Tensor, draw: Draw, rotate: float = 0, zoom: float = 0, shear: float = 0) -> torch.Tensor:
    """Rotate by up to `rotate` degrees, zoom by up to the share `zoom`, shear by up to the share `shear`, all uniformly.

    The center of the image stays. Bilinear; uncovered pixels are 0.
    """
    height, width = images.shape[2:]
    angle, grown, leaning = (
        reach * (draw(2 * STEPS + 1, slot) - STEPS) / STEPS
        for slot, reach in enumerate((math.radians(rotate), math.log1p(zoom), shear))
    )
    cosine, sine = np.cos(angle) * np.exp(-grown), np.sin(angle) * np.exp(-grown)
    back = np.stack([cosine, sine, leaning * cosine - sine, leaning * sine + cosine])  # maps a pixel to its source
    down_down, right_down, down_right, right_right = fixed(back).to(images.device)[:, :, None, None]
    # Twice the distance from the center, which lies between pixels if their number is even.
    down = torch.arange(height, dtype=torch.int32, device=images.device)[:, None] * 2 - (height - 1)
    right = torch.arange(width, dtype=torch.int32, device=images.device) * 2 - (width - 1)
    was_down = (down_down * down + (height - 1) * ONE) + right_down * right
    was_right = (down_right * down + (width - 1) * ONE) + right_right * right
    return sampled(images, was_down >> 1, was_right >> 1)


def elastic(images: torch.Tensor, draw: Draw, pixels: int, points: int = 4) -> torch.Tensor:
    """Bend the image: the points of a points × points grid move by up to `pixels` in both directions, uniformly.

    Like the elastic distortions of Simard, Steinkraus, Platt 2003, but their field is smoothed noise; this one is linear
    between the grid's points. Bilinear; uncovered pixels are 0.
    """
    height, width = images.shape[2:]
    require_within("elastic", pixels, images)
    moves = np.stack([draw(2 * STEPS + 1, slot) - STEPS for slot in range(2 * points * points)])
    grid = fixed(moves * (pixels / STEPS)).view(2, points, points, -1).permute(0, 3, 1, 2).to(images.device)
    bent = _between(_between(grid, width, 3), height, 2)  # (2, B, H, W)
    down, right = (torch.arange(size, dtype=torch.int32, device=images.device) * ONE for size in (height, width))
    return sampled(images, bent[0] + down[:, None], bent[1] + right)


def require_within(step: str, pixels: int, images: torch.Tensor) -> None:
    """Raise InputError for moves by more pixels than the images have."""
    size = max(images.shape[2:])
    if pixels > size:
        expected = f"at most {size} pixels, the size of the images"
        raise InputError(f"view policy {step}", expected=expected, found=str(pixels), fix="Move by less.")


def fixed(values: np.ndarray) -> torch.Tensor:
    """Numbers as int32, in units of 1/ONE."""
    return torch.from_numpy(np.rint(values * ONE).astype(np.int32))


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


def sampled(images: torch.Tensor, down: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The images sampled at other coordinates, bilinear, 0 outside. down, right: (B, H, W) int32, in 1/ONE pixels.

    They may be of shapes that broadcast to it, but for B.
    """
    size = max(1, _PIECE // images[0].numel()) if images.device.type == "cpu" else len(images)
    pieces = [_sampled(*piece) for piece in zip(images.split(size), down.split(size), right.split(size), strict=True)]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def _sampled(images: torch.Tensor, down: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The same of a piece of the batch."""
    _, channels, height, width = images.shape
    down, right = torch.broadcast_tensors(down, right)
    down, right = down.clamp(-ONE, height * ONE), right.clamp(-ONE, width * ONE)
    framed = torch.nn.functional.pad(images, (1, 2, 1, 2)).to(torch.int32)
    pairs = framed[..., :-1] | framed[..., 1:] << 8
    fours = (pairs[..., :-1, :] | pairs[..., 1:, :] << 16).flatten(2)  # a pixel, right of it, below it, below right
    indices = (((down >> 16) + 1) * (width + 2) + ((right >> 16) + 1)).flatten(1).to(torch.int64)
    seen = fours.gather(2, indices[:, None].expand(-1, channels, -1))
    low, far = (((offset & (ONE - 1)) >> 8).flatten(1)[:, None] for offset in (down, right))  # weights, out of 256
    above = (seen & 255) * (256 - far) + (seen >> 8 & 255) * far
    below = (seen >> 16 & 255) * (256 - far) + (seen >> 24 & 255) * far
    return ((above * (256 - low) + below * low + (1 << 15)) >> 16).to(torch.uint8).view(images.shape)
