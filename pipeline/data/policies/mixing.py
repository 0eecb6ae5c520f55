"""Steps that mix an image with another row's: its partner. Each has a function for the share of the row's own image.

Both get λ, or the area that stands for it, from Beta(strength, strength), in 256ths.
"""

import functools
from collections.abc import Sequence

import numpy as np
import torch
from scipy import special

from pipeline.data.policies.draw import WIDE, Draw, below
from pipeline.data.policies.image import inside

PARTNER, _LAMBDA, _DOWN, _RIGHT = range(4)  # slots of draws; the partner's is drawn by views.Policy
Pair = tuple[torch.Tensor, torch.Tensor]  # images and those of their partners, both (B, C, H, W) uint8


def mixup(pair: Pair, draw: Draw, strength: float) -> torch.Tensor:
    """λ times the image plus 1 - λ times its partner, rounded (Zhang et al., "mixup", 2018)."""
    own, others = (images.to(torch.int32) for images in pair)
    share = torch.from_numpy(_lambda(draw, strength).astype(np.int32)).to(own.device)[:, None, None, None]
    return ((own * share + others * (256 - share) + 128) >> 8).to(torch.uint8)


def mixup_weights(draw: Draw, shape: Sequence[int], strength: float) -> np.ndarray:
    """λ of `mixup`, the share of the row's own image: (B,) float32."""
    return (_lambda(draw, strength) / 256).astype(np.float32)


def cutmix(pair: Pair, draw: Draw, strength: float) -> torch.Tensor:
    """Put a rectangle of its partner into the image, at the same place (Yun et al., "CutMix", 2019).

    It has the image's proportions and 1 - λ of its area. Its center is uniform in the image, whose edges cut it.
    """
    own, others = pair
    return torch.where(inside(*_box(draw, own.shape, strength), own), others, own)


def cutmix_weights(draw: Draw, shape: Sequence[int], strength: float) -> np.ndarray:
    """The share of the image's area that `cutmix` leaves: (B,) float32. shape: of an image, (C, H, W)."""
    _, tall, _, wide = _box(draw, shape, strength)
    left: np.ndarray = 1 - tall * wide / (shape[-2] * shape[-1])
    return left.astype(np.float32)


def _box(draw: Draw, shape: Sequence[int], strength: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Top, height, left and width of the rectangle that is the partner's, each (B,) int64."""
    rest = np.sqrt((256 - _lambda(draw, strength)) / 256)
    found = []
    for size, slot in ((shape[-2], _DOWN), (shape[-1], _RIGHT)):
        length, center = (size * rest).astype(np.int64), below(draw, size, slot)
        first, stop = (np.clip(end, 0, size) for end in (center - length // 2, center - length // 2 + length))
        found += [first, stop - first]
    top, tall, left, wide = found
    return top, tall, left, wide


def _lambda(draw: Draw, strength: float) -> np.ndarray:
    """256 λ, rounded, where λ has the distribution Beta(strength, strength): (B,) int64."""
    return np.searchsorted(_thresholds(strength), draw(WIDE, _LAMBDA), side="right")


@functools.cache
def _thresholds(strength: float) -> np.ndarray:
    """For each k in 0 to 255, of 2^32 draws those in which 256 λ rounds to k or less: (256,) int64."""
    shares = special.betainc(strength, strength, (np.arange(256) + 0.5) / 256)
    return np.rint(shares * WIDE).astype(np.int64)
