"""Pixels: image files decoded to uint8, upright and of the wanted size.

JPEG, the bulk of what people have, is decoded by simplejpeg: the same library as Pillow's, libjpeg-turbo, and the same pixels,
but a sixth of the time for small images, and it lets other threads run. Pillow does the rest, by the functions that an export
uses as well.
"""

import warnings

import numpy as np
import simplejpeg
from PIL import Image

from pipeline.base.errors import InputError
from pipeline.base.spec import versioned
from softcache_export import GREY, Refused, picture, resized

VERSIONS = {"pillow": 2}  # of decoders, resizing included: a decoder is part of what a teacher saw
DECODER = f"pillow {versioned(VERSIONS['pillow'])}"
CHANNELS = {"L": 1, "RGB": 3}
_JPEG = b"\xff\xd8\xff"
_EXIF = b"Exif\0\0"  # may say how a JPEG is turned
# What Pillow warns of is checked here, or harmless. For the process, because filters of a block are no thread's own.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", message="Corrupt EXIF data|Image appears to be a malformed MPO", module="PIL")


def peek(data: bytes, where: str) -> tuple[str, int, int]:
    """Decode an image once, to prove that it is sound. Returns (mode to decode to, height, width).

    Raises InputError, naming `where`, for anything but a sound PNG, JPEG or WebP of one picture and 8 bits per channel. Of the
    pictures in a JPEG the first one counts.
    """
    mode = _jpeg_mode(data)
    if mode is not None and (shown := _jpeg(data, mode)) is not None:
        return mode, shown.shape[0], shown.shape[1]
    image = _open(data, where)
    return ("L" if image.mode in GREY else "RGB"), image.height, image.width


def decode(data: bytes, mode: str, where: str, size: tuple[int, int] | None = None, fit: str | None = None) -> np.ndarray:
    """The pixels of an encoded image: (height, width, channels) uint8.

    mode: L or RGB. size, fit: what to bring it to, see softcache_export.resized; without a fit it stays as it is.
    Raises InputError, naming `where`, as `peek` does.
    """
    shown = _jpeg(data, mode) if _jpeg_mode(data) in ("L", mode) else None
    if shown is None:
        shown = np.asarray(_open(data, where).convert(mode))
        shown = shown if shown.ndim == 3 else shown[:, :, None]
    if fit is None or size is None or shown.shape[:2] == size:
        return shown
    image = Image.fromarray(shown[:, :, 0] if mode == "L" else shown)
    return np.asarray(resized(image, size, fit)).reshape(*size, CHANNELS[mode])


def _jpeg_mode(data: bytes) -> str | None:
    """The mode of a JPEG that simplejpeg can decode as Pillow would; None for any other image."""
    if not data.startswith(_JPEG) or _EXIF in data:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if height * width > (Image.MAX_IMAGE_PIXELS or height * width):
        return None
    return {"Gray": "L", "YCbCr": "RGB", "RGB": "RGB"}.get(colours)


def _jpeg(data: bytes, mode: str) -> np.ndarray | None:
    """(height, width, channels) uint8; None for a damaged JPEG, which Pillow then names."""
    try:
        shown: np.ndarray = simplejpeg.decode_jpeg(data, "GRAY" if mode == "L" else "RGB")
    except ValueError:
        return None
    return shown


def _open(data: bytes, where: str) -> Image.Image:
    """The first picture of a file, upright. Raises InputError as `peek` does."""
    try:
        return picture(data, where, "Repair the image, or set `damaged: exclude` to leave such rows out.")
    except Refused as error:
        raise InputError(where, expected=error.expected, found=error.found, fix=error.fix) from error
