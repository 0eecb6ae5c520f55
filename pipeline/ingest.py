"""Ingest: from a source of labelled images to the splits that everything else reads.

Rows are shuffled once, here, and keep that order for good. Nothing is written before every image has been decoded.
"""

import io
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline import transfer
from pipeline.base import files, randomness, runtime
from pipeline.base.errors import InputError, first_line
from pipeline.base.facts import NOT_JSON
from pipeline.base.randomness import Use
from pipeline.rows import stratified
from pipeline.transfer import UNLABELLED, Split

VERSION = 1  # of which rows go where, in which order
DIGITS = "digits"
DAMAGED = ("fail", "exclude")
_SPLITS = ("train", "valid", "test", "transfer")
_DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError, MemoryError, OverflowError)  # of pyarrow, for damaged files
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rows:
    """Rows in memory: encoded images and labels (N,) int64, -1 where unknown; class names in label order.

    places: where each row came from, for messages.
    """

    source: str
    ids: list[str]
    places: list[str]
    images: list[bytes]
    labels: np.ndarray
    classes: tuple[str, ...] | None

    def take(self, index: np.ndarray) -> "Rows":
        """The rows at `index`, in its order."""
        picked = ([column[row] for row in index] for column in (self.ids, self.places, self.images))
        return Rows(self.source, *picked, self.labels[index], self.classes)


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
    """Write {train,valid,test}.parquet below `out`, and transfer.parquet where the transfer set has a source of its own.

    train: `digits` or the path of a Parquet file in the Hugging Face image layout. valid, test: likewise, or a number: that
    share (below 1) or count of the training rows is carved out, stratified by class, test before valid. transfer_set:
    sources, whose labels may be missing, none for the training split; each is shuffled by itself and follows the one
    before it, so that a source added at the end moves no row of the others. damaged: `fail`, or `exclude` to leave out
    rows whose images do not decode. fold: once settings are chosen, for final models: the validation rows follow the
    training rows, and those of a transfer set of its own, neither of which moves; they stay the validation split as well,
    which then says that it is folded and must not be chosen by. All rows are held in memory, encoded.
    Raises InputError for input that is not sound; then `out` is as it was.
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
            splits["transfer"] = _appended([_shuffled(rows, "transfer", seed) for rows in _load_all(transfer_set)])
        classes = _class_names(splits)
        _check_labels(splits, classes)
        _check_ids(splits)
        sound, excluded, mode, size = _decoded(splits, damaged)
        for name in ("train", "transfer"):
            if fold and name in sound:
                sound[name] = _folded(sound[name], sound["valid"])
                excluded[name] = list(dict.fromkeys(excluded[name] + excluded["valid"]))
        for name, rows in sound.items():
            transfer.write(
                folder / f"{name}.parquet", rows.ids, rows.images, rows.labels, role=name,
                classes=classes, mode=mode, size=size, excluded=excluded[name], folded=fold and name == "valid",
            )  # fmt: skip
        transfer.bind(folder, list(sound))
    return transfer.open_splits(out, [name for name in _SPLITS if name in splits])


# ---------------------------------------------------------------- sources


def _require_apart(splits: Sequence[str | float | int], transfer_set: Sequence[str]) -> None:
    """Raise InputError where the splits, or the transfer set, would read one source twice: rows of one are those of no other.

    A transfer set may hold rows of any split: what it teaches are the teachers' logits.
    """
    for what, sources in (
        ("train, valid and test", [each for each in splits if isinstance(each, str)]),
        ("transfer", transfer_set),
    ):
        places = [source if source == DIGITS else str(Path(source).resolve()) for source in sources]
        if twice := [source for number, source in enumerate(sources) if places[number] in places[:number]]:
            fix = "Give another source, or a share to carve out."
            raise InputError(what, expected="different sources", found=f"{twice[0]} twice", fix=fix)


def load(source: str, role: str, first: int = 0) -> Rows:
    """Read a source. Rows without an `id` column are called after their role and number, from `first` on: train-000007."""
    rows = _digits() if source == DIGITS else _parquet(Path(source), role, first)
    if not rows.ids:
        raise InputError(f"{role} source {source}", expected="rows", found="none", fix="Give a source that has rows.")
    return rows


def _load_all(sources: Sequence[str]) -> list[Rows]:
    parts: list[Rows] = []
    for source in sources:
        parts.append(load(source, "transfer", sum(len(part.ids) for part in parts)))
    return parts


def _digits() -> Rows:
    """The 1,797 handwritten digits of scikit-learn (UCI, Alpaydin & Kaynak 1998): 8×8 pixels of 0 to 16, times 15."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        fix = 'Install it: pip install "softcache[digits]".'
        raise InputError("source digits", expected="scikit-learn", found="not installed", fix=fix) from error

    bunch = load_digits()
    images = []
    for pixels in (bunch.images * 15).astype(np.uint8):
        held = io.BytesIO()
        Image.fromarray(pixels).save(held, format="PNG")
        images.append(held.getvalue())
    ids = [f"digits-{row:06d}" for row in range(len(images))]
    return Rows(DIGITS, ids, ids, images, bunch.target.astype(np.int64), tuple(str(name) for name in bunch.target_names))


