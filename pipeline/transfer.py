"""The transfer set and its companions: splits of encoded images and labels in Parquet, in one fixed row order.

A split file has the columns `id` (string), `image` (struct of bytes and path, as Hugging Face datasets write it) and
`label` (int64, null where unknown). Its schema metadata holds, under `softcache`, what every reader needs: class
names, pixel mode and shape, span, and digests.
"""

import hashlib
import io
import json
import struct
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline import files, runtime
from pipeline.errors import InputError, IntegrityError

VERSION = 3
DECODER = "pillow"  # what turns bytes into pixels is part of what a teacher saw, so it is part of the inputs digest
ROW_GROUP_BYTES = 64 << 20
SPAN_BYTES = 64 << 20
SPAN_ROWS = (256, 8192)
UNLABELLED = -1
_DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError)  # what pyarrow raises for damaged files

_CHANNELS = {"L": 1, "RGB": 3}
# Pixel modes that convert to 8 bits per channel without losing depth (16-bit and float images are refused).
_GREY, _COLOUR = {"1", "L"}, {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_SCHEMA = pa.schema([("id", pa.string()), ("image", _IMAGE), ("label", pa.int64())])


def span_rows(classes: int) -> int:
    """Rows of a span: the largest power of two whose float32 logits fit 64 MB, between 256 and 8,192."""
    fitting = 1 << ((SPAN_BYTES // (classes * 4)).bit_length() - 1) if classes * 4 <= SPAN_BYTES else 1
    return min(max(fitting, SPAN_ROWS[0]), SPAN_ROWS[1])


# ---------------------------------------------------------------- pixels


def peek(data: bytes, where: str) -> tuple[str, int, int]:
    """Decode once to prove that it can be done. Returns (mode to decode to, height, width).

    Raises InputError, naming `where`, for what is not a sound PNG or JPEG of 8 bits per channel.
    """
    image = _open(data, where)
    return ("L" if image.mode in _GREY else "RGB"), image.height, image.width


def decode(data: bytes, mode: str, where: str) -> np.ndarray:
    """Encoded image to pixels: (channels, height, width) uint8, mode L or RGB."""
    pixels = np.asarray(_open(data, where).convert(mode))  # (H, W) or (H, W, C)
    return pixels[None] if mode == "L" else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _open(data: bytes, where: str) -> Image.Image:
    expected = "a PNG or JPEG image"
    fix = "Repair the image or leave the row out."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
            image.load()
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        limit = f"an image of at most {Image.MAX_IMAGE_PIXELS:,} pixels"
        raise InputError(where, expected=limit, found=_first_line(error), fix=fix) from error
    except (OSError, SyntaxError, ValueError, struct.error) as error:  # what Pillow's parsers raise for bad bytes
        found = f"{len(data):,} bytes that do not decode ({_first_line(error)})"
        raise InputError(where, expected=expected, found=found, fix=fix) from error
    if image.mode not in _COLOUR:
        raise InputError(where, expected="8 bits per channel", found=f"pixel mode {image.mode}", fix="Convert the image.")
    return image


def _first_line(error: Exception) -> str:
    text = str(error).split("\n")[0]
    return "not an image file" if "cannot identify" in text else text


# ---------------------------------------------------------------- digests


def rows_digest(ids: Sequence[str], images: Sequence[bytes]) -> str:
    """sha256 over ids and encoded images in order; lengths are hashed too, so that nothing can move across a border."""
    digest = hashlib.sha256()
    for name, data in zip(ids, images, strict=True):
        encoded = name.encode()
        digest.update(struct.pack("<QQ", len(encoded), len(data)))
        digest.update(encoded)
        digest.update(data)
    return digest.hexdigest()


def inputs_digest(decoder: str, mode: str, shape: Sequence[int], span_digests: Sequence[str], excluded: Sequence[str]) -> str:
    """Digest of what a model sees: the decoder and every span's rows, in order, and which rows were left out as damaged.

    Labels are not inputs.
    """
    facts = {"decoder": decoder, "mode": mode, "shape": list(shape), "spans": list(span_digests), "excluded": list(excluded)}
    return files.sha256(files.canonical_json(facts))


def labels_digest(labels: np.ndarray) -> str:
    """Digest of the labels in order (int64, -1 where unknown)."""
    return files.sha256(labels.astype("<i8").tobytes())


# ---------------------------------------------------------------- a split on disk


def write(
    path: Path,
    ids: Sequence[str],
    images: Sequence[bytes],
    labels: np.ndarray,
    *,
    classes: Sequence[str],
    mode: str,
    size: tuple[int, int],
    excluded: Sequence[str] = (),
    folded: bool = False,
) -> None:
    """Write one split. labels: (N,) int64, -1 where unknown; size: (height, width). Rows are kept in the order given.

    excluded: ids of rows that were left out because their images are damaged. folded: whether these are validation rows
    that are training rows too.

    A row group holds at most 64 MB of image bytes (one row where a single image is larger) and never straddles a span.
    """
    span = span_rows(len(classes))
    shape = [_CHANNELS[mode], *size]
    spans = [rows_digest(ids[start:stop], images[start:stop]) for start, stop in _ranges(len(ids), span)]
    facts = {
        "version": VERSION,
        "rows": len(ids),
        "classes": list(classes),
        "decoder": DECODER,
        "mode": mode,
        "shape": shape,
        "span": span,
        "span_digests": spans,
        "inputs_digest": inputs_digest(DECODER, mode, shape, spans, excluded),
        "excluded": list(excluded),
        "labels_digest": labels_digest(labels),
        "folded": folded,
    }
    features = {"image": {"_type": "Image"}, "label": {"names": list(classes), "_type": "ClassLabel"}}
    text = files.canonical_json(facts)
    metadata = {
        "softcache": text,
        "softcache_sha256": files.sha256(text),
        "huggingface": json.dumps({"info": {"features": features}}),
    }
    with pq.ParquetWriter(path, _SCHEMA.with_metadata(metadata), compression="none") as writer:
        for start, stop in _row_groups(images, span):
            column = pa.array([{"bytes": data, "path": None} for data in images[start:stop]], _IMAGE)
            known = labels[start:stop]
            batch = pa.record_batch(
                [pa.array(ids[start:stop], pa.string()), column, pa.array(known, pa.int64(), mask=known == UNLABELLED)],
                schema=_SCHEMA,
            )
            writer.write_batch(batch, row_group_size=stop - start)


def _ranges(rows: int, span: int) -> Iterator[tuple[int, int]]:
    for start in range(0, rows, span):
        yield start, min(start + span, rows)


def _row_groups(images: Sequence[bytes], span: int) -> Iterator[tuple[int, int]]:
    start, held = 0, 0
    for row, data in enumerate(images):
        if row > start and (row % span == 0 or held + len(data) > ROW_GROUP_BYTES):
            yield start, row
            start, held = row, 0
        held += len(data)
    yield start, len(images)


@dataclass(frozen=True)
class Split:
    """One split, opened: its facts are read, its rows are not."""

    path: Path
    rows: int
    classes: tuple[str, ...]
    decoder: str
    mode: str
    shape: tuple[int, int, int]  # channels, height, width
    span: int
    span_digests: tuple[str, ...]
    inputs_digest: str
    labels_digest: str
    excluded: tuple[str, ...]  # ids of rows that were left out, their images being damaged
    folded: bool  # whether these are validation rows that are training rows too

    @classmethod
    def open(cls, path: Path) -> "Split":
        """Read a split's facts.

        Raises InputError where it is missing or was not written by ingest, IntegrityError where it is damaged.
        """
        fix = "Run `softcache ingest`."
        try:
            metadata = pq.read_schema(path).metadata or {}
        except FileNotFoundError as error:
            raise InputError(str(path), expected="a split written by ingest", found="no file", fix=fix) from error
        except _DAMAGE as error:
            raise IntegrityError(str(path), expected="Parquet", found=_first_line(error), fix=fix) from error
        if b"softcache" not in metadata:
            raise InputError(str(path), expected="a split written by ingest", found="another Parquet file", fix=fix)
        text = metadata[b"softcache"]
        if files.sha256(text) != metadata.get(b"softcache_sha256", b"").decode(errors="replace"):
            raise IntegrityError(str(path), expected="its facts as ingest wrote them", found="others", fix=fix)
        facts = json.loads(text)
        if facts.pop("version") != VERSION:
            raise InputError(str(path), expected=f"version {VERSION}", found="another version", fix=fix)
        return cls(path, **{key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()})

    def require_unfolded(self, what: str) -> None:
        """Raise InputError where these rows were trained on, and `what`, a setting, would choose by how well they are known."""
        if self.folded:
            raise InputError(
                what,
                expected="validation rows that are not training rows",
                found=f"{self.path} with the setting ingest.fold",
                fix="Choose with ingest.fold: false, and fold for the final models, with what was chosen.",
            )

    def spans(self) -> list[tuple[int, int]]:
        """(start, stop) rows of every span."""
        return list(_ranges(self.rows, self.span))

    def labels(self) -> np.ndarray:
        """(N,) int64, -1 where unknown. Raises IntegrityError where they disagree with their digest."""
        try:
            column = pq.read_table(self.path, columns=["label"]).column("label")
        except _DAMAGE as error:
            raise self._damaged(error) from error
        labels = column.fill_null(UNLABELLED).to_numpy().astype(np.int64)
        self._check("labels", self.labels_digest, labels_digest(labels))
        return labels

    def ids(self, span: int) -> list[str]:
        """Ids of one span's rows."""
        return self._read(*self.spans()[span])[0]

    def images(self, span: int, places: np.ndarray | None = None) -> np.ndarray:
        """Pixels of one span: (rows, channels, height, width) uint8. Raises IntegrityError where bytes have changed.

        places: (n,) rows counted from the span's first, to decode only those; the whole span's bytes are checked.
        """
        start, stop = self.spans()[span]
        ids, images = self._read(start, stop)
        self._check(f"rows {start} to {stop - 1}", self.span_digests[span], rows_digest(ids, images))
        wanted = range(stop - start) if places is None else places
        pixels = np.empty((len(wanted), *self.shape), np.uint8)
        for number, row in enumerate(wanted):
            pixels[number] = decode(images[row], self.mode, f"{self.path}, row {start + row} (id {ids[row]})")
        return pixels

    def all_images(self) -> np.ndarray:
        """Pixels of the whole split: (N, channels, height, width) uint8, in memory."""
        spans = runtime.progress(range(len(self.span_digests)), f"reading {self.path.name}", unit="span")
        return np.concatenate([self.images(span) for span in spans])

    def _read(self, start: int, stop: int) -> tuple[list[str], list[bytes]]:
        """Ids and encoded images of rows [start, stop), which are whole row groups."""
        ids: list[str] = []
        images: list[bytes] = []
        try:
            with pq.ParquetFile(self.path) as file:
                first_row = 0
                for group in range(file.metadata.num_row_groups):
                    if start <= first_row < stop:
                        for batch in file.iter_batches(row_groups=[group], columns=["id", "image.bytes"]):
                            ids += batch.column("id").to_pylist()
                            images += batch.column("image").field("bytes").to_pylist()
                    first_row += file.metadata.row_group(group).num_rows
        except _DAMAGE as error:
            raise self._damaged(error) from error
        if None in ids or None in images:
            raise self._damaged(ValueError("a row without id or image"))
        return ids, images

    def _damaged(self, error: Exception) -> IntegrityError:
        fix = "The file was changed after ingest: run `softcache ingest` again."
        return IntegrityError(str(self.path), expected="Parquet as ingest wrote it", found=_first_line(error), fix=fix)

    def _check(self, what: str, expected: str, found: str) -> None:
        if expected != found:
            raise IntegrityError(
                f"{self.path}, {what}",
                expected=f"digest {expected[:12]}…",
                found=f"{found[:12]}…",
                fix="The file was changed after ingest: run `softcache ingest` again.",
            )


def class_numbers(these: Sequence[int | str], names: Sequence[str], what: str) -> list[int]:
    """Labels of classes that are given by name, or by label where no class has such a name, each once.

    names: in label order.

    Raises InputError, naming the setting `what`, for anything else.
    """
    fix = f"Correct the setting `{what.split()[0]}`."
    if not isinstance(these, list | tuple):
        raise InputError(what, expected="a list of classes such as [7, 8]", found=repr(these), fix=fix)
    numbers: list[int] = []
    for item in these:
        number = names.index(str(item)) if str(item) in names else item
        number = int(number) if isinstance(number, str) and number.isdecimal() else number
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(names):
            known = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
            expected = f"a label from 0 to {len(names) - 1}, or a name of {known}"
            raise InputError(what, expected=expected, found=repr(item), fix=fix)
        if number in numbers:
            raise InputError(what, expected="each class once", found=f"{names[number]} twice", fix=fix)
        numbers.append(number)
    return numbers


def open_splits(folder: Path, names: Sequence[str]) -> dict[str, Split]:
    """Open the named splits below `folder`; `transfer` is the training split where it has no file of its own.

    Raises InputError where one is missing, or where they differ in classes, pixel shape or mode.
    """
    files_of = {name: folder / f"{name}.parquet" for name in names}
    if "transfer" in files_of and not files_of["transfer"].exists():
        files_of["transfer"] = folder / "train.parquet"
    splits = {name: Split.open(path) for name, path in files_of.items()}
    first = splits[names[0]]
    for split in splits.values():
        for fact in ("classes", "shape", "mode", "span"):
            expected, found = getattr(first, fact), getattr(split, fact)
            if expected != found:
                wanted = f"{expected} as in {first.path.name}"
                raise InputError(f"{split.path}, {fact}", expected=wanted, found=str(found), fix="Run `softcache ingest`.")
    return splits
