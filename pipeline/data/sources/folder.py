"""The source `folder`: image files, in a folder for each class or all in one."""

import functools
import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.base import files
from pipeline.base.errors import InputError
from pipeline.data.inputs.form import Form
from pipeline.data.sources import paths
from pipeline.data.sources.source import Chunk, Input, Label, Source, chunked

_LARGEST_BYTES = 256 << 20  # of a file: an image of the most pixels there may be, 8 bits, without any packing
_UNSEEN = ("thumbs.db", "desktop.ini")  # what Windows leaves in folders


def folder(path: str, labels: bool = True) -> Source:
    """Images in class folders, each named after its class; or without class folders, then without labels.

        ingest: {train: "folder('data/source/train')"}

    Classes are numbered by name. The folders in a class folder belong to the class. Files and folders whose names begin
    with a dot are left out, and so are thumbs.db and desktop.ini; every other file is an image, whatever its name, and is
    refused, or left out, when it does not decode or has more than 256 MB. A row's id is its path in the folder. A symbolic
    link must lead to a file in the folder: what links to folders, in circles or to other places is refused.

    A class folder without images makes no class. With labels=False folders are no classes, and all images in them are read
    without labels.

    Raises InputError for a path that is no folder or holds no images, files beside class folders, a link or a name that is not
    allowed, and anything else that is neither file nor folder.
    """
    if not isinstance(labels, bool):
        fix = "Correct the setting."
        raise InputError("source folder, labels", expected="True or False", found=repr(labels), fix=fix)
    if not isinstance(path, str) or not path or "\0" in path or not os.path.isdir(path):
        found = "no such folder" if not isinstance(path, str) or not os.path.lexists(path) else "a file"
        raise InputError(f"source {path}", expected="a folder of images", found=found, fix="Correct the path.")
    root, real = str(Path(path)), files.resolved(Path(path))
    with paths.reading(Path(path), "a folder"):
        folders, beside = _listed(root, real)
        if labels and folders and beside:
            fix = "Move the files away, or into class folders."
            found = f"{Path(beside[0]).name} beside {Path(folders[0]).name}"
            raise InputError(f"source {path}", expected="class folders, or images, and not both", found=found, fix=fix)
        sizes = {each: _sizes(each, real) for each in (folders if labels and folders else [root])}
    if not any(count for count, _ in sizes.values()):
        raise InputError(f"source {path}", expected="a folder with images", found="none", fix="Add images.")
    empty = tuple(each for each, (count, _) in sizes.items() if not count)
    folders = [each for each in folders if each not in empty] if labels else []
    chunks = functools.partial(_chunks, root, real, folders)
    classes, lacks = tuple(os.path.basename(each) for each in folders) or None, "" if folders else "class folders"
    return Source(Form("image"), chunks, (real,), sum(size for _, size in sizes.values()), classes, lacks, empty=empty)


def _sizes(place: str, real: Path) -> tuple[int, int]:
    """How many files are in a folder, and the bytes of those that are not too large to be read."""
    sizes = [os.path.getsize(file) for file in _files(place, real)]
    return len(sizes), sum(size for size in sizes if size <= _LARGEST_BYTES)


def _chunks(root: str, real: Path, folders: list[str], with_inputs: bool) -> Iterator[Chunk]:
    with paths.reading(Path(root), "a folder"):
        yield from chunked(_rows(root, real, folders, with_inputs), lambda path: path)


def _rows(root: str, real: Path, folders: list[str], with_inputs: bool) -> Iterator[tuple[str, Input | None, Label, str]]:
    start = len(root.rstrip("/")) + 1
    for label, place in enumerate(folders or [root]):
        for path in _files(place, real):
            yield path[start:], _read(path) if with_inputs else None, label if folders else None, path


def _files(place: str, real: Path) -> list[str]:
    """The files in a folder and in all folders in it, sorted by path."""
    found: list[str] = []
    pending = [place]
    while pending:
        folders, held = _listed(pending.pop(), real)
        pending += folders
        found += held
    return sorted(found)


def _listed(place: str, real: Path) -> tuple[list[str], list[str]]:
    """The folders and the files in a folder, both sorted. real: what links must not lead out of."""
    folders: list[str] = []
    held: list[str] = []
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower() in _UNSEEN:
                continue
            _require_utf8(entry.name, place)
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif entry.is_file(follow_symlinks=False) or (entry.is_symlink() and _leads_to_a_file_in(real, entry)):
                held.append(entry.path)
            else:
                found, fix = "a pipe, a socket or a device", "Remove it."
                raise InputError(entry.path, expected="files and folders", found=found, fix=fix)
    return sorted(folders), sorted(held)


def _require_utf8(name: str, place: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        found = repr(os.fsencode(name))
        raise InputError(place, expected="names in UTF-8", found=found, fix="Rename the file or folder.") from error


def _leads_to_a_file_in(real: Path, link: "os.DirEntry[str]") -> bool:
    """True; raises InputError if it does not, so that no data set can name a file of the user's as an image."""
    target = files.resolved(Path(link.path))
    if not target.is_relative_to(real) or not target.is_file():
        fix = "Put the files themselves there."
        found = f"one that leads to {target}"
        raise InputError(link.path, expected=f"a symbolic link to a file in {real}", found=found, fix=fix)
    return True


def _read(path: str) -> Input:
    """The bytes of a file; an error for one that is too large, which is not read: a stray file may be of any size."""
    try:
        with open(path, "rb", buffering=0) as file:
            if (size := os.fstat(file.fileno()).st_size) > _LARGEST_BYTES:
                expected, fix = f"a file of at most {_LARGEST_BYTES:,} bytes", "Remove it."
                return InputError(path, expected=expected, found=f"{size:,} bytes", fix=fix)
            return file.read()
    except OSError as error:
        found, fix = error.strerror or "an error", "Make it readable, or remove it."
        raise InputError(path, expected="a file that can be read", found=found, fix=fix) from error
