"""The sources that there are, and the one that a text of params.yaml stands for."""

import functools
import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from pipeline.base import plugins, spec
from pipeline.base.errors import InputError
from pipeline.base.spec import Spec
from pipeline.data.sources.cifar import cifar
from pipeline.data.sources.csv import csv
from pipeline.data.sources.digits import digits
from pipeline.data.sources.folder import folder
from pipeline.data.sources.idx import idx
from pipeline.data.sources.jsonl import jsonl
from pipeline.data.sources.npz import npy, npz
from pipeline.data.sources.parquet import parquet
from pipeline.data.sources.source import Chunk, Label, Source, without_rows

SOURCES: dict[str, Callable[..., Source]] = {
    "digits": digits, "parquet": parquet, "folder": folder, "csv": csv, "jsonl": jsonl, "idx": idx, "cifar": cifar, "npz": npz,
    "npy": npy,
}  # fmt: skip
VERSIONS = {"digits": 1, "parquet": 1, "folder": 1, "csv": 1, "jsonl": 1, "idx": 1, "cifar": 1, "npz": 1, "npy": 1}

_ENDINGS = {
    ".parquet": "parquet", ".csv": "csv", ".csv.gz": "csv", ".jsonl": "jsonl", ".jsonl.gz": "jsonl", ".npz": "npz",
    ".npy": "npy", ".tsv": "csv", ".tsv.gz": "csv",
}  # fmt: skip
_TABS = (".tsv", ".tsv.gz")
_IMAGES = (".png", ".jpg", ".jpeg", ".webp")
_INT64 = range(-(2**63), 2**63)


def parse_source(text: str, role: str) -> Source:
    """The source that a text stands for, opened: headers are read, rows are not.

    Args:
        text: A spec of a name in SOURCES, such as `csv('x.csv', label='intent')`; of a plug-in, such as `my_sources:spoken()`,
            whose function returns a Source; or a path, which stands for the source that its ending, or what lies there, tells:
            a file .parquet, .csv, .tsv, .jsonl, .npz or .npy, in any case, a glob or a folder of Parquet files, or a folder of
            images.
        role: `train`, `valid`, `test` or `transfer`, for messages; only `transfer` may lack labels.

    Returns:
        The source, with text and spec. Its chunks are checked as they come: ids are strings, labels are numbers or names, not
        both, and there is a row at least. A label of -1 is an unknown one, as in Hugging Face datasets.

    Raises:
        InputError: There is no such source, a setting does not fit, a file is wrong, or a plug-in raises anything.
    """
    read = parse_spec(text)
    found = read()
    what = f"{role} source {text}"
    if not isinstance(found, Source):
        fix = "Return a pipeline.data.sources.source.Source."
        raise InputError(f"plug-in {read.text}", expected="a Source", found=type(found).__name__, fix=fix)
    if found.classes is not None:
        _require_class_names(found.classes, what)
    if not found.labelled and role != "transfer":
        fix = "Name what holds the labels; only the transfer set may lack them."
        raise InputError(what, expected=f"labels ({found.unlabelled})", found="none", fix=fix)
    given, parts = found.chunks, found.parts
    if read.source is not None:  # of a plug-in, which other processes do not know
        given, parts = functools.partial(_guarded, read, given), ()
    return replace(
        found, text=text, spec=read, chunks=functools.partial(_checked, given, what),
        parts=tuple(replace(part, chunks=functools.partial(_checked, part.chunks, what)) for part in parts),
    )  # fmt: skip


def parse_spec(text: str) -> Spec:
    """The spec that a text stands for, which a path has too. Nothing is read but names of files."""
    if not isinstance(text, str) or not text.strip():
        fix = "Write a path or a source such as digits."
        raise InputError("source", expected="a text", found=repr(text), fix=fix)
    head = text.partition("(")[0].strip()
    is_call = head in SOURCES and (text.strip() == head or text.rstrip().endswith(")"))
    if is_call or is_plug_in(text):
        return spec.parse(text, SOURCES, VERSIONS)
    more = ", delimiter='\\t'" if text.lower().endswith(_TABS) and not os.path.isdir(text) else ""
    return spec.parse(f"{_guess(text)}({text!r}{more})", SOURCES, VERSIONS)


def is_plug_in(text: str) -> bool:
    """Whether a text names a function of the user's, such as `my_sources:spoken()`."""
    head = text.partition("(")[0].strip()
    return ":" in head and all(part.replace(".", "_").isidentifier() for part in head.split(":"))


# ---------------------------------------------------------------- paths


def _guess(path: str) -> str:
    """The source that reads a path."""
    if os.path.isdir(path):
        return _of_folder(path)
    for ending, name in _ENDINGS.items():
        if path.lower().endswith(ending):
            return name
    if "\0" not in path and os.path.isfile(path):
        with open(path, "rb") as file:
            if file.read(4) == b"PAR1":
                return "parquet"
    kinds = f"a folder, or a file that ends in {', '.join(_ENDINGS)}"
    known = ", ".join(f"{name}(…)" for name in SOURCES)
    is_there = os.path.exists(path) or bool(glob.glob(path))
    found = "a file of another name" if is_there else "no such file"
    fix = f"Correct the path, or write one of {known}."
    raise InputError(f"source {path}", expected=kinds, found=found, fix=fix)


