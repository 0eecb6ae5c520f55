"""Pixels: images decode to the bytes that they hold, and what is no sound image of 8 bits is refused."""

import io

import numpy as np
import pytest
from PIL import Image

from conftest import png
from pipeline.base.errors import InputError
from pipeline.data.pixels import decode, peek

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
    assert (found.dtype, found.tolist()) == (np.uint8, [GREY.tolist()])


def test_colours_come_first():
    assert peek(png(COLOUR), "it") == ("RGB", 2, 3)
    found = decode(png(COLOUR), "RGB", "it")
    assert (found.shape, found.flags.c_contiguous) == ((3, 2, 3), True)
    assert [found[channel].tolist() for channel in range(3)] == [COLOUR[..., channel].tolist() for channel in range(3)]


def test_grey_as_a_colour_is_three_times_the_same():
    assert decode(png(GREY), "RGB", "it").tolist() == [GREY.tolist()] * 3


def test_a_colour_as_grey_is_its_luma():
    """ITU-R 601-2: 299/1000 of red, 587/1000 of green, 114/1000 of blue."""
    expected = COLOUR.astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(decode(png(COLOUR), "L", "it")[0] - expected).max() <= 1


@pytest.mark.parametrize(
    ("mode", "seen", "pixels"),
    [
        ("1", "L", [[[0, 255]]]),
        ("L", "L", [[[10, 200]]]),
        ("LA", "RGB", [[[10, 200]]] * 3),
        ("P", "RGB", [[[10, 200]]] * 3),
        ("RGBA", "RGB", [[[10, 200]]] * 3),
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


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP"])
def test_other_formats_are_none(kind):
    refuse(encoded(Image.new("L", (8, 8)), kind), "a PNG or JPEG image", "bytes that do not decode (not an image file)")


@pytest.mark.parametrize("data", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_what_is_no_image(data):
    refuse(data, "a PNG or JPEG image", f"found {len(data)} bytes that do not decode")


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_truncated_image(kind, keep):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24), dtype=np.uint8)
    data = encoded(Image.fromarray(pixels), kind)
    refuse(data[: int(len(data) * keep)], "a PNG or JPEG image")


def test_an_image_of_sixteen_bits():
    refuse(encoded(Image.fromarray(np.full((6, 6), 40_000, np.uint16))), "8 bits per channel, found pixel mode I;16")


@pytest.mark.parametrize(("limit", "holds"), [(1600, True), (1599, False), (700, False)])
def test_a_decompression_bomb(monkeypatch, limit, holds):
    """Pillow warns of more pixels than its limit, and raises at twice as many: here both are refused."""
    data = png(np.zeros((40, 40), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    if holds:
        assert peek(data, "it") == ("L", 40, 40)
    else:
        refuse(data, f"an image of at most {limit:,} pixels", "1600 pixels")
