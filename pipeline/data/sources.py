"""Sources: labelled images, from a Parquet file or built in, read into memory as rows."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.base.errors import InputError, first_line
from pipeline.base.facts import NOT_JSON
from pipeline.data.splits import DAMAGE, UNLABELLED

DIGITS = "digits"


@dataclass(frozen=True)
class Rows:
    """Rows in memory: encoded images; labels (N,) int64, -1 where unknown; class names in label order.

    places: the file and row number that each row comes from, for messages.
    """

    source: str
    ids: list[str]
    places: list[str]
    images: list[bytes]
    labels: np.ndarray
    classes: tuple[str, ...] | None

    def take(self, index: np.ndarray) -> "Rows":
        """The rows at `index`, in its order."""
        ids, places = ([column[row] for row in index] for column in (self.ids, self.places))
        return Rows(self.source, ids, places, [self.images[row] for row in index], self.labels[index], self.classes)


def load(source: str, role: str, first: int = 0) -> Rows:
    """Read a source. Without an `id` column the ids are made of role and number, from `first` on: train-000007."""
    rows = _digits() if source == DIGITS else _parquet(Path(source), role, first)
    if not rows.ids:
        raise InputError(f"{role} source {source}", expected="rows", found="none", fix="Give a source that has rows.")
    return rows


def load_all(sources: Sequence[str]) -> list[Rows]:
    """Read the sources of a transfer set; the row numbers in their ids continue from one source to the next."""
    parts: list[Rows] = []
    for source in sources:
        parts.append(load(source, "transfer", sum(len(part.ids) for part in parts)))
    return parts


def _digits() -> Rows:
    """scikit-learn's 1,797 handwritten digits (UCI, Alpaydin & Kaynak 1998): 8×8 pixels from 0 to 16, times 15."""
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
    return Rows(DIGITS, ids, ids, images, bunch.target.astype(np.int64), tuple(map(str, bunch.target_names)))


def _parquet(path: Path, role: str, first: int) -> Rows:
    """Read Parquet in the Hugging Face layout: image (struct of bytes and path), label (integer), optionally id."""
    fix = "Give a Parquet file with the columns image (struct of bytes and path) and label (int64)."
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise InputError(f"{role} source {path}", expected="a Parquet file", found=found, fix=fix)
    given: list[object] = []
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
                given += batch.column("id").to_pylist() if "id" in columns else []
            classes = _names(file.schema_arrow.metadata, path)
    except DAMAGE as error:
        found = f"another kind of file, or a damaged one ({first_line(error)})"
        raise InputError(f"{role} source {path}", expected="a Parquet file", found=found, fix=fix) from error
    if None in given:
        found, fix = f"none in row {given.index(None)}", "Fill the column, or drop it."
        raise InputError(f"{path}, column id", expected="an id in every row", found=found, fix=fix)
    ids = [str(name) for name in given] or [f"{role}-{first + row:06d}" for row in range(len(images))]
    places = [
        f"{path}, row {row} (id {name}{f', path {inner}' if inner else ''})"
        for row, (name, inner) in enumerate(zip(ids, paths, strict=True))
    ]
    encoded = [data for data in images if data is not None]
    if len(encoded) < len(images):
        fix = "Embed the images in the file."
        raise InputError(places[images.index(None)], expected="image bytes", found="none", fix=fix)
    largest = np.iinfo(np.int64).max  # a larger label is refused later, as out of range
    known = np.array([UNLABELLED if label is None else min(label, largest) for label in labels], np.int64)
    return Rows(str(path), ids, places, encoded, known, classes)


def _columns(schema: pa.Schema, path: Path, role: str, fix: str) -> list[str]:
    """The columns to read, after a check of names and types; only a transfer set may lack `label`."""
    found = ", ".join(schema.names) or "no columns"
    for name in ("id", "image", "label"):
        if (count := schema.names.count(name)) > 1:
            raise InputError(f"{role} source {path}", expected=f"one column `{name}`", found=f"{count} of it", fix=fix)
        if not count and (name == "image" or (name == "label" and role != "transfer")):
            raise InputError(f"{role} source {path}", expected=f"a column `{name}`", found=found, fix=fix)
    image = schema.field("image").type
    if not (pa.types.is_struct(image) and image.get_field_index("bytes") >= 0 and _is_bytes(image.field("bytes").type)):
        raise InputError(f"{path}, column image", expected="a struct of bytes and path", found=str(image), fix=fix)
    if "label" in schema.names and not pa.types.is_integer(schema.field("label").type):
        found = str(schema.field("label").type)
        raise InputError(f"{path}, column label", expected="whole numbers", found=found, fix=fix)
    return [name for name in ("id", "image", "label") if name in schema.names]


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _names(metadata: dict[bytes, bytes] | None, path: Path) -> tuple[str, ...] | None:
    """Class names from the schema metadata, where Hugging Face datasets keep them; None if there are none."""
    try:
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"]["label"]["names"]
    except (KeyError, TypeError, *NOT_JSON):
        return None
    listed = isinstance(names, list) and all(isinstance(name, str) and _is_unicode(name) for name in names)
    if not listed or len(set(names)) != len(names):
        fix = "Correct the schema metadata, or remove it to number the classes."
        raise InputError(f"{path}, class names", expected="a list of different strings", found=repr(names)[:80], fix=fix)
    return tuple(names)


def _is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold a text: JSON may hold surrogates, UTF-8 may not."""
    return not any("\ud800" <= char <= "\udfff" for char in text)