def _of_folder(path: str) -> str:
    """`parquet` where Parquet files lie; `folder` where folders or images do."""
    with os.scandir(path) as entries:
        seen = [entry for entry in entries if not entry.name.startswith(".")]
    if any(entry.name.lower().endswith(".parquet") for entry in seen):
        return "parquet"
    if any(entry.is_dir() or entry.name.lower().endswith(_IMAGES) for entry in seen):
        return "folder"
    found, fix = "neither", "Correct the path, or say what the files are, such as cifar(…)."
    raise InputError(f"source {path}", expected="a folder with Parquet files, class folders or images", found=found, fix=fix)


# ---------------------------------------------------------------- checks


def _require_class_names(names: tuple[str, ...], what: str) -> None:
    listed = isinstance(names, tuple) and all(isinstance(name, str) and name and _is_utf8(name) for name in names)
    if not listed or len(set(names)) < len(names):
        fix = "Correct the names where they are written down, or remove them to number the classes."
        found = repr(list(names) if isinstance(names, tuple) else names)[:80]
        raise InputError(f"{what}, class names", expected="a list of different strings", found=found, fix=fix)


def _guarded(read: Spec, chunks: Callable[[bool], Iterator[Chunk]], with_inputs: bool) -> Iterator[Chunk]:
    """The chunks of a plug-in; whatever it raises becomes an InputError."""
    assert read.source is not None
    rows, end = plugins.call(read.source, read.text, lambda: iter(chunks(with_inputs))), object()
    while (chunk := plugins.call(read.source, read.text, next, rows, end)) is not end:
        if not isinstance(chunk, Chunk):
            fix = "Yield pipeline.data.sources.source.Chunk."
            raise InputError(f"plug-in {read.text}", expected="chunks", found=type(chunk).__name__, fix=fix)
        yield chunk


def _checked(chunks: Callable[[bool], Iterator[Chunk]], what: str, with_inputs: bool) -> Iterator[Chunk]:
    """Chunks that are as Chunk says. what: the source, for messages."""
    kinds: set[type] = set()
    with_ids: set[bool] = set()
    for chunk in chunks(with_inputs):
        _require_sound(chunk, with_inputs, what)
        if not len(chunk.labels):  # a plug-in may have found nothing in a file
            continue
        with_ids.add(chunk.ids is not None)
        kinds |= {type(label) for label in chunk.labels} - {type(None)}
        if len(kinds) > 1 or not kinds <= {int, str} or "" in chunk.labels:
            raise _odd_label(chunk, kinds)
        if len(with_ids) > 1:
            raise InputError(what, expected="ids in all chunks or in none", found="some", fix="Correct the source.")
        if kinds == {int}:
            chunk = replace(chunk, labels=_numbers(chunk))
        yield chunk
    if not with_ids:
        raise without_rows(what)


def _require_sound(chunk: Chunk, with_inputs: bool, what: str) -> None:
    """Raise InputError for a chunk that a plug-in, or a file, has made wrong."""
    rows, fix = len(chunk.labels), "Correct the source."
    if chunk.ids is not None:
        if len(chunk.ids) != rows or not all(type(name) is str for name in chunk.ids):
            raise InputError(what, expected="a string as id for each label", found="others", fix=fix)
        _require_utf8(chunk, chunk.ids, "id")
    names = [label for label in chunk.labels if isinstance(label, str)]
    if names:
        _require_utf8(chunk, [label if isinstance(label, str) else "" for label in chunk.labels], "label")
    if with_inputs and (len(chunk.inputs) != rows or not all(type(data) in (bytes, InputError) for data in chunk.inputs)):
        raise InputError(what, expected="bytes as input for each label", found="others", fix=fix)


def _require_utf8(chunk: Chunk, texts: Sequence[str], name: str) -> None:
    if not _is_utf8("".join(texts)):
        row = next(row for row, text in enumerate(texts) if not _is_utf8(text))
        found, fix = "half of a surrogate pair", f"Correct the {name}."
        raise InputError(f"{chunk.place(row)}, {name}", expected="a text that UTF-8 can hold", found=found, fix=fix)


def _odd_label(chunk: Chunk, kinds: set[type]) -> InputError:
    """The error for labels of two kinds, of another kind, or empty ones."""
    for row, label in enumerate(chunk.labels):
        if label is not None and (type(label) not in (int, str) or label == ""):
            expected = "a whole number or a name as label, or null"
            return InputError(chunk.place(row), expected=expected, found=repr(label), fix="Correct the label.")
    row = max(row for row, label in enumerate(chunk.labels) if isinstance(label, int | str))
    fix = "Write all labels as numbers, or all as names."
    return InputError(chunk.place(row), expected="labels of one kind", found="numbers and names", fix=fix)


def _numbers(chunk: Chunk) -> list[Label]:
    """Labels, where -1 is None. Raises InputError for one beyond int64."""
    for row, label in enumerate(chunk.labels):
        if label is not None and label not in _INT64:
            expected, fix = "a label that fits 64 bits", "Correct the label."
            raise InputError(chunk.place(row), expected=expected, found=str(label)[:80], fix=fix)
    return [None if label == -1 else label for label in chunk.labels]


def _is_utf8(text: str) -> bool:
    """Whether UTF-8 can hold a text: JSON may hold halves of surrogate pairs, UTF-8 may not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