def _parquet(path: Path, role: str, first: int) -> Rows:
    """Parquet in the Hugging Face layout: image (struct of bytes and path), label (integer), optionally id."""
    fix = "Give a Parquet file with the columns image (struct of bytes and path) and label (int64)."
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise InputError(f"{role} source {path}", expected="a Parquet file", found=found, fix=fix)
    ids: list[str] = []
    images: list[bytes | None] = []
    paths: list[str | None] = []
    labels: list[int | None] = []
    try:
        with pq.ParquetFile(path) as file:
            columns = _columns(file.schema_arrow, path, role, fix)
            for batch in file.iter_batches(columns=columns):
                image = batch.column("image")
                images += image.field("bytes").to_pylist()
                paths += image.field("path").to_pylist() if image.type.get_field_index("path") >= 0 else [None] * len(batch)
                labels += batch.column("label").to_pylist() if "label" in columns else [None] * len(batch)
                ids += batch.column("id").to_pylist() if "id" in columns else []
            classes = _names(file.schema_arrow.metadata, path)
    except _DAMAGE as error:
        found = f"another kind of file, or a damaged one ({first_line(error)})"
        raise InputError(f"{role} source {path}", expected="a Parquet file", found=found, fix=fix) from error
    if None in ids:
        found = f"none in row {ids.index(None)}"
        raise InputError(f"{path}, column id", expected="an id in every row", found=found, fix="Fill or drop it.")
    ids = [str(name) for name in ids] or [f"{role}-{first + row:06d}" for row in range(len(images))]
    places = [
        f"{path}, row {row} (id {name}{f', path {inner}' if inner else ''})"
        for row, (name, inner) in enumerate(zip(ids, paths, strict=True))
    ]
    for place, data in zip(places, images, strict=True):
        if data is None:
            raise InputError(place, expected="image bytes", found="none", fix="Embed the images in the file.")
    largest = np.iinfo(np.int64).max  # what does not fit is refused as out of range
    known = np.array([UNLABELLED if label is None else min(label, largest) for label in labels], np.int64)
    return Rows(str(path), ids, places, images, known, classes)


def _columns(schema: pa.Schema, path: Path, role: str, fix: str) -> list[str]:
    """Check the columns by name and type; only a transfer set may lack `label`."""
    found = ", ".join(schema.names) or "no columns"
    if twice := sorted({name for name in ("id", "image", "label") if schema.names.count(name) > 1}):
        expected = f"one column `{twice[0]}`"
        raise InputError(f"{role} source {path}", expected=expected, found=f"{schema.names.count(twice[0])} of it", fix=fix)
    required = ("image",) if role == "transfer" else ("image", "label")
    for name in required:
        if name not in schema.names:
            raise InputError(f"{role} source {path}", expected=f"a column `{name}`", found=found, fix=fix)
    image = schema.field("image").type
    if not (pa.types.is_struct(image) and image.get_field_index("bytes") >= 0 and _is_bytes(image.field("bytes").type)):
        raise InputError(f"{path}, column image", expected="a struct of bytes and path", found=str(image), fix=fix)
    if "label" in schema.names and not pa.types.is_integer(schema.field("label").type):
        kind = schema.field("label").type
        raise InputError(f"{path}, column label", expected="whole numbers", found=str(kind), fix=fix)
    return [name for name in ("id", "image", "label") if name in schema.names]


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _names(metadata: dict[bytes, bytes] | None, path: Path) -> tuple[str, ...] | None:
    """Class names out of the schema metadata, where Hugging Face datasets keep them."""
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    except (KeyError, TypeError, *NOT_JSON):
        return None
    listed = isinstance(names, list) and all(isinstance(name, str) and _is_unicode(name) for name in names)
    if not listed or len(set(names)) != len(names):
        fix = "Correct the schema metadata, or remove it to number the classes."
        raise InputError(f"{path}, class names", expected="a list of different strings", found=repr(names)[:80], fix=fix)
    return tuple(names)


