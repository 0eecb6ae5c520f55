"""Resizing: how images of several sizes become images of one."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from pipeline.base.errors import InputError

FITS = ("crop", "pad", "stretch")


@dataclass(frozen=True)
class Resizing:
    """size: (height, width) in pixels; None where all images have one size already. fit: one of FITS."""

    size: tuple[int, int] | None = None
    fit: str = "crop"

    @classmethod
    def of(cls, size: Sequence[int], fit: str) -> "Resizing":
        """From settings. size: none, one number for both, or height and width. Raises InputError for others."""
        if fit not in FITS:
            raise InputError("fit", expected=" or ".join(FITS), found=repr(fit), fix="Correct the setting.")
        if not size:
            return cls(None, fit)
        if len(size) > 2 or min(size) < 1:
            expected = "a number of pixels, or [height, width]"
            raise InputError("size", expected=expected, found=str(list(size)), fix="Correct the setting.")
        return cls((size[0], size[-1]), fit)


def resized(image: Image.Image, size: tuple[int, int], fit: str) -> Image.Image:
    """An image of another size, by Pillow's bilinear filter, which averages where it shrinks. size: (height, width).

    crop: the shorter side fits, the longer one is cut, centred. pad: the longer side fits, the rest is black. stretch: both
    sides fit. Sizes are rounded half up, and Pillow computes in integers, so that every machine gives the same pixels.
    """
    height, width = size
    if fit != "stretch":
        ends = (image.width * height, image.height * width)  # the image is wider than the size where the first is larger
        by_height = (ends[0] >= ends[1]) == (fit == "crop")
        height, width = (
            (height, _scaled(image.width, height, image.height))
            if by_height
            else (_scaled(image.height, width, image.width), width)
        )
    left, top = (width - size[1]) // 2, (height - size[0]) // 2
    if fit == "crop":
        # Only what stays is resized: the whole long side of a thin image would not fit the memory.
        box = (left * image.width / width, top * image.height / height,
               (left + size[1]) * image.width / width, (top + size[0]) * image.height / height)  # fmt: skip
        return image.resize(size[::-1], Image.Resampling.BILINEAR, box)
    if (height, width) != (image.height, image.width):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return image.crop((left, top, left + size[1], top + size[0]))  # what lies outside is black


def _scaled(side: int, wanted: int, other: int) -> int:
    return max(1, (2 * side * wanted + other) // (2 * other))
