"""PNG: what Pillow reads out of it, and the bytes themselves."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.data.sources.png import png


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (1, 1), (300, 301), (200, 203, 3)])
def test_pillow_reads_the_pixels(shape):
    """The larger ones take several blocks."""
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    read = Image.open(io.BytesIO(png(pixels)), formats=("PNG",))
    assert read.mode == ("RGB" if len(shape) == 3 else "L")
    np.testing.assert_array_equal(np.asarray(read), pixels)


def test_one_channel_is_grey():
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert png(pixels[:, :, None]) == png(pixels)


def test_memory_in_another_order():
    planes = np.arange(24, dtype=np.uint8).reshape(3, 2, 4)
    assert png(planes.transpose(1, 2, 0)) == png(np.ascontiguousarray(planes.transpose(1, 2, 0)))


def test_the_bytes_of_one_pixel():
    """By hand, from RFC 1950, RFC 1951 and ISO/IEC 15948; the sums from zlib's published algorithms, below."""
    raw = b"\x00\x07"  # no filter, then the pixel
    a, b = 1, 0
    for byte in raw:
        a = (a + byte) % 65521
        b = (b + a) % 65521
    stored = b"\x78\x01\x01\x02\x00\xfd\xff" + raw + (b << 16 | a).to_bytes(4, "big")

    def part(name: bytes, data: bytes) -> bytes:
        crc = 0xFFFFFFFF
        for byte in name + data:
            crc ^= byte
            for _ in range(8):
                crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
        return len(data).to_bytes(4, "big") + name + data + (crc ^ 0xFFFFFFFF).to_bytes(4, "big")

    header = b"\x00\x00\x00\x01" * 2 + b"\x08\x00\x00\x00\x00"
    expected = b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", stored) + part(b"IEND", b"")
    assert png(np.array([[7]], np.uint8)) == expected
