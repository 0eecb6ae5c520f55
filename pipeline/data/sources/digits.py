"""The source `digits`: scikit-learn's handwritten digits, which come with it."""

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from pipeline.base.errors import InputError
from pipeline.data.sources.source import CHUNK_ROWS, Chunk, Form, Source


def digits() -> Source:
    """1,797 handwritten digits (UCI, Alpaydin & Kaynak 1998), labelled: 8×8 grey pixels from 0 to 16, times 15, as PNG.

        ingest: {train: digits, test: 0.4, valid: 0.4}

    Raises InputError if scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        fix = 'Install it: pip install "softcache[digits]".'
        raise InputError("source digits", expected="scikit-learn", found="not installed", fix=fix) from error
    bunch = load_digits()
    pixels, labels = (bunch.images * 15).astype(np.uint8), bunch.target.tolist()

    def chunks(with_inputs: bool) -> Iterator[Chunk]:
        for start in range(0, len(labels), CHUNK_ROWS):
            rows = range(start, min(start + CHUNK_ROWS, len(labels)))
            ids = [f"digits-{row:06d}" for row in rows]
            inputs = [_png(pixels[row]) for row in rows] if with_inputs else []
            yield Chunk(ids, inputs, labels[start : start + CHUNK_ROWS], ids.__getitem__)

    return Source(Form("image"), chunks, (), 2 * pixels.nbytes, tuple(map(str, bunch.target_names)))


def _png(pixels: np.ndarray) -> bytes:
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, format="PNG")
    return held.getvalue()
