"""Steps for the colours of images, uint8 (B, C, H, W), C 1 or 3. All arithmetic is on integers."""

import numpy as np
import torch

from pipeline.data.policies.batch import replaced, taken
from pipeline.data.policies.draw import Draw
from pipeline.data.policies.image import share_of
from pipeline.data.policies.warp import ONE, STEPS, fixed


def jitter(images: torch.Tensor, draw: Draw, brightness: float = 0, contrast: float = 0, saturation: float = 0) -> torch.Tensor:
    """Change brightness, then contrast, then saturation, each by a factor that is uniform in [1 - setting, 1 + setting].

    As torchvision's ColorJitter, whose order is drawn too: brightness scales the distance of a pixel from black, contrast that
    from the mean grey of its image, saturation that from the grey of the pixel. After each, pixels are rounded and kept in 0 to
    255. An image of one channel has no saturation.
    """
    seen = images.to(torch.int32)
    for slot, (reach, middle) in enumerate(((brightness, _black), (contrast, _mean), (saturation, _grey))):
        if reach:
            factor = fixed(1 + reach * (draw(2 * STEPS + 1, slot) - STEPS) / STEPS).to(images.device)[:, None, None, None]
            seen = ((middle(seen) * (ONE - factor) + seen * factor + (ONE >> 1)) >> 16).clamp(0, 255)
    return seen.to(torch.uint8)


def grey(images: torch.Tensor, draw: Draw, share: float = 0.5) -> torch.Tensor:
    """Take away the colours, in this share of the views: all three channels become the grey of the pixel."""
    part, whole = share_of(share)
    chosen = np.flatnonzero(draw(whole, 0) < part)
    coloured = taken(images, chosen)
    return replaced(images, chosen, _grey(coloured.to(torch.int32)).to(torch.uint8).expand_as(coloured))


def _black(pixels: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(pixels[:, :1])


def _mean(pixels: torch.Tensor) -> torch.Tensor:
    """The mean grey of each image, rounded: (B, 1, 1, 1) int32."""
    total, count = _grey(pixels).sum(dim=(1, 2, 3), keepdim=True), pixels[0, 0].numel()
    return torch.div(2 * total + count, 2 * count, rounding_mode="floor").to(torch.int32)


def _grey(pixels: torch.Tensor) -> torch.Tensor:
    """The luma of each pixel by ITU-R BT.601, in the integers of Pillow: (B, 1, H, W) int32."""
    if pixels.shape[1] == 1:
        return pixels
    red, green, blue = pixels[:, :1], pixels[:, 1:2], pixels[:, 2:]
    return (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
