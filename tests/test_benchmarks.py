"""The benchmarks still run, on little data: what they print is judged by whoever runs them in earnest."""

import json

import pytest
import torch
from ruamel.yaml import YAML

from benchmarks import (
    capture,
    export,
    fairness,
    features,
    imported,
    loops,
    page,
    reading,
    scaling,
    stores,
    streaming,
    training,
    views,
    workers,
)
from benchmarks.measure import write_splits, write_teacher
from pipeline.base import runtime

pytestmark = pytest.mark.soak


@pytest.fixture(autouse=True)
def prepared():
    runtime.prepare("cpu")


def test_capture_and_reading(tmp_path):
    write_splits(tmp_path / "transfer", 70_000, classes=10, size=4)  # eight spans and some: half of them fit the window
    write_teacher(tmp_path / "teacher", "mlp(hidden=[16])", tmp_path / "transfer")
    capture.against_forward("capture", tmp_path, "float16", 1.0, 1)
    assert capture.peak_bytes(tmp_path) > 10**7
    reading.in_memory(tmp_path / "cache", "memory", 1)
    reading.streamed(tmp_path / "cache", 1, samples=512)
    reading.verifying(tmp_path / "cache", 1)


def test_stores(monkeypatch, capsys):
    for name, value in {"CLASSES": 20, "SPANS": 1, "TEACHER": "mlp(hidden=[4])"}.items():
        monkeypatch.setattr(stores, name, value)
    monkeypatch.setattr("sys.argv", ["stores", "--times", "1"])
    stores.main()
    assert capsys.readouterr().out.count("store adds to computing") == 2


def test_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "WIDER", "mlp(hidden=[16])")
    monkeypatch.setattr(workers, "TEACHER", "mlp(hidden=[16])")
    workers.several(tmp_path / "several", 16, 1)
    workers.handed(tmp_path / "handed", 1, 1)


def test_streaming(tmp_path, capfd):
    """From a store of links, all rows of all spans come; what that takes is judged on more of them."""
    streaming.prepare(tmp_path, 12)
    with streaming.store(tmp_path) as variables:
        streaming.streamed("it", "s3://bucket/data", 6 * streaming.SPAN_BYTES, variables, 2, str(tmp_path / "nearby"), "1")
    assert "0.4 GB an epoch" in capfd.readouterr().out
    assert len(list((tmp_path / "nearby").iterdir())) > streaming.SPANS


def test_import(tmp_path):
    imported.growing(tmp_path, 100, 12_000)


def test_views(monkeypatch):
    monkeypatch.setattr(views, "BATCH", 8)
    views.alone(1)
    views.others(1)
    views.against("flip", "flip()", torch.nn.Identity(), views.pixels(8, 32), 1)  # torchvision is not installed


def test_training(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "ROWS", 1280)
    monkeypatch.setattr(training, "EPOCHS", 1)
    training.prepare(tmp_path, None)
    cached = training.lesson_of(tmp_path, training.soft_of(tmp_path), [training.BOTH])
    swept = training.lesson_of(tmp_path, training.soft_of(tmp_path), training.SWEPT.values())
    training.against_labels(cached, training.lesson_of(tmp_path, None, [training.HARD]), 1)
    training.against_live(tmp_path, cached, 1)
    training.sweeping(tmp_path)
    training.same_students(swept)
    training.against_plain_loops(tmp_path, cached, 1, rows=256)
    training.precisions(cached, 1)
    training.threads(cached, swept, 1)


def test_features(tmp_path):
    features.prepare(tmp_path, None, 1280)
    write_teacher(tmp_path / "teachers/a", features.TEACHER, tmp_path / "transfer")
    features.capturing(tmp_path, 1)
    features.learning(tmp_path, 1)


def test_loops():
    for title, (_, shape) in loops.NETS.items():
        loops.one_net(title, loops.Data.of(300, shape), 1)
    loops.many_nets(loops.Data.of(300, (1, 28, 28)), 1)


def test_export(tmp_path):
    export.synthetic(tmp_path / "data")
    export.against_teachers(tmp_path / "data", "student", ["a", "b"], tmp_path / "exports", 1)


def test_fairness(tmp_path, monkeypatch, capsys):
    params = YAML(typ="safe", pure=True).load(fairness.PARAMS)
    params |= {"recipe": {**params["recipe"], "epochs": 2, "seeds": [0, 1]}, "teach": {**params["teach"], "epochs": 2}}
    (tmp_path / "params.yaml").write_text(json.dumps(params))
    monkeypatch.setattr(fairness, "PARAMS", tmp_path / "params.yaml")
    fairness.main(fairness.PARTS)
    printed = capsys.readouterr().out
    assert printed.count("hard labels, its own recipe") == 2
    assert printed.count(" gains ") == 6


def test_page(monkeypatch, capsys):
    for name, value in {"CLASSES": 30, "STUDENTS": 2, "EPOCHS": 2, "MOVES": 2}.items():
        monkeypatch.setattr(page, name, value)
    monkeypatch.setattr("sys.argv", ["page", "--times", "1"])
    page.main()
    assert "size of the page" in capsys.readouterr().out


def test_scaling(monkeypatch):
    monkeypatch.setattr(scaling, "MANY", (100,))
    found = scaling.measure(1)
    assert found.span_bytes == 64 * (64 * 16_000 + 4) + 64 * 16 + 4
    assert found.manifest_bytes > 300
