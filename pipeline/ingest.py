"""Ingest: from a source of labelled images to the splits that everything else reads.

Rows are shuffled once, here, and keep that order for good. Nothing is written before every image has been decoded.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline import files, randomness, runtime, transfer
from pipeline.errors import InputError
from pipeline.randomness import Use
from pipeline.transfer import UNLABELLED, Split

DIGITS = "digits"
_SPLITS = ("train", "valid", "test", "transfer")


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
    transfer_set: str | None,
    seed: int,
    out: Path,
) -> dict[str, Split]:
    """Write {train,valid,test}.parquet below `out`, and transfer.parquet where the transfer set has a source of its own.

    train, transfer_set: `digits` or the path of a Parquet file in the Hugging Face image layout; transfer_set None means
    the training split, and its labels may be missing. valid, test: likewise, or a number: that share (below 1) or count
    of the training rows is carved out, stratified by class, test before valid. All rows are held in memory, encoded.
    Raises InputError for input that is not sound; then `out` is as it was.
    """
    with files.replaced_folder(out) as folder:
        splits = {"train": load(train, "train")}
        for name, origin in (("test", test), ("valid", valid)):
            if isinstance(origin, str):
                splits[name] = load(origin, name)
            else:
                splits["train"], splits[name] = carve(splits["train"], origin, name, seed)
        if transfer_set is not None:
            splits["transfer"] = load(transfer_set, "transfer")
        classes = _class_names(splits)
        _check_labels(splits, classes)
        _check_ids(splits)
        mode, size = _pixel_format(splits)
        for name, rows in splits.items():
            order = randomness.permutation(len(rows.ids), seed, Use.SHUFFLE, _SPLITS.index(name))
            final = rows.take(order)
            path = folder / f"{name}.parquet"
            transfer.write(path, final.ids, final.images, final.labels, classes=classes, mode=mode, size=size)
    return transfer.open_splits(out, [name for name in _SPLITS if name in splits])


# ---------------------------------------------------------------- sources


def load(source: str, role: str) -> Rows:
    """Read a source. Rows without an `id` column are called after their role and number: train-000007."""
    rows = _digits() if source == DIGITS else _parquet(Path(source), role)
    if not rows.ids:
        raise InputError(f"{role} source {source}", expected="rows", found="none", fix="Give a source that has rows.")
    return rows


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


def _parquet(path: Path, role: str) -> Rows:
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
    except (pa.ArrowException, OSError, ValueError) as error:
        found = f"another kind of file, or a damaged one ({str(error).splitlines()[0]})"
        raise InputError(f"{role} source {path}", expected="a Parquet file", found=found, fix=fix) from error
    if None in ids:
        found = f"none in row {ids.index(None)}"
        raise InputError(f"{path}, column id", expected="an id in every row", found=found, fix="Fill or drop it.")
    ids = [str(name) for name in ids] or [f"{role}-{row:06d}" for row in range(len(images))]
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
    except (KeyError, TypeError, ValueError):
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        fix = "Correct the schema metadata, or remove it to number the classes."
        raise InputError(f"{path}, class names", expected="a list of different strings", found=repr(names)[:80], fix=fix)
    return tuple(names)


# ---------------------------------------------------------------- splits


def carve(rows: Rows, amount: float | int, name: str, seed: int) -> tuple[Rows, Rows]:
    """Split `rows` into (the rest, the carved), stratified: every class gives its share, to within one row.

    amount: a share in (0, 1) or a count of rows.
    """
    total = len(rows.ids)
    count = round(amount * total) if amount < 1 else int(amount)
    if not 0 < count < total or (amount >= 1 and amount != count):
        fix = f"Correct the setting `{name}`."
        expected = f"a share in (0, 1) or a count below {total:,}"
        raise InputError(f"{name} split", expected=f"{expected} that leaves rows on both sides", found=str(amount), fix=fix)
    # Each row's place within its class, as a share of the class: the smallest places, over all classes, are carved.
    shuffled = randomness.permutation(total, seed, Use.CARVE, _SPLITS.index(name))
    places = np.empty(total)
    for label in np.unique(rows.labels):
        members = shuffled[rows.labels[shuffled] == label]
        places[members] = (np.arange(len(members)) + 0.5) / len(members)
    carved = shuffled[np.argsort(places[shuffled], kind="stable")][:count]
    mask = np.zeros(total, bool)
    mask[carved] = True
    return rows.take(np.flatnonzero(~mask)), rows.take(np.flatnonzero(mask))


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


def _pixel_format(splits: dict[str, Rows]) -> tuple[str, tuple[int, int]]:
    """Decode every image: RGB if any is in colour, and the one size that all have."""
    modes, first = set(), None
    for name, rows in splits.items():
        for row, data in enumerate(runtime.progress(rows.images, f"decoding {name}", unit="image")):
            where = rows.places[row]
            mode, *size = transfer.peek(data, where)
            first = first or size
            if size != first:
                expected, found = (f"{height}×{width} pixels" for height, width in (first, size))
                raise InputError(where, expected=f"{expected} as in the first image", found=found, fix="Resize the images.")
            modes.add(mode)
    return ("RGB" if "RGB" in modes else "L"), (first[0], first[1])
