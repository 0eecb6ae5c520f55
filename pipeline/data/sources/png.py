"""PNG: pixels as an image file, the same bytes on every machine."""

import struct
import zlib

import numpy as np

_LARGEST = 65535  # bytes of a stored block


def png(pixels: np.ndarray) -> bytes:
    """Pixels as a PNG file (ISO/IEC 15948), stored and not compressed: what zlib makes of them depends on its version.

    pixels: (H, W) or (H, W, 1) uint8 for grey, (H, W, 3) for colour.
    """
    height, width = pixels.shape[:2]
    colour = 2 if pixels.shape[2:] == (3,) else 0
    lines = np.zeros((height, 1 + pixels.size // height), np.uint8)  # every line begins with its filter, which is none
    lines[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _part(b"IHDR", header) + _part(b"IDAT", _stored(lines.tobytes())) + _part(b"IEND", b"")


def _part(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))


def _stored(data: bytes) -> bytes:
    """A zlib stream (RFC 1950) of stored blocks (RFC 1951, 3.2.4)."""
    blocks = []
    for start in range(0, len(data), _LARGEST):
        block = data[start : start + _LARGEST]
        last = start + _LARGEST >= len(data)
        blocks += [struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF), block]
    return b"".join((b"\x78\x01", *blocks, struct.pack(">I", zlib.adler32(data))))
