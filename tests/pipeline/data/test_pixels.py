"""Pixels: images decode upright to the bytes that they hold, and what is no sound image of 8 bits is refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from conftest import png
from pipeline.base.errors import InputError
from pipeline.data.pixels import decode, peek
from softcache_export import resized

GREY = np.array([[0, 1, 2], [253, 254, 255]], np.uint8)
COLOUR = np.stack([GREY, GREY[::-1], 255 - GREY], 2)


def encoded(image: Image.Image, kind: str = "PNG", **settings) -> bytes:
    held = io.BytesIO()
    image.save(held, format=kind, **settings)
    return held.getvalue()


def refuse(data: bytes, *parts: str) -> None:
    with pytest.raises(InputError) as caught:
        peek(data, "row 3")
    for part in ("row 3: expected ", *parts):
        assert part in str(caught.value)


def test_grey_pixels_are_the_bytes_of_the_image():
    assert peek(png(GREY), "it") == ("L", 2, 3)
    found = decode(png(GREY), "L", "it")
    assert (found.dtype, found.shape, found[..., 0].tolist()) == (np.uint8, (2, 3, 1), GREY.tolist())


def test_colours_come_last():
    assert peek(png(COLOUR), "it") == ("RGB", 2, 3)
    found = decode(png(COLOUR), "RGB", "it")
    assert (found.dtype, found.tolist()) == (np.uint8, COLOUR.tolist())


def test_grey_as_a_colour_is_three_times_the_same():
    assert decode(png(GREY), "RGB", "it").tolist() == np.repeat(GREY[..., None], 3, axis=2).tolist()


def test_a_colour_as_grey_is_its_luma():
    """ITU-R 601-2: 299/1000 of red, 587/1000 of green, 114/1000 of blue."""
    expected = COLOUR.astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(decode(png(COLOUR), "L", "it")[..., 0] - expected).max() <= 1


@pytest.mark.parametrize(
    ("mode", "seen", "pixels"),
    [
        ("1", "L", [[[0], [255]]]),
        ("L", "L", [[[10], [200]]]),
        ("LA", "RGB", [[[10] * 3, [200] * 3]]),
        ("P", "RGB", [[[10] * 3, [200] * 3]]),
        ("RGBA", "RGB", [[[10] * 3, [200] * 3]]),
    ],
)
def test_modes_that_lose_nothing(mode, seen, pixels):
    image = Image.fromarray(np.array([[10, 200]], np.uint8)).convert(mode)
    data = encoded(image)
    assert peek(data, "it") == (seen, 1, 2)
    assert decode(data, seen, "it").tolist() == pixels


def test_a_jpeg_of_one_grey_is_that_grey():
    data = encoded(Image.new("L", (8, 8), 77), "JPEG", quality=95)
    assert peek(data, "it") == ("L", 8, 8)
    assert np.unique(decode(data, "L", "it")).tolist() == [77]


def gradient(height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8; no two corners are alike."""
    down, right = np.mgrid[0:height, 0:width]
    return np.stack([down * 255 // height, right * 255 // width, 255 - (down + right) * 4], 2).astype(np.uint8)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("shape", [(8, 8), (17, 33), (1, 1), (40, 3)])
@pytest.mark.parametrize("settings", [{}, {"subsampling": 0}, {"progressive": True}, {"quality": 30}], ids=str)
def test_a_jpeg_is_what_pillow_makes_of_it(mode, shape, settings):
    """Of all sizes, also those that its blocks of 8 and 16 do not fill; whichever library decodes it."""
    for kind in ("L", "RGB"):
        image = Image.fromarray(gradient(*shape)).convert(kind)
        data = encoded(image, "JPEG", **settings)
        assert peek(data, "it") == (kind, *shape)
        expected = np.asarray(Image.open(io.BytesIO(data)).convert(mode)).reshape(*shape, -1)
        assert (decode(data, mode, "it") == expected).all()


def test_a_jpeg_of_four_inks():
    image = Image.fromarray(gradient(9, 7)).convert("CMYK")
    data = encoded(image, "JPEG")
    assert peek(data, "it") == ("RGB", 9, 7)
    assert (decode(data, "RGB", "it") == np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))).all()


def test_a_webp_without_loss_is_its_pixels():
    shown = gradient(5, 9)
    data = encoded(Image.fromarray(shown), "WEBP", lossless=True)
    assert peek(data, "it") == ("RGB", 5, 9)
    assert (decode(data, "RGB", "it") == shown).all()


UPRIGHT = {  # EXIF's orientation, by what the camera did to the picture: Exif 2.3, tag 274
    1: lambda shown: shown, 2: np.fliplr, 3: lambda shown: np.rot90(shown, 2), 4: np.flipud,
    5: lambda shown: shown.swapaxes(0, 1), 6: lambda shown: np.rot90(shown, 1),
    7: lambda shown: np.rot90(shown, 2).swapaxes(0, 1), 8: lambda shown: np.rot90(shown, -1),
}  # fmt: skip


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(("kind", "settings"), [("PNG", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 100})])
def test_a_turned_image_is_upright(orientation, kind, settings):
    shown = gradient(16, 24)
    stored = np.ascontiguousarray(UPRIGHT[orientation](shown))
    exif = Image.Exif()
    exif[274] = orientation
    data = encoded(Image.fromarray(stored), kind, exif=exif, **settings)
    assert peek(data, "it") == ("RGB", 16, 24)
    away = np.abs(decode(data, "RGB", "it").astype(int) - shown)
    assert away.max() <= (24 if kind == "JPEG" else 0)
    assert away.mean() < 4, "JPEG loses a little; every other turn is far off"
    assert np.abs(shown[::-1].astype(int) - shown).mean() > 20


