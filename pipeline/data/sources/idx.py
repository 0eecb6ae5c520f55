"""The source `idx`: IDX files, in which MNIST and its relatives come."""

import contextlib
import functools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pipeline.base import files
from pipeline.base.errors import InputError
from pipeline.data.sources import arrays, paths
from pipeline.data.sources.arrays import Numbers
from pipeline.data.sources.source import Source

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_WHAT = "an IDX file"
_DEFLATED = 1032  # how much larger than its .gz a file is at most


def idx(images: str, labels: str | None = None) -> Source:
    """Rows of an IDX file (LeCun, Cortes & Burges, yann.lecun.com/exdb/mnist), labelled by a second one.

        ingest: {train: "idx('data/source/train-images-idx3-ubyte.gz', 'data/source/train-labels-idx1-ubyte.gz')"}

    Args:
        images: The file of inputs; it may be packed as .gz. Unsigned bytes of the shape (N, H, W), (N, H, W, 1) or (N, H, W, 3)
            are grey or colour images, other numbers arrays.
        labels: The file of labels: whole numbers of the shape (N,). None: the rows have none.

    Returns:
        The source.

    Raises:
        InputError: A file is no IDX file or damaged, the numbers of rows differ, or numbers are float64.
    """
    inputs = _numbers(paths.one(images, _WHAT))
    form = arrays.form_of(inputs, image=arrays.is_image(inputs))
    known = _numbers(paths.one(labels, _WHAT)) if labels is not None else None
    if known is not None:
        arrays.require_column(known, inputs.shape[0], names=False)
    chunks = functools.partial(arrays.chunks, inputs, known, None, form)
    held = tuple(files.resolved(each.path) for each in (inputs, known) if each is not None)
    return Source(form, chunks, held, inputs.size_bytes, unlabelled="" if known else "a file of labels")


def _numbers(path: Path) -> Numbers:
    """What the header says: two zeros, the type, the number of dimensions, and each dimension, big-endian."""
    with paths.reading(path, _WHAT), paths.opened(path) as file:
        head = file.read(4)
        zeros, code, count = struct.unpack(">HBB", head) if len(head) == 4 else (1, 0, 0)
        if zeros or code not in _DTYPES:
            fix = "Name an IDX file; it begins with two zeros and a type."
            raise InputError(f"source {path}", expected=_WHAT, found=f"a file that begins with {head!r}", fix=fix)
        sizes = file.read(4 * count)
        if len(sizes) < 4 * count:
            fix = "Copy the file anew: it is damaged."
            raise InputError(f"source {path}", expected=f"the sizes of {count} dimensions", found="the end", fix=fix)
    shape, start = struct.unpack(f">{count}I", sizes), 4 + 4 * count

    @contextlib.contextmanager
    def opened() -> Iterator[BinaryIO]:
        with paths.opened(path) as file:
            file.read(start)
            yield file

    numbers = Numbers(path, str(path), np.dtype(_DTYPES[code]), shape, opened)
    if shape and numbers.size_bytes > path.stat().st_size * (_DEFLATED if path.suffix == ".gz" else 1):
        # An index reads no inputs: without this, a damaged header makes one of billions of rows.
        raise arrays.other_size(numbers, "too few bytes")
    return numbers
