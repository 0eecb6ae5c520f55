"""What several tests need: tiny data sets, settings, and a way to run commands."""

import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

# A script in this folder would take tests/pipeline, which is no package, for the library.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: read by torch when it is imported, and by runtime.py
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import servers
from pipeline.cache.capture import Captured, capture
from pipeline.cache.settings import Keep
from pipeline.data import splitfile, splits
from pipeline.data.inputs.image import Images
from pipeline.data.inputs.text import Texts
from pipeline.data.settings import Views
from pipeline.data.splitfile import Rows
from pipeline.data.splits import Split, bind_splits, open_splits
from pipeline.models import latency
from pipeline.models.build import build, parse_model
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.modelfile import Data, Net, Shown
from pipeline.models.training import Training
from pipeline.results import tables
from pipeline.results.gallery import Gallery
from pipeline.results.lineage import Lineage
from pipeline.training.recipe import Recipe

ROOT = Path(__file__).resolve().parents[1]
latency.SECONDS = 0.01  # tests look at no time
RECIPE = Training(optimizer="sgd(lr=0.1)", schedule="constant()", epochs=1, batch_size=64)

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


def write_split(path: Path, pixels: np.ndarray, labels: np.ndarray, classes: int) -> Split:
    """A split of these grey pixels (N, 1, H, W) uint8, in this order, as ingest would write it, with those beside it."""
    ids = [f"row-{row}" for row in range(len(pixels))]
    names = [str(label) for label in range(classes)]
    encoded = [png(picture[0]) for picture in pixels]
    path.parent.mkdir(parents=True, exist_ok=True)
    inputs = Images("L", pixels.shape[1:])
    span = splits.span_rows(classes, inputs.row_bytes(0))
    splitfile.write_split(path, [Rows.of(ids, encoded, labels)], role=path.stem, classes=names, inputs=inputs, span=span)
    bind_splits(path.parent, sorted(other.stem for other in path.parent.glob("*.parquet")))
    return open_splits(path.parent, [path.stem])[path.stem]


def write_texts(folder: Path, *, rows: int = 28, span: int = 8) -> Path:
    """Splits of sentences in three classes below `folder`/transfer; those for validation and tests have ten rows."""
    (folder / "transfer").mkdir()
    counts = {"train": rows, "valid": 10, "test": 10}
    for name, count in counts.items():
        stored = [f"{name} {row} of so many words as {row * row}".encode() for row in range(count)]
        held = [Rows.of([f"{name}-{row}" for row in range(count)], stored, np.arange(count) % 3)]
        path = folder / f"transfer/{name}.parquet"
        splitfile.write_split(path, held, role=name, classes=["0", "1", "2"], inputs=Texts(), span=span)
    bind_splits(folder / "transfer", list(counts))
    return folder


def write_teacher(folder: Path, net: torch.nn.Module, split: Split | Checkpoint, *, model: str, seed: int = 0) -> None:
    """A teacher with these weights, as `teach` writes it, with a history of one epoch; of a split, or as a teacher was."""
    if isinstance(split, Checkpoint):
        data = split.data
    else:
        there = (split.path.parent / "valid.parquet").exists()
        data = Data.of(split, open_splits(split.path.parent, ["valid"])["valid"] if there else split)
    row = {"seed": seed, "epoch": 1, "lr": 0.1, "train_loss": 1.0, "valid_accuracy": 0.5, "valid_nll": 1.0}
    folder.mkdir(parents=True, exist_ok=True)
    Checkpoint.write(
        folder, kind="teacher", name=folder.name, model=parse_model(model), split=split, nets={Net(seed, None, 1): net},
        history=[row], recipe=RECIPE, data=data, views=Shown("none()", seed, ("version 1",), None),
    )  # fmt: skip


def change_teacher(folder: Path, change: Callable[[torch.nn.Module], object]) -> None:
    """Train a teacher anew, so to speak: `change` is called with its net."""
    old = Checkpoint.teacher(folder)
    net = old.load(old.nets[0], torch.device("cpu"))
    with torch.no_grad():
        change(net)
    write_teacher(folder, net, old, model=old.model)


def write_stage_one(folder: Path, *, teachers: Sequence[str] = "a", rows: int = 20, classes: int = 3) -> Path:
    """Splits of random 4×4 pixels in spans of 8 rows below `folder`/transfer, and small nets below `folder`/teachers."""
    generator = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.data.splits.span_rows", lambda classes, row_bytes: 8)
        for name, count in {"train": rows, "valid": 5, "test": 3}.items():
            pixels = generator.integers(0, 256, (count, 1, 4, 4), dtype=np.uint8)
            write_split(folder / f"transfer/{name}.parquet", pixels, np.arange(count) % classes, classes)
    split = open_splits(folder / "transfer", ["train"])["train"]
    for seed, name in enumerate(teachers):
        net = build(parse_model("mlp(hidden=[5])"), Images("L", (1, 4, 4)), classes, seed=seed)
        write_teacher(folder / "teachers" / name, net, split, model="mlp(hidden=[5])", seed=seed)
    return folder


