"""What several tests need: tiny data sets, settings, and a way to run commands."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline import transfer

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def png(pixels: np.ndarray) -> bytes:
    """Pixels (H, W) or (H, W, 3) uint8 as a PNG file."""
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, format="PNG")
    return held.getvalue()


def images(count: int, *, seed: int = 0, size: int = 6, classes: int = 3) -> tuple[list[bytes], list[int]]:
    """Noisy images that can be learned: class c is brighter in its own band of rows."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 120, (count, size, size), dtype=np.uint8)
    labels = [row % classes for row in range(count)]
    for row, label in enumerate(labels):
        pixels[row, label * size // classes : (label + 1) * size // classes] += 100
    return [png(picture) for picture in pixels], labels


def write_parquet(path: Path, encoded: list[bytes | None], labels: list[int | None] | None, **extra) -> Path:
    """A Parquet file in the Hugging Face image layout; `extra`: further columns, and names= for class names."""
    names = extra.pop("names", None)
    columns = {"image": pa.array([{"bytes": data, "path": f"{row}.png"} for row, data in enumerate(encoded)], IMAGE)}
    if labels is not None:
        columns["label"] = pa.array(labels, pa.int64())
    table = pa.table({**columns, **extra})
    if names:
        features = {"label": {"_type": "ClassLabel", "names": names}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def write_split(path: Path, pixels: np.ndarray, labels: np.ndarray, classes: int) -> transfer.Split:
    """A split of these grey pixels (N, 1, H, W) uint8, in this order, as ingest would write it."""
    ids = [f"row-{row}" for row in range(len(pixels))]
    names = [str(label) for label in range(classes)]
    encoded = [png(picture[0]) for picture in pixels]
    path.parent.mkdir(parents=True, exist_ok=True)
    transfer.write(path, ids, encoded, labels, classes=names, mode="L", size=pixels.shape[2:])
    return transfer.Split.open(path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A Parquet file of 48 small images in 3 classes."""
    return write_parquet(tmp_path / "source.parquet", *images(48), names=["low", "middle", "high"])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mnist", type=Path, help="Folder with mnist-train.parquet and mnist-test.parquet.")


@pytest.fixture
def mnist(request: pytest.FixtureRequest) -> Path:
    """The folder given by --mnist; tests that want it skip without."""
    folder = request.config.getoption("--mnist")
    if folder is None:
        pytest.skip("needs --mnist <folder with mnist-train.parquet and mnist-test.parquet>")
    return folder
