"""Ingest: from sources of labelled images to the splits that all other commands read.

Rows are shuffled once, here, and keep that order. Every image is decoded before any split is written.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.base import files, randomness, runtime
from pipeline.base.errors import InputError
from pipeline.base.randomness import Use
from pipeline.data.pixels import peek
from pipeline.data.selection import stratified
from pipeline.data.sources import DIGITS, Rows, load, load_all
from pipeline.data.splits import UNLABELLED, Split, bind_splits, open_splits

VERSION = 1  # of the assignment of rows to splits, and of their order
DAMAGED = ("fail", "exclude")
_SPLITS = ("train", "valid", "test", "transfer")
_log = logging.getLogger(__name__)


def ingest(
    *,
    train: str,
    valid: str | float | int,
    test: str | float | int,
    transfer_set: Sequence[str],
    damaged: str,
    seed: int,
    out: Path,
    fold: bool = False,
) -> dict[str, Split]:
    """Write {train,valid,test}.parquet in `out`, and transfer.parquet if the transfer set has sources of its own.

    All rows are held in memory, encoded. After an error `out` is unchanged.

    Args:
        train: `digits`, or the path of a Parquet file in the Hugging Face image layout.
        valid: Likewise; or a number: this share (below 1) or count of the training rows is carved out, stratified by class,
            after the test rows.
        test: Likewise.
        transfer_set: Sources, which may lack labels; empty for the training split. Each is shuffled by itself and appended, so
            that a source added at the end moves no row of the others.
        damaged: `fail`, or `exclude` to leave out rows whose images do not decode.
        seed: The seed of carving and shuffling.
        out: The folder to write or replace.
        fold: Whether to append the validation rows to the training rows, and to the transfer set's own rows, for final models.
            No other row moves. They stay the validation split too, which is then marked as folded: nothing may be chosen by it.

    Returns:
        The splits train, valid and test, and transfer if it has sources of its own, opened, by name.

    Raises:
        InputError: A source or a setting is wrong.
        BusyError: Another process writes the same folder.
    """
    if damaged not in DAMAGED:
        raise InputError("damaged", expected=" or ".join(DAMAGED), found=repr(damaged), fix="Correct the setting.")
    _require_apart((train, valid, test), transfer_set)
    with files.replaced_folder(out) as folder:
        splits = {"train": load(train, "train")}
        for name, origin in (("test", test), ("valid", valid)):
            if isinstance(origin, str):
                splits[name] = load(origin, name)
            else:
                splits["train"], splits[name] = carve(splits["train"], origin, name, seed)
        splits = {name: _shuffled(rows, name, seed) for name, rows in splits.items()}
        if transfer_set:
            splits["transfer"] = _appended([_shuffled(rows, "transfer", seed) for rows in load_all(transfer_set)])
        classes = _class_names(splits)
        _check_labels(splits, classes)
        _check_ids(splits)
        sound, excluded, mode, size = _decoded(splits, damaged)
        for name in ("train", "transfer"):
            if fold and name in sound:
                sound[name] = _folded(sound[name], sound["valid"])
                excluded[name] = list(dict.fromkeys(excluded[name] + excluded["valid"]))
        for name, rows in sound.items():
            Split.write(
                folder / f"{name}.parquet", rows.ids, rows.images, rows.labels, role=name,
                classes=classes, mode=mode, size=size, excluded=excluded[name], folded=fold and name == "valid",
            )  # fmt: skip
        bind_splits(folder, list(sound))
    return open_splits(out, [name for name in _SPLITS if name in splits])


def _require_apart(splits: Sequence[str | float | int], transfer_set: Sequence[str]) -> None:
    """Raise InputError if two splits, or the transfer set twice, read the same source: splits must not share rows.

    The transfer set may share rows with any split, because students learn the teachers' logits from it.
    """
    for what, sources in (
        ("train, valid and test", [each for each in splits if isinstance(each, str)]),
        ("transfer", transfer_set),
    ):
        places = [source if source == DIGITS else str(Path(source).resolve()) for source in sources]
        if twice := [source for number, source in enumerate(sources) if places[number] in places[:number]]:
            fix = "Give another source, or a share to carve out."
            raise InputError(what, expected="different sources", found=f"{twice[0]} twice", fix=fix)


# ---------------------------------------------------------------- splits


def carve(rows: Rows, amount: float | int, name: str, seed: int) -> tuple[Rows, Rows]:
    """Split `rows` into (the rest, the carved), stratified: every class gives the same share, to within one row.

    amount: a share in (0, 1) of all rows, or a count.
    """
    total = len(rows.ids)
    count = round(amount * total) if amount < 1 else int(amount)
    if not 0 < count < total or (amount >= 1 and amount != count):
        fix = f"Correct the setting `{name}`."
        expected = f"a share in (0, 1) or a count below {total:,}"
        raise InputError(f"{name} split", expected=f"{expected} that leaves rows on both sides", found=str(amount), fix=fix)
    # The rows that come first in their classes are carved.
    shuffled = randomness.permutation(total, seed, Use.CARVE, _SPLITS.index(name))
    carved = shuffled[np.argsort(stratified(rows.labels, shuffled)[shuffled], kind="stable")][:count]
    mask = np.zeros(total, bool)
    mask[carved] = True
    return rows.take(np.flatnonzero(~mask)), rows.take(np.flatnonzero(mask))


def _shuffled(rows: Rows, name: str, seed: int) -> Rows:
    return rows.take(randomness.permutation(len(rows.ids), seed, Use.SHUFFLE, _SPLITS.index(name)))


def _appended(parts: Sequence[Rows]) -> Rows:
    """Several sources as one, in order; all that name their classes must name the same ones."""
    first, *others = [part for part in parts if part.classes] or parts
    for part in others:
        if part.classes not in (None, first.classes):
            expected, found = (", ".join(rows.classes or ()) for rows in (first, part))
            fix = "Use one label map for all."
            raise InputError(f"transfer source {part.source}", expected=f"the classes {expected}", found=found, fix=fix)
    ids, places, images = ([item for part in parts for item in getattr(part, name)] for name in ("ids", "places", "images"))
    sources = ", ".join(part.source for part in parts)
    return Rows(sources, ids, places, images, np.concatenate([part.labels for part in parts]), first.classes)


def _folded(rows: Rows, valid: Rows) -> Rows:
    """These rows, then those validation rows that are not among them, by id and image."""
    held = dict(zip(rows.ids, rows.images, strict=True))
    added = [row for row, name in enumerate(valid.ids) if held.get(name) != valid.images[row]]
    for row in added:
        if valid.ids[row] in held:
            found, fix = f"{valid.ids[row]!r} in transfer and in valid, with different images", "Make the ids unique."
            raise InputError("transfer split, ids", expected="each id once", found=found, fix=fix)
    return _appended([rows, valid.take(np.array(added, np.int64))])


def _class_names(splits: dict[str, Rows]) -> tuple[str, ...]:
    """The class names of the training source, or numbers if it names none; every other source must agree."""
    train = splits["train"]
    classes = train.classes or _numbered(train)
    for name, rows in splits.items():
        if rows.classes not in (None, classes):
            expected = f"the classes of train ({', '.join(classes)})"
            found = ", ".join(rows.classes)
            raise InputError(f"{name} source {rows.source}", expected=expected, found=found, fix="Use one label map for all.")
    if len(classes) < 2:
        found = str(len(classes))
        raise InputError(f"train source {train.source}", expected="two classes or more", found=found, fix="Add rows.")
    return classes


def _numbered(rows: Rows) -> tuple[str, ...]:
    """The classes 0 to the largest label. Each must occur, so that one stray label does not make many classes."""
    present = np.unique(rows.labels[rows.labels != UNLABELLED])
    gaps = np.flatnonzero(present != np.arange(len(present)))
    if len(gaps):
        expected = f"labels 0, 1, 2, … without a gap, or class names in the schema metadata (no row has label {gaps[0]})"
        found, fix = f"label {present[gaps[0]]}", "Correct the labels or name the classes."
        raise InputError(f"train source {rows.source}", expected=expected, found=found, fix=fix)
    return tuple(str(label) for label in present)


def _check_labels(splits: dict[str, Rows], classes: tuple[str, ...]) -> None:
    for name, rows in splits.items():
        lowest = UNLABELLED if name == "transfer" else 0
        bad = np.flatnonzero((rows.labels < lowest) | (rows.labels >= len(classes)))
        if len(bad):
            row = int(bad[0])
            found = "no label" if rows.labels[row] == UNLABELLED else str(rows.labels[row])
            expected = f"a label from 0 to {len(classes) - 1}"
            raise InputError(rows.places[row], expected=expected, found=found, fix="Correct the label or the class names.")


def _check_ids(splits: dict[str, Rows]) -> None:
    """Raise InputError unless every id is unique within the transfer set, and within the other splits together."""
    for group in (("train", "valid", "test"), ("transfer",)):
        seen: dict[str, str] = {}
        for name in group:
            for identity in splits[name].ids if name in splits else ():
                if identity in seen:
                    found = f"{identity!r} " + (f"in {seen[identity]} and in {name}" if seen[identity] != name else "twice")
                    raise InputError(f"{name} split, ids", expected="each id once", found=found, fix="Make the ids unique.")
                seen[identity] = name


def _decoded(splits: dict[str, Rows], damaged: str) -> tuple[dict[str, Rows], dict[str, list[str]], str, tuple[int, int]]:
    """Decode every image. Returns the sound rows and the ids of the others, by split, the mode, and the common size.

    The mode is RGB if any image is in colour. Raises InputError for an image of another size and, unless `damaged` is
    `exclude`, for one that does not decode.
    """
    sound: dict[str, Rows] = {}
    excluded: dict[str, list[str]] = {}
    modes: set[str] = set()
    sizes: list[int] = []
    for name, rows in splits.items():
        bad: list[int] = []
        for row, data in enumerate(runtime.progress(rows.images, f"decoding {name}", unit="images")):
            try:
                mode, *size = peek(data, rows.places[row])
            except InputError as error:
                if damaged == "fail":
                    raise
                _log.warning("left out: %s", error)
                bad.append(row)
                continue
            sizes = sizes or size
            if size != sizes:
                first, found = (f"{height}×{width} pixels" for height, width in (sizes, size))
                expected = f"{first} as in the first image"
                raise InputError(rows.places[row], expected=expected, found=found, fix="Resize the images.")
            modes.add(mode)
        excluded[name] = [rows.ids[row] for row in bad]
        sound[name] = rows.take(np.setdiff1d(np.arange(len(rows.ids)), bad))
        if not sound[name].ids:
            raise InputError(f"{name} split", expected="images that decode", found="none", fix="Repair the images.")
    return sound, excluded, "RGB" if "RGB" in modes else "L", (sizes[0], sizes[1])