def run_capture(folder: Path, name: str = "a", **changes) -> Captured:
    """Capture a teacher of write_stage_one, in three views, to `folder`/caches/`name`."""
    kept = {"tile": 4} | {key: changes.pop(key) for key in ("knowledge", "dtype", "features", "tile") if key in changes}
    settings = {"keep": Keep(**kept)} | changes
    views = Views(*(settings.pop(key, usual) for key, usual in (("policy", "shift(1)"), ("views", 3), ("view_seed", 5))))
    return capture(
        teacher=folder / "teachers" / name, splits=folder / "transfer", work=folder / "work",
        out=folder / "caches" / name, provenance=folder / f"provenance/{name}.json", device=torch.device("cpu"),
        views=views, **settings,
    )  # fmt: skip


def recipe(**changes) -> Recipe:
    """A recipe of plain settings, of which some are others."""
    settings = {
        "optimizer": "sgd(lr=0.5, momentum=0.9)",
        "schedule": "constant",
        "epochs": 2,
        "batch_size": 16,
        "max_norm": None,
    }
    return Recipe.parse(**(settings | changes))


NO_GALLERY = Gallery(1, ("x", "y"), ("a",), (1.0,), "probabilities", None, None, ())
NO_LINEAGE = Lineage(1, Images("L", (1, 4, 4)), 2, {}, {}, (), {}, (), None)


def measured(plots: Path) -> dict[tuple[str, str], list[tables.RunRow]]:
    """What an evaluation measured, by run and split: a row per seed, without those that diverged."""
    found: dict[tuple[str, str], list[tables.RunRow]] = {}
    for row in tables.Tables.open(plots).read(tables.RunRow):
        if row.diverged is None:
            found.setdefault((row.run, row.split), []).append(row)
    return found


def write_tables(folder: Path, *, gallery: Gallery = NO_GALLERY, lineage: Lineage = NO_LINEAGE, **rows: Sequence[dict]) -> Path:
    """The tables that an evaluation writes; each has no rows where none are given, and null where a row says nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    held = {
        name: [kind(**dict.fromkeys(kind._fields) | row) for row in rows.get(name, [])] for kind, name in tables.NAMES.items()
    }
    tables.write(folder, **held, gallery=gallery, lineage=lineage, basis=tables.Basis({}, {}, {}))
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, by its path; of a file itself, as ".", its bytes."""
    paths = sorted((folder, *folder.rglob("*")))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.is_file()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A Parquet file of 48 small images in 3 classes."""
    return write_parquet(tmp_path / "source.parquet", *images(48), names=["low", "middle", "high"])


LONGEST = [
    "test_dvc",
    "test_resume",
    "test_sweep",
    "test_cli",
    "test_kills",
    "test_damage",
    "test_stack",
    "test_commands",
    "test_endings",
]


@pytest.fixture(scope="session")
def seaweed() -> Iterator[dict[str, str]]:
    """The environment of an object store on this machine, which all tests of the process share."""
    with servers.seaweedfs() as environment:
        yield environment


@pytest.fixture
def bucket(seaweed, monkeypatch) -> str:
    """The URL of an empty folder in the store, which the environment leads to."""
    servers.enter(monkeypatch, seaweed)
    return servers.folder()


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A plug-in with a net that has tied weights, batch statistics and a buffer, and the net itself, trained, so to speak."""
    import plugs
    from foreign import NETS

    space: dict = {}
    exec(NETS, space)
    torch.manual_seed(0)
    net = space["build"]((3, 8, 8), 3)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.copy_(torch.rand(tensor.shape) * 4 + 0.1)
    with plugs.module(tmp_path, monkeypatch, "nets_of_theirs", NETS):
        yield net.eval()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no worker is left with one of them when the others are done."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mnist", type=Path, help="Folder with mnist-train.parquet and mnist-test.parquet.")


@pytest.fixture
def mnist(request: pytest.FixtureRequest) -> Path:
    """The folder given by --mnist; tests that want it skip without."""
    folder = request.config.getoption("--mnist")
    if folder is None:
        pytest.skip("needs --mnist <folder with mnist-train.parquet and mnist-test.parquet>")
    return folder
