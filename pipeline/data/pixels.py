"""Pixels: encoded images decoded to uint8 arrays."""

import io
import struct
import warnings

import numpy as np
from PIL import Image

from pipeline.base.errors import InputError, first_line
from pipeline.base.spec import versioned

VERSIONS = {"pillow": 1}  # of decoders: a decoder is part of what a teacher saw
DECODER = f"pillow {versioned(VERSIONS['pillow'])}"
CHANNELS = {"L": 1, "RGB": 3}
# Pixel modes that convert to 8 bits per channel without losing depth (16-bit and float images are refused).
_GREY, _COLOUR = {"1", "L"}, {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}


def peek(data: bytes, where: str) -> tuple[str, int, int]:
    """Decode an image once, to prove that it is sound. Returns (mode to decode to, height, width).

    Raises InputError, naming `where`, for anything but a sound PNG or JPEG of 8 bits per channel.
    """
    image = _open(data, where)
    return ("L" if image.mode in _GREY else "RGB"), image.height, image.width


def decode(data: bytes, mode: str, where: str) -> np.ndarray:
    """The pixels of an encoded image: (channels, height, width) uint8. mode: L or RGB."""
    pixels = np.asarray(_open(data, where).convert(mode))  # (H, W) or (H, W, C)
    return pixels[None] if mode == "L" else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _open(data: bytes, where: str) -> Image.Image:
    fix = "Repair the image or leave the row out."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
            image.load()
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        limit = f"an image of at most {Image.MAX_IMAGE_PIXELS:,} pixels"
        raise InputError(where, expected=limit, found=_reason(error), fix=fix) from error
    except (OSError, SyntaxError, ValueError, struct.error) as error:  # Pillow's parsers raise these for bad bytes
        found = f"{len(data):,} bytes that do not decode ({_reason(error)})"
        raise InputError(where, expected="a PNG or JPEG image", found=found, fix=fix) from error
    if image.mode not in _COLOUR:
        raise InputError(where, expected="8 bits per channel", found=f"pixel mode {image.mode}", fix="Convert the image.")
    return image


def _reason(error: Exception) -> str:
    text = first_line(error)
    return "not an image file" if "cannot identify" in text else text
