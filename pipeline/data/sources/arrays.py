"""Rows of numbers in a binary file: read in order, a chunk at a time."""

import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pipeline.base.errors import InputError
from pipeline.data.inputs.form import DTYPES, Form
from pipeline.data.sources import paths
from pipeline.data.sources.png import png
from pipeline.data.sources.source import Chunk, Label, rows_that_fit, without_rows


@dataclass(frozen=True)
class Numbers:
    """Numbers of one dtype and shape (N, …), in C order.

    path: the file. name: what it is called in messages. opened: opens the file at the first number.
    """

    path: Path
    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    opened: Callable[[], AbstractContextManager[BinaryIO]]

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=object))

    @property
    def size_bytes(self) -> int:
        """Bytes of all rows."""
        return self.row_bytes * self.shape[0]

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """Arrays (n, …) of up to `rows` rows, in order. Raises InputError for a file that is shorter or longer than it says."""
        with paths.reading(self.path, "numbers"), self.opened() as file:
            for start in range(0, self.shape[0], rows):
                count = min(rows, self.shape[0] - start)
                data = file.read(count * self.row_bytes)
                if len(data) < count * self.row_bytes:
                    raise other_size(self, f"an end in row {start + len(data) // self.row_bytes:,}")
                yield np.frombuffer(data, self.dtype).reshape(count, *self.shape[1:])
            if file.read(1):
                raise other_size(self, "more bytes")


def other_size(numbers: Numbers, found: str) -> InputError:
    """The error for a file that does not hold as many rows as it says."""
    fix = "Copy the file anew: it is damaged."
    return InputError(numbers.name, expected=f"{numbers.shape[0]:,} rows", found=found, fix=fix)


def form_of(numbers: Numbers, *, image: bool) -> Form:
    """What the rows are: images if they are to be; else arrays.

    Raises InputError for images of another type than uint8 or another shape than (N, H, W), (N, H, W, 1) or (N, H, W, 3), and
    for numbers of a type that arrays cannot have, or without a shape.
    """
    shape, dtype = numbers.shape, numbers.dtype
    found = f"{dtype.name}, ({', '.join(map(str, shape))})"
    if not shape or shape[0] == 0:
        raise without_rows(numbers.name)
    if image:
        if not is_image(numbers):
            expected = "images as uint8 of the shape (N, H, W), (N, H, W, 1) or (N, H, W, 3)"
            raise InputError(numbers.name, expected=expected, found=found, fix="Convert them, or read them as arrays.")
        return Form("image")
    if dtype.name not in DTYPES:
        fix = "Save them as float32." if dtype.kind == "f" else "Save numbers of such a type."
        raise InputError(numbers.name, expected=f"numbers of {', '.join(DTYPES)}", found=found, fix=fix)
    if len(shape) < 2 or min(shape) < 1:
        fix = "Give every row a shape: one number is (N, 1)."
        raise InputError(numbers.name, expected="an array (N, …) of rows that are arrays", found=found, fix=fix)
    return Form("array", dtype.name, shape[1:])


def is_image(numbers: Numbers) -> bool:
    """Whether the rows can be images: uint8 of the shape (N, H, W), (N, H, W, 1) or (N, H, W, 3)."""
    shape = numbers.shape
    return numbers.dtype == np.uint8 and min(shape) > 0 and (len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3)))


def require_column(numbers: Numbers, rows: int, *, names: bool) -> None:
    """Raise InputError unless this holds one whole number for each row; or, if names may be, one string."""
    found = f"{numbers.dtype.name}, ({', '.join(map(str, numbers.shape))})"
    if numbers.dtype.kind not in ("iuU" if names else "iu") or numbers.shape != (rows,):
        expected = f"whole numbers{' or strings' if names else ''} of the shape ({rows},)"
        raise InputError(numbers.name, expected=expected, found=found, fix="Give one for each row.")


def chunks(inputs: Numbers, labels: Numbers | None, ids: Numbers | None, form: Form, with_inputs: bool) -> Iterator[Chunk]:
    """Rows whose inputs, labels and ids are numbers of their own. Images become PNG."""
    rows = rows_that_fit(inputs.row_bytes)
    starts = range(0, inputs.shape[0], rows)
    columns = (
        each.blocks(rows) if each is not None else itertools.repeat(None, len(starts))
        for each in (ids, labels, inputs if with_inputs else None)
    )  # fmt: skip
    for start, names, numbers, block in zip(starts, *columns, strict=True):
        count = min(rows, inputs.shape[0] - start)
        known: list[Label] = [None] * count if numbers is None else numbers.tolist()
        yield Chunk(
            None if names is None else [str(name) for name in names.tolist()],
            () if block is None else encoded(block, form),
            known,
            functools.partial(_place, inputs.name, start),
        )


def _place(name: str, start: int, row: int) -> str:
    return f"{name}, row {start + row}"


def encoded(block: np.ndarray, form: Form) -> list[bytes]:
    """Rows (n, …) as a chunk holds them: numbers in little-endian, or PNG."""
    if form.kind == "image":
        return [png(pixels) for pixels in block]
    plain = block.astype(block.dtype.newbyteorder("<"), copy=False)
    return [row.tobytes() for row in plain]
