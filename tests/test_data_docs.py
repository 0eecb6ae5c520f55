"""docs/data.md, as a new user would follow it: every line of params.yaml reads rows, and the code on the page runs."""

import gzip
import json
import re
import struct
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from conftest import images, png, write_parquet
from pipeline.data.ingest import ingest
from pipeline.data.policies.table import KINDS
from pipeline.data.settings import Views
from pipeline.data.sources.table import parse_source
from pipeline.data.views import open_views
from pipeline.models.build import build, parse_model

PAGE = (Path(__file__).resolve().parents[1] / "docs/data.md").read_text(encoding="utf-8")
NET, SOURCE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SETTINGS = [YAML(typ="safe").load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
LINES = re.findall(r"^\| .* \| `((?:train|transfer): .*)` \|$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A folder with all the files that the page names."""
    folder = tmp_path_factory.mktemp("project")
    data = folder / "data/source"
    encoded, labels = images(12)
    for name in ("train", "test", "unlabelled", "a", "b", "train-00000-of-00002", "train-00001-of-00002"):
        write_parquet(data / f"{name}.parquet", encoded, labels, names=["x", "y", "z"])
    table = pq.read_table(data / "train.parquet")
    pq.write_table(table.rename_columns(["img", "fine_label"]), data / "cifar100.parquet")
    table = {"question": [f"say, {row}" for row in range(6)], "intent": list("ababab")}
    pairs = list(zip(*table.values(), strict=True))
    (data / "train.csv").write_text("question,intent\n" + "".join(f'"{text}",{label}\n' for text, label in pairs))
    (data / "train.tsv").write_text("question\tintent\n" + "".join(f"{text}\t{label}\n" for text, label in pairs))
    (data / "train.jsonl").write_text("".join(json.dumps({"question": text, "intent": label}) + "\n" for text, label in pairs))
    (data / "train.txt").write_text("".join(f"{label} {text}\n" for text, label in pairs))
    for where in ("train/cat", "train/dog", "photos"):
        (data / where).mkdir(parents=True)
        for row in range(3):
            (data / where / f"{row}.png").write_bytes(encoded[row])
    pixels = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    with gzip.open(data / "train-images-idx3-ubyte.gz", "wb") as file:
        file.write(struct.pack(">BBBBIII", 0, 0, 8, 3, 4, 5, 6) + pixels.tobytes())
    with gzip.open(data / "train-labels-idx1-ubyte.gz", "wb") as file:
        file.write(struct.pack(">BBBBI", 0, 0, 8, 1, 4) + bytes([0, 1, 0, 1]))
    (data / "cifar-10-batches-bin").mkdir()
    (data / "cifar-10-batches-bin/data_batch_1.bin").write_bytes((bytes([3]) + bytes(3072)) * 2)
    np.savez(data / "frames.npz", x=np.zeros((4, 20, 40), np.float32), y=np.array([0, 1, 0, 1]))
    np.savez(data / "mnist.npz", x_train=pixels, y_train=np.array([0, 1, 0, 1]))
    (folder / "my_nets.py").write_text(NET)
    (folder / "my_sources.py").write_text(SOURCE)
    return folder


@pytest.fixture(autouse=True)
def inside(project, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.setenv("SOFTCACHE_PLUGINS", "my_nets,my_sources")


def test_the_page_shows_every_source():
    assert len(LINES) == 15
    assert len(SETTINGS) == 3


@pytest.mark.parametrize("line", LINES)
def test_every_line_reads_rows(line):
    [(name, text)] = YAML(typ="safe").load(line).items()
    source = parse_source(text[0] if name == "transfer" else text, name)
    chunks = list(source.chunks(True))
    assert sum(len(chunk.inputs) for chunk in chunks) >= 2
    assert source.form.kind == {"csv": "text", "jsonl": "text", "frames": "array"}.get(
        next((key for key in ("csv", "jsonl", "frames") if key in line), ""), "image"
    )


def test_the_section_ingests(project):
    settings = dict(SETTINGS[0]["ingest"])
    size, fit = settings.pop("size"), settings["fit"]
    for name in ("transfer", "size", "fit"):
        settings.pop(name, None)
    split = ingest(**settings, transfer_set=SETTINGS[0]["ingest"]["transfer"], size=[size], fit=fit, out=project / "out")
    assert split["train"].inputs.shape == (1, 224, 224)


def test_the_section_on_few_labels_keeps_as_many_as_it_says(project):
    splits = ingest(**SETTINGS[1]["ingest"], transfer_set=(), damaged="fail", seed=0, out=project / "few")
    assert np.bincount(splits["train"].labels()).tolist() == [10] * 10
    assert {name: split.rows for name, split in splits.items()} == {"train": 100, "valid": 100, "test": 719, "transfer": 978}
    assert (splits["transfer"].labels() < 0).sum() == 878


def test_the_net_for_text_is_one():
    from pipeline.data.inputs.text import Texts

    net = build(parse_model("my_nets:build(width=16)"), Texts(), 3)
    assert net(net.encode(["some words", ""])).shape == (2, 3)


def test_the_source_of_ones_own_gives_the_rows_of_its_file(project):
    splits = ingest(
        train="my_sources:lines('data/source/train.txt')", valid=2, test=2, transfer_set=(), damaged="fail", seed=0,
        out=project / "own",
    )  # fmt: skip
    assert splits["train"].classes == ("a", "b")
    assert sorted(text for split in splits.values() for text in split.read_all()) == [f"say, {row}" for row in range(6)]


def test_all_views_are_as_many_as_the_page_says():
    settings = SETTINGS[2]["views"]
    _, count = open_views(Views(settings["policy"], settings["views"]))
    assert f"9 · 9 · 2 = {count}" in PAGE


def test_every_step_is_on_the_page():
    for kind, steps in KINDS.items():
        [row] = re.findall(rf"^\| `{kind}` \| (.*`\w+\(.*) \|$", PAGE, re.MULTILINE)
        assert set(re.findall(r"`(\w+)\(", row)) == set(steps)


def test_a_picture_may_have_any_size(project):
    folder = project / "sizes"
    for label in "ab":
        (folder / label).mkdir(parents=True)
        for row in range(4):
            (folder / label / f"{row}.png").write_bytes(png(np.full((5 + row, 9), row, np.uint8)))
    splits = ingest(
        train=str(folder), valid=2, test=2, transfer_set=(), damaged="fail", seed=0, out=project / "sized", size=[6, 4]
    )
    assert splits["train"].read_all().shape == (4, 1, 6, 4)
