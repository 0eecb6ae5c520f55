"""The sources `npz` and `npy`: NumPy's files, read a chunk at a time and never unpickled."""

import contextlib
import functools
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from tokenize import TokenError
from typing import BinaryIO, cast

import numpy as np

from pipeline.base import files
from pipeline.base.errors import InputError, first_line
from pipeline.data.sources import arrays, columns, paths
from pipeline.data.sources.arrays import Numbers
from pipeline.data.sources.source import Source

_NPZ, _NPY = "an .npz file", "an .npy file"


def npz(path: str, input: str = "x", label: str | None = None, id: str | None = None, kind: str | None = None) -> Source:
    """Rows of arrays in an .npz file, as np.savez writes it.

        ingest: {train: "npz('data/source/mnist.npz', input='x_train', label='y_train', kind='image')"}

    Args:
        path: The file.
        input: The name of the inputs: an array (N, …) of whole numbers, float32 or float16, in C order.
        label: The name of the labels: whole numbers or strings of the shape (N,). None: `label`, `labels` or `y`, if there.
        id: The name of the ids: whole numbers or strings of the shape (N,). None: `id`, if there.
        kind: `image`: uint8 of the shape (N, H, W), (N, H, W, 1) or (N, H, W, 3) are grey or colour images, and become PNG.
            None: rows are arrays.

    Returns:
        The source.

    Raises:
        InputError: The file is no .npz file or damaged, a name is missing, or an array is of another type or shape.
    """
    columns.require_names("npz", input=input, label=label, id=id)
    file, image = paths.one(path, _NPZ), _is_image("npz", kind)
    sizes = members(file)
    there, what = list(sizes), f"source {file}"
    inputs = array(file, columns.input_of(there, input, what), sizes)
    form = arrays.form_of(inputs, image=image)
    labels, ids = (
        None if name is None else array(file, name, sizes)
        for name in (columns.label_of(there, label, what), columns.id_of(there, id, what))
    )
    for each in (labels, ids):
        if each is not None:
            arrays.require_column(each, inputs.shape[0], names=True)
    chunks = functools.partial(arrays.chunks, inputs, labels, ids, form)
    lacks = "" if labels else columns.lacking(None)
    return Source(form, chunks, (files.resolved(file),), inputs.size_bytes, unlabelled=lacks)


def members(path: Path) -> dict[str, int]:
    """The size in bytes, header included, of each array in an .npz file, by name. Raises InputError for another file."""
    with paths.reading(path, _NPZ), _zip(path) as held:
        return {each.filename.removesuffix(".npy"): each.file_size for each in held.infolist()}


def array(path: Path, name: str, sizes: Mapping[str, int]) -> Numbers:
    """An array of an .npz file. sizes: as `members` gives them. Raises InputError for objects, records and Fortran order."""
    return _numbers(path, f"{path}, array {name}", functools.partial(_member, path, name), sizes[name])


def npy(path: str, kind: str | None = None) -> Source:
    """Rows of one array, as np.save writes it, without labels.

        ingest: {transfer: ["npy('data/source/frames.npy')"]}

    Args:
        path: The file: an array (N, …) of whole numbers, float32 or float16, in C order.
        kind: As for `npz`.

    Returns:
        The source.

    Raises:
        InputError: The file is no .npy file or damaged, or the array is of another type or shape.
    """
    file, image = paths.one(path, _NPY), _is_image("npy", kind)
    inputs = _numbers(file, str(file), lambda: file.open("rb"), file.stat().st_size)
    form = arrays.form_of(inputs, image=image)
    chunks = functools.partial(arrays.chunks, inputs, None, None, form)
    return Source(form, chunks, (files.resolved(file),), inputs.size_bytes, unlabelled="labels: an .npz file can hold them")


def _is_image(source: str, kind: object) -> bool:
    if kind not in (None, "image"):
        fix = "Correct the setting."
        raise InputError(f"source {source}, setting kind", expected="'image' or None", found=repr(kind), fix=fix)
    return kind == "image"


def _numbers(path: Path, name: str, start: Callable[[], AbstractContextManager[BinaryIO]], size: int) -> Numbers:
    """What the header of an array says. size: of header and numbers, in bytes.

    Raises InputError for objects, which are pickled, for records, and for numbers that are not in C order.
    """
    with paths.reading(path, "arrays of NumPy"), start() as file:
        shape, is_fortran, dtype = _header(file)
        header = file.tell()
    fix = "Save it as x = np.ascontiguousarray(x)."
    if dtype.hasobject or dtype.names:
        found, fix = "Python objects, which are pickled" if dtype.hasobject else "records", "Save numbers or strings."
        raise InputError(name, expected="numbers or strings", found=found, fix=fix)
    if is_fortran:
        raise InputError(name, expected="an array in C order", found="Fortran order", fix=fix)

    @contextlib.contextmanager
    def opened() -> Iterator[BinaryIO]:
        with start() as file:
            file.read(header)
            yield file

    numbers = Numbers(path, name, dtype, shape, opened)
    if shape and header + numbers.size_bytes != size:
        expected, fix = f"{numbers.size_bytes:,} bytes of numbers", "Copy the file anew: it is damaged."
        raise InputError(name, expected=expected, found=f"{size - header:,}", fix=fix)
    return numbers


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran order, and dtype (NumPy's format, NEP 1). Raises ValueError for another kind of file."""
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(file)
        if version == (2, 0):
            return np.lib.format.read_array_header_2_0(file)
    except (SyntaxError, TypeError, TokenError) as error:  # from damaged headers, which are written in Python
        raise ValueError(first_line(error)) from error
    raise ValueError(f"an array of format {version}")


def _zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError) as error:  # damaged, or of a version that zipfile does not know
        raise ValueError(str(error)) from error


@contextlib.contextmanager
def _member(path: Path, name: str) -> Iterator[BinaryIO]:
    """An array in the file, open at its header."""
    try:
        with _zip(path) as held, held.open(f"{name}.npy") as file:
            yield cast(BinaryIO, file)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:  # damaged, encrypted, oddly packed
        raise ValueError(str(error)) from error
