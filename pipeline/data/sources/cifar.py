"""The source `cifar`: the binary batches of CIFAR-10 and CIFAR-100."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline.base import files
from pipeline.base.errors import InputError
from pipeline.data.sources import paths
from pipeline.data.sources.png import png
from pipeline.data.sources.source import CHUNK_ROWS, Chunk, Form, Source

_PIXELS = 3 * 32 * 32
_WHAT = "a file of CIFAR's binary version"


def cifar(path: str | list[str], coarse: bool = False) -> Source:
    """Colour images of 32×32 pixels of CIFAR-10 or CIFAR-100 (Krizhevsky 2009), labelled, as PNG.

        ingest: {train: "cifar('data/source/cifar-10-batches-bin/data_batch_*.bin')"}

    A record is 3,073 bytes in CIFAR-10: label, then all red, all green and all blue values. In CIFAR-100 it is 3,074: coarse
    label, fine label, values.

    Args:
        path: A file, a folder or a glob of files that end in .bin, or a list of such; sorted by name.
        coarse: Of CIFAR-100: whether labels are those of the 20 superclasses, and not of the 100 classes.

    Returns:
        The source. Class names are those in batches.meta.txt, fine_label_names.txt or coarse_label_names.txt, if that file
        lies beside the first.

    Raises:
        InputError: A file is not made of such records, or files are of both data sets.
    """
    if not isinstance(coarse, bool):
        raise InputError("source cifar, setting coarse", expected="True or False", found=repr(coarse), fix="Correct it.")
    found = paths.several(path, ".bin", _WHAT)
    labels = {_labels(file) for file in found}
    if len(labels) > 1:
        fix = "Name files of one data set."
        raise InputError(f"source {path}", expected="CIFAR-10 or CIFAR-100", found="files of both", fix=fix)
    count = labels.pop()
    if coarse and count == 1:
        fix = "Leave coarse away."
        raise InputError(f"source {path}", expected="CIFAR-100, for coarse labels", found="CIFAR-10", fix=fix)
    names = "batches.meta.txt" if count == 1 else "coarse_label_names.txt" if coarse else "fine_label_names.txt"
    chunks = functools.partial(_chunks, found, count, 0 if coarse else count - 1)
    size = sum(file.stat().st_size for file in found)
    return Source(Form("image"), chunks, tuple(map(files.resolved, found)), size, _class_names(found[0].parent / names))


def _labels(path: Path) -> int:
    """How many labels a record has, by the size of the file."""
    size = path.stat().st_size
    fitting = [count for count in (1, 2) if size and size % (count + _PIXELS) == 0]
    if not fitting:
        found, fix = f"{size:,} bytes", "Copy the file anew, or name another."
        raise InputError(f"source {path}", expected=f"{_WHAT}: records of 3,073 or 3,074 bytes", found=found, fix=fix)
    return fitting[0]


def _class_names(path: Path) -> tuple[str, ...] | None:
    if not path.is_file():
        return None
    with paths.reading(path, "class names in UTF-8, one a line"):
        return tuple(name for line in path.read_text(encoding="utf-8").splitlines() if (name := line.strip()))


def _chunks(found: Sequence[Path], count: int, label: int, with_inputs: bool) -> Iterator[Chunk]:
    size = count + _PIXELS
    for path in found:
        with paths.reading(path, _WHAT), path.open("rb") as file:
            start = 0
            while data := file.read(CHUNK_ROWS * size):
                records = np.frombuffer(data, np.uint8).reshape(-1, size)
                planes = records[:, count:].reshape(-1, 3, 32, 32) if with_inputs else records[:0]
                inputs = [png(pixels.transpose(1, 2, 0)) for pixels in planes]
                yield Chunk(None, inputs, records[:, label].tolist(), functools.partial(_place, path, start))
                start += len(records)


def _place(path: Path, start: int, row: int) -> str:
    return f"{path}, record {start + row}"
