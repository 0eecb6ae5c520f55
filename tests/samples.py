"""Small files of every kind that a source reads, written byte by byte, so that no library's version shows in them."""

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

WORDS = ["one", "zwei Äpfel", 'three, "quoted"\nlines']
NUMBERS = np.arange(18, dtype=np.float32).reshape(3, 2, 3)
PIXELS = (np.arange(3 * 4 * 5 * 3) * 37 % 256).astype(np.uint8).reshape(3, 4, 5, 3)


def write(folder: Path) -> dict[str, list[str]]:
    """Write the files. Returns texts that name them, by the name of the source."""
    return {
        "digits": ["digits"], "parquet": _parquet(folder), "folder": _folders(folder), "csv": _csv(folder),
        "jsonl": _jsonl(folder), "idx": _idx(folder), "cifar": _cifar(folder), "npz": _npz(folder), "npy": _npy(folder),
    }  # fmt: skip


def _file(path: Path, data: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def _parquet(folder: Path) -> list[str]:
    images = pa.array([{"bytes": b"image %d" % row, "path": f"{row}.png"} for row in range(3)])
    named = json.dumps({"info": {"features": {"label": {"names": ["low", "high"]}}}})
    tables = {
        "images": pa.table({"image": images, "label": [1, 0, None]}).replace_schema_metadata({"huggingface": named}),
        "texts": pa.table({"text": WORDS, "label": ["b", "a", "b"], "id": [7, 8, 9]}),
        "lists": pa.table({"array": pa.array(NUMBERS.tolist(), pa.list_(pa.list_(pa.float32())))}),
        "tensors": pa.table({"x": pa.FixedShapeTensorArray.from_numpy_ndarray(NUMBERS.astype(np.int16)), "y": [0, -1, 2]}),
    }
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet")
    for number in (1, 0):
        (folder / "shards").mkdir(exist_ok=True)
        pq.write_table(tables["texts"].slice(number, 1), folder / f"shards/x-0000{number}-of-00002.parquet")
    return [*(f"{folder}/{name}.parquet" for name in tables), f"{folder}/shards"]


def _folders(folder: Path) -> list[str]:
    for name in ("b/2.png", "a/ä.JPG", "a/inner/1.png", "a/.hidden", "B/1.png"):
        _file(folder / "classes" / name, name.encode())
    for name in ("b.png", "a.png"):
        _file(folder / "flat" / name, name.encode())
    return [f"{folder}/classes", f"{folder}/flat"]


def _csv(folder: Path) -> list[str]:
    quoted = ['"' + words.replace('"', '""') + '"' for words in WORDS]
    numbers = "\ufefftext,label\n" + "".join(f"{words},{label}\n" for words, label in zip(quoted, (3, "", -1), strict=True))
    names = "id;intent;words\r\n" + "".join(f"r{row};{row or 'none'};{words}\r\n" for row, words in enumerate(quoted))
    first = _file(folder / "numbers.csv", numbers.encode())
    second = _file(folder / "names.csv.gz", gzip.compress(names.encode()))
    return [first, f"csv({second!r}, text='words', label='intent', delimiter=';')"]


def _jsonl(folder: Path) -> list[str]:
    rows = [{"text": words, "label": label} for words, label in zip(WORDS, ("b", None, "a"), strict=True)]
    return [_file(folder / "x.jsonl", "\n\n".join(map(json.dumps, rows)).encode())]


def _idx(folder: Path) -> list[str]:
    def packed(code: int, values: np.ndarray) -> bytes:
        head = struct.pack(f">HBB{values.ndim}I", 0, code, values.ndim, *values.shape)
        return gzip.compress(head + values.astype(values.dtype.newbyteorder(">")).tobytes())

    colour, grey = (_file(folder / f"{name}.gz", packed(8, each)) for name, each in (("c", PIXELS), ("g", PIXELS[..., 0])))
    labels = _file(folder / "labels.gz", packed(12, np.array([2, 0, 1], np.int32)))
    numbers = _file(folder / "numbers.gz", packed(13, NUMBERS))
    return [f"idx({grey!r}, {labels!r})", f"idx({colour!r})", f"idx({numbers!r})"]


def _cifar(folder: Path) -> list[str]:
    planes = [(np.arange(3072) * factor % 251).astype(np.uint8).tobytes() for factor in (7, 11)]
    ten = _file(folder / "data_batch_1.bin", b"\x03" + planes[0] + b"\x01" + planes[1])
    hundred = _file(folder / "train.bin", b"\x03\x63" + planes[0])
    _file(folder / "coarse_label_names.txt", b"fish\nfruit\n")
    return [f"cifar({ten!r})", f"cifar({hundred!r})", f"cifar({hundred!r}, coarse=True)"]


def _npz(folder: Path) -> list[str]:
    np.savez(folder / "x.npz", x=NUMBERS.astype(">f2"), y=np.array(["b", "a", "ü"]), id=np.arange(3), pixels=PIXELS[..., 0])
    return [f"{folder}/x.npz", f"npz('{folder}/x.npz', input='pixels', label='id', kind='image')"]


def _npy(folder: Path) -> list[str]:
    np.save(folder / "x.npy", PIXELS)
    return [f"{folder}/x.npy", f"npy('{folder}/x.npy', kind='image')"]
