"""Steps for images, uint8 (B, C, H, W): moved, mirrored, cropped and erased. See also warp.py, colour.py and mixing.py."""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch

from pipeline.base.errors import InputError
from pipeline.data.policies.batch import is_channels_last, replaced, taken
from pipeline.data.policies.draw import Draw, below
from pipeline.data.policies.warp import ONE, require_within, sampled

_TRIES = 10  # draws of a rectangle, until one fits
_STEPS = 1 << 16  # a draw from a range of numbers is one of this many steps above its lower end


def shift(images: torch.Tensor, draw: Draw, pixels: int, *, edge: str = "zero") -> torch.Tensor:
    """Pad the image and crop it anew: move it by up to `pixels` in both directions, uniformly.

    Uncovered pixels are 0, or with `edge="reflect"` those on the other side of the edge, mirrored. Padding by 4 is what He,
    Zhang, Ren, Sun 2016 do for CIFAR. Raises InputError for moves by more pixels than the image has.
    """
    require_within("shift", pixels, images)
    padded = torch.nn.functional.pad(images, (pixels,) * 4) if edge == "zero" else _reflected(images, pixels)
    down, right = (draw(2 * pixels + 1, slot) for slot in (0, 1))
    return _windows(padded, down, right, images.shape)


def flip(images: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Mirror left and right, half of the time."""
    mirrored = np.flatnonzero(draw(2, 0) == 1)
    return replaced(images, mirrored, taken(images, mirrored).flip(-1))


def resized_crop(
    images: torch.Tensor,
    draw: Draw,
    scale: Sequence[float] = (0.08, 1),
    ratio: Sequence[float] = (0.75, 1.3333),
) -> torch.Tensor:
    """Crop a part of the image and enlarge it to the whole size: torchvision's RandomResizedCrop.

    Its share of the area is uniform in `scale`, its width divided by its height is uniform in `ratio` on a logarithmic axis
    (Szegedy et al., "Going deeper with convolutions", 2015). Of ten draws, the first that fits in the image is taken; where
    none does, the largest part in the middle. Bilinear. A part is never shrunk, so nothing is smoothed.
    """
    height, width = images.shape[2:]
    tall, wide, fits = _boxes(draw, 2, scale, ratio, (height, width))
    shape = min(max(width / height, ratio[0]), ratio[1])
    tall = np.where(fits, tall, min(height, max(1, round(width / shape))))
    wide = np.where(fits, wide, min(width, max(1, round(height * shape))))
    top = np.where(fits, below(draw, height - tall + 1, 0), (height - tall) // 2)
    left = np.where(fits, below(draw, width - wide + 1, 1), (width - wide) // 2)
    down, right = _stretched(top, tall, height), _stretched(left, wide, width)
    return sampled(images, down.to(images.device)[:, :, None], right.to(images.device)[:, None])


def erase(
    images: torch.Tensor,
    draw: Draw,
    share: float = 0.5,
    area: Sequence[float] = (0.02, 0.33),
    ratio: Sequence[float] = (0.3, 3.3),
) -> torch.Tensor:
    """Make a rectangle 0, in this share of the views: random erasing (Zhong et al. 2017).

    Its share of the image's area is uniform in `area`, its width divided by its height in `ratio` on a logarithmic axis. Of ten
    draws, the first that fits in the image is taken; where none does, nothing is erased. The paper fills it with noise too.
    """
    height, width = images.shape[2:]
    part, whole = share_of(share)
    tall, wide, fits = _boxes(draw, 3, area, ratio, (height, width))
    chosen = (draw(whole, 0) < part) & fits
    tall, wide = np.where(chosen, tall, 0), np.where(chosen, wide, 0)
    erased = inside(below(draw, height - tall + 1, 1), tall, below(draw, width - wide + 1, 2), wide, images)
    return images.masked_fill(erased, 0)


def share_of(share: float) -> tuple[int, int]:
    """A share of the views as (part, whole), up to one in a thousand: a draw below `whole` is below `part` that often."""
    return Fraction(share).limit_denominator(1000).as_integer_ratio()


def inside(top: np.ndarray, tall: np.ndarray, left: np.ndarray, wide: np.ndarray, images: torch.Tensor) -> torch.Tensor:
    """Which pixels are in a rectangle: (B, 1, H, W) bool, from its upper left corners and sizes, each (B,) int64."""
    height, width = images.shape[2:]
    rows, columns = np.arange(height), np.arange(width)
    down = (rows >= top[:, None]) & (rows < (top + tall)[:, None])
    right = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
    down, right = (torch.from_numpy(each).to(images.device) for each in (down, right))
    return (down[:, :, None] & right[:, None])[:, None]


def _boxes(
    draw: Draw, slot: int, area: Sequence[float], ratio: Sequence[float], size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Heights and widths of rectangles, (B,) int64, and which of them fit in the image. They use 20 slots from `slot` on."""
    height, width = size
    tall, wide, fits = (np.zeros(len(draw(1, slot)), kind) for kind in (np.int64, np.int64, bool))
    for attempt in range(slot, slot + 2 * _TRIES, 2):
        share = _between(area, draw(_STEPS + 1, attempt))
        shape = np.exp(_between([math.log(end) for end in ratio], draw(_STEPS + 1, attempt + 1)))
        high, broad = (np.rint(np.sqrt(share * height * width * each)).astype(np.int64) for each in (1 / shape, shape))
        new = (high > 0) & (high <= height) & (broad > 0) & (broad <= width) & ~fits
        tall, wide, fits = np.where(new, high, tall), np.where(new, broad, wide), fits | new
        if fits.all():
            break
    return tall, wide, fits


def _between(ends: Sequence[float], steps: np.ndarray) -> np.ndarray:
    return ends[0] + (ends[1] - ends[0]) * steps / _STEPS


def _stretched(start: np.ndarray, length: np.ndarray, size: int) -> torch.Tensor:
    """Where `size` pixels come from that show `length` ones from `start` on: (B, size) int32, in units of 1/ONE.

    The centers of the first and of the last pixel do not lie at the ends: what is beyond a center shows that pixel.
    """
    twice = 2 * np.arange(size) + 1  # the distance from the edge, in halves
    centers = twice * length[:, None] * ONE // (2 * size) - ONE // 2
    found = start[:, None] * ONE + np.clip(centers, 0, (length[:, None] - 1) * ONE)
    return torch.from_numpy(found.astype(np.int32))


def _reflected(images: torch.Tensor, pixels: int) -> torch.Tensor:
    """Images padded on each side with what is on the other side of the edge; the edge itself is not repeated."""
    most = min(images.shape[2:]) - 1
    if pixels > most:
        expected = f"at most {most} pixels, which the images have beyond their edge"
        raise InputError("view policy shift, edge 'reflect'", expected=expected, found=str(pixels), fix="Move by less.")
    for axis in (-1, -2) if pixels else ():
        low = images.narrow(axis, 1, pixels).flip(axis)
        high = images.narrow(axis, images.shape[axis] - pixels - 1, pixels).flip(axis)
        images = torch.cat([low, images, high], axis)
    return images


def _windows(padded: torch.Tensor, down: np.ndarray, right: np.ndarray, shape: torch.Size) -> torch.Tensor:
    """Of each image the part of this shape whose upper left corner is at (down, right), in the layout that it has.

    Every place in memory begins a window, so all are rows of one table whose rows overlap; whole rows are taken out of it,
    which is ten times as fast as pixel by pixel.
    """
    _, channels, height, width = shape
    layout, sizes = padded.stride(), padded.shape
    starts = np.arange(len(padded)) * layout[0] + down * layout[2] + right * layout[3]
    chosen = torch.from_numpy(starts).to(padded.device)
    last = (len(padded) - 1) * layout[0] + (sizes[2] - height) * layout[2] + (sizes[3] - width) * layout[3]
    if is_channels_last(padded):
        every = padded.as_strided((last + 1, height, width, channels), (1, layout[2], layout[3], layout[1]))
        return every.index_select(0, chosen).permute(0, 3, 1, 2)
    return padded.as_strided((last + 1, channels, height, width), (1, *layout[1:])).index_select(0, chosen)