def test_damaged_exif_leaves_an_image_as_it_is():
    """Every byte is damaged in turn, and the end is cut off: it may still tell how the image is turned, or not."""
    exif = Image.Exif()
    for tag, value in {271: "a camera", 274: 6, 282: 72.0, 273: 8, 306: "2026:01:01 00:00:00"}.items():
        exif[tag] = value
    sound = exif.tobytes()
    damages = [sound[:at] + bytes([byte]) + sound[at + 1 :] for at in range(6, len(sound)) for byte in (0, 1, 13, 255)]
    shown, seen = gradient(16, 24), set()
    for damaged in [*damages, *(sound[:stop] for stop in range(6, len(sound)))]:
        data = encoded(Image.fromarray(shown), exif=damaged)
        mode, *size = peek(data, "it")
        seen.add(tuple(size))
        expected = {(16, 24): shown, (24, 16): np.rot90(shown, -1)}[tuple(size)]
        assert (decode(data, mode, "it") == expected).all()
    assert seen == {(16, 24), (24, 16)}


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM"])
def test_other_formats_are_none(kind):
    refuse(encoded(Image.new("L", (8, 8)), kind), "a PNG, JPEG or WebP image", "bytes that do not decode (not an image file)")


@pytest.mark.parametrize("data", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_what_is_no_image(data):
    refuse(data, "a PNG, JPEG or WebP image", f"found {len(data)} bytes that do not decode")


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_truncated_image(kind, keep):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24), dtype=np.uint8)
    data = encoded(Image.fromarray(pixels), kind)
    refuse(data[: int(len(data) * keep)], "a PNG, JPEG or WebP image")


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_an_animation(kind):
    frames = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (0, 90, 180)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
    refuse(data, "one picture, found an animation of 3")


@pytest.mark.parametrize(("colours", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_a_png_of_sixteen_bits(colours, channels):
    """Pillow opens those in colour, and with alpha, as images of 8 bits. It writes none, so this one is made by hand."""
    sizes = struct.pack(">IIBBBBB", 6, 6, 16, colours, 0, 0, 0)
    rows = (b"\0" + bytes(range(12 * channels))) * 6  # each after the number of its filter
    data = b"\x89PNG\r\n\x1a\n"
    for name, held in ((b"IHDR", sizes), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        data += struct.pack(">I", len(held)) + name + held + struct.pack(">I", zlib.crc32(name + held))
    assert Image.open(io.BytesIO(data)).size == (6, 6), "else sound"
    refuse(data, "8 bits per channel, found 16")


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0MM\0*\0\0\0\x08\0\0"], ids=["plain", "exif"])
def test_of_the_pictures_in_a_photo_the_first_counts(exif):
    """Phones add a second one to a JPEG (CIPA DC-007, Multi-Picture Format), such as a map of depth."""
    data = encoded(Image.fromarray(gradient(8, 16)), "MPO", save_all=True, append_images=[Image.new("RGB", (4, 4))], exif=exif)
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert peek(data, "it") == ("RGB", 8, 16)
    alone = encoded(Image.fromarray(gradient(8, 16)), "JPEG")
    assert (decode(data, "RGB", "it") == decode(alone, "RGB", "it")).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(("limit", "holds"), [(1600, True), (1599, False), (700, False)])
def test_a_decompression_bomb(monkeypatch, kind, limit, holds):
    """Pillow warns of more pixels than its limit, and raises at twice as many: here both are refused."""
    mode = "RGB" if kind == "WEBP" else "L"
    data = encoded(Image.new(mode, (40, 40)), kind)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    if holds:
        assert peek(data, "it") == (mode, 40, 40)
    else:
        refuse(data, f"an image of at most {limit:,} pixels", "1600 pixels")


def test_a_bomb_is_refused_whatever_warnings_are_shown(monkeypatch):
    """Filters of warnings are the process's: another thread may set them back at any time."""
    data = encoded(Image.new("L", (40, 40)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1599)
    monkeypatch.setattr("warnings.simplefilter", lambda *given, **more: None)
    refuse(data, "an image of at most 1,599 pixels", "1600 pixels")


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_resizing_comes_after_decoding_and_turning(fit):
    """An image that has the size stays as it is; of another one, the pixels are those of softcache_export.resized."""
    shown, exif = gradient(12, 20), Image.Exif()
    exif[274] = 6
    turned = encoded(Image.fromarray(np.ascontiguousarray(np.rot90(shown, 1))), exif=exif)
    assert (decode(turned, "RGB", "it", (12, 20), fit) == shown).all()
    assert (decode(turned, "RGB", "it", (5, 6), None) == shown).all(), "without a fit no size is asked for"
    for mode in ("L", "RGB"):
        image = Image.fromarray(shown).convert(mode)
        expected = np.asarray(resized(image, (5, 6), fit)).reshape(5, 6, -1)
        assert (decode(turned, mode, "it", (5, 6), fit) == expected).all()