def _is_unicode(text: str) -> bool:
    """Whether there are no halves of characters in it, which JSON may hold and UTF-8 may not."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


# ---------------------------------------------------------------- splits


def carve(rows: Rows, amount: float | int, name: str, seed: int) -> tuple[Rows, Rows]:
    """Split `rows` into (the rest, the carved), stratified: every class gives the same share, to within one row.

    amount: a share in (0, 1) of all rows, or a count of them.
    """
    total = len(rows.ids)
    count = round(amount * total) if amount < 1 else int(amount)
    if not 0 < count < total or (amount >= 1 and amount != count):
        fix = f"Correct the setting `{name}`."
        expected = f"a share in (0, 1) or a count below {total:,}"
        raise InputError(f"{name} split", expected=f"{expected} that leaves rows on both sides", found=str(amount), fix=fix)
    # The rows with the smallest places in their classes are carved, over all classes.
    shuffled = randomness.permutation(total, seed, Use.CARVE, _SPLITS.index(name))
    carved = shuffled[np.argsort(stratified(rows.labels, shuffled)[shuffled], kind="stable")][:count]
    mask = np.zeros(total, bool)
    mask[carved] = True
    return rows.take(np.flatnonzero(~mask)), rows.take(np.flatnonzero(mask))


def _shuffled(rows: Rows, name: str, seed: int) -> Rows:
    return rows.take(randomness.permutation(len(rows.ids), seed, Use.SHUFFLE, _SPLITS.index(name)))


def _appended(parts: Sequence[Rows]) -> Rows:
    """Several sources as one, in the order given; those that name classes must name the same."""
    first, *others = [part for part in parts if part.classes] or parts
    for part in others:
        if part.classes not in (None, first.classes):
            expected, found = (", ".join(rows.classes) for rows in (first, part))
            fix = "Use one label map for all."
            raise InputError(f"transfer source {part.source}", expected=f"the classes {expected}", found=found, fix=fix)
    ids, places, images = ([item for part in parts for item in getattr(part, name)] for name in ("ids", "places", "images"))
    sources = ", ".join(part.source for part in parts)
    return Rows(sources, ids, places, images, np.concatenate([part.labels for part in parts]), first.classes)


def _folded(rows: Rows, valid: Rows) -> Rows:
    """These rows, then the validation rows; one that a transfer set has already, by id and image, is not added again."""
    held = dict(zip(rows.ids, rows.images, strict=True))
    added = [row for row, name in enumerate(valid.ids) if held.get(name) != valid.images[row]]
    for row in added:
        if valid.ids[row] in held:
            found, fix = f"{valid.ids[row]!r} in transfer and, with another image, in valid", "Make the ids unique."
            raise InputError("transfer split, ids", expected="each id once", found=found, fix=fix)
    return _appended([rows, valid.take(np.array(added, np.int64))])


def _class_names(splits: dict[str, Rows]) -> tuple[str, ...]:
    """The training source's names, or numbers where it names none; every other source must agree."""
    train = splits["train"]
    classes = train.classes or _numbered(train)
    for name, rows in splits.items():
        if rows.classes not in (None, classes):
            expected = f"the classes of train ({', '.join(classes)})"
            found = ", ".join(rows.classes)
            raise InputError(f"{name} source {rows.source}", expected=expected, found=found, fix="Use one label map for all.")
    if len(classes) < 2:
        raise InputError(
            f"train source {train.source}", expected="two classes or more", found=str(len(classes)), fix="Add rows."
        )
    return classes


def _numbered(rows: Rows) -> tuple[str, ...]:
    """0 to the largest label; every one of them must occur, so that a stray label does not become many classes."""
    present = np.unique(rows.labels[rows.labels != UNLABELLED])
    gaps = np.flatnonzero(present != np.arange(len(present)))
    if len(gaps):
        raise InputError(
            f"train source {rows.source}",
            expected=f"labels 0, 1, 2, … without a gap, or class names in the schema metadata (no row has label {gaps[0]})",
            found=f"label {present[gaps[0]]}",
            fix="Correct the labels or name the classes.",
        )
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
    """Ids are unique within a split, and a test or validation row is never a training row."""
    for group in (("train", "valid", "test"), ("transfer",)):
        seen: dict[str, str] = {}
        for name in group:
            for identity in splits[name].ids if name in splits else ():
                if identity in seen:
                    found = (
                        f"{identity!r} in {seen[identity]} and in {name}" if seen[identity] != name else f"{identity!r} twice"
                    )
                    raise InputError(f"{name} split, ids", expected="each id once", found=found, fix="Make the ids unique.")
                seen[identity] = name


def _decoded(splits: dict[str, Rows], damaged: str) -> tuple[dict[str, Rows], dict[str, list[str]], str, tuple[int, int]]:
    """Decode every image. Returns the rows that can be, the ids of those that cannot, the mode, and the one size of all.

    The mode is RGB if any image is in colour. Raises InputError for an image of another size and, unless `damaged` is
    exclude, for one that does not decode.
    """
    sound, excluded, modes, first = {}, {}, set(), None
    for name, rows in splits.items():
        bad: list[int] = []
        for row, data in enumerate(runtime.progress(rows.images, f"decoding {name}", unit="images")):
            try:
                mode, *size = transfer.peek(data, rows.places[row])
            except InputError as error:
                if damaged == "fail":
                    raise
                _log.warning("left out: %s", error)
                bad.append(row)
                continue
            first = first or size
            if size != first:
                wanted, found = (f"{height}×{width} pixels" for height, width in (first, size))
                expected, fix = f"{wanted} as in the first image", "Resize the images."
                raise InputError(rows.places[row], expected=expected, found=found, fix=fix)
            modes.add(mode)
        excluded[name] = [rows.ids[row] for row in bad]
        sound[name] = rows.take(np.setdiff1d(np.arange(len(rows.ids)), bad))
        if not sound[name].ids:
            raise InputError(f"{name} split", expected="images that decode", found="none", fix="Repair the images.")
    return sound, excluded, "RGB" if "RGB" in modes else "L", (first[0], first[1])
