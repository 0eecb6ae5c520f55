"""Pixels: image files decoded to uint8, upright and of the wanted size.

JPEG, the bulk of what people have, is decoded by simplejpeg: the same library as Pillow's, libjpeg-turbo, and the same pixels,
but a sixth of the time for small images, and it lets other threads run. Pillow does the rest.
"""

import io
import warnings

import numpy as np
import simplejpeg
from PIL import Image

from pipeline.base.errors import InputError, first_line, lacks_memory
from pipeline.base.spec import versioned
from pipeline.data.inputs.resizing import resized

VERSIONS = {"pillow": 2}  # of decoders, resizing included: a decoder is part of what a teacher saw
DECODER = f"pillow {versioned(VERSIONS['pillow'])}"
CHANNELS = {"L": 1, "RGB": 3}
# Pixel modes that convert to 8 bits per channel without losing depth (16-bit and float images are refused).
_GREY, _COLOUR = {"1", "L"}, {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
_FORMATS = ("PNG", "JPEG", "WEBP")
_OF_ONE_PICTURE = ("JPEG", "MPO")  # what phones add to a photo in MPO, such as a map of depth, is no animation
_PNG, _PNG_DEPTH = b"\x89PNG\r\n\x1a\n", 24  # how a PNG begins, and where it says its bits per channel
_JPEG = b"\xff\xd8\xff"
_EXIF = b"Exif\0\0"  # may say how a JPEG is turned
_ORIENTATION = 0x0112  # the tag of EXIF (Exif 2.3, 4.6.4) that says it, by these numbers
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
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
    return ("L" if image.mode in _GREY else "RGB"), image.height, image.width


def decode(data: bytes, mode: str, where: str, size: tuple[int, int] | None = None, fit: str | None = None) -> np.ndarray:
    """The pixels of an encoded image: (height, width, channels) uint8.

    mode: L or RGB. size, fit: what to bring it to, see resizing.resized; without a fit it stays as it is.
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
    fix = "Repair the image, or set `damaged: exclude` to leave such rows out."
    limit = Image.MAX_IMAGE_PIXELS
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=_FORMATS)
        pictures = 1 if image.format in _OF_ONE_PICTURE else getattr(image, "n_frames", 1)
        if limit and (pixels := image.width * image.height) > limit:
            raise Image.DecompressionBombError(f"{image.height}×{image.width}, which is {pixels} pixels")
        image.load()
    except Image.DecompressionBombError as error:
        raise InputError(where, expected=f"an image of at most {limit:,} pixels", found=_reason(error), fix=fix) from error
    except Exception as error:  # Pillow's parsers raise many kinds for bad bytes
        if lacks_memory(error):
            raise
        found = f"{len(data):,} bytes that do not decode ({_reason(error)})"
        raise InputError(where, expected="a PNG, JPEG or WebP image", found=found, fix=fix) from error
    if pictures > 1:
        raise InputError(where, expected="one picture", found=f"an animation of {pictures}", fix=fix)
    if data.startswith(_PNG) and data[_PNG_DEPTH] > 8:
        found, fix = f"{data[_PNG_DEPTH]}", "Convert the image."  # Pillow cuts those in colour to 8 without a word
        raise InputError(where, expected="8 bits per channel", found=found, fix=fix)
    if image.mode not in _COLOUR:
        raise InputError(where, expected="8 bits per channel", found=f"pixel mode {image.mode}", fix="Convert the image.")
    turn = _turn(image)
    return image if turn is None else image.transpose(turn)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What makes an image upright, as its EXIF says. One whose EXIF cannot be read is taken as it is."""
    if "exif" not in image.info:
        return None
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception as error:  # of many kinds, as above
        if lacks_memory(error):
            raise
        return None
    return _TURNS.get(orientation) if isinstance(orientation, int) else None


def _reason(error: Exception) -> str:
    text = first_line(error)
    return "not an image file" if "cannot identify" in text else text
