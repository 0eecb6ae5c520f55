"""softcache export and predict, as a user gives them."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import projects
from conftest import png, tree, write_teacher, write_texts
from pipeline.data.splits import open_splits
from pipeline.models.build import build, parse_model
from projects import says


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """A project with a teacher that was exported, by an entry in params.yaml."""
    with pytest.MonkeyPatch.context() as patch:
        folder = projects.make(tmp_path_factory.mktemp("start"), patch)
        with open("params.yaml", "a") as file:
            file.write("exports: {a: {license: mit, calibration: 9}}\n")
        (folder / "printed").write_text(says(0, "export", "a"))
    return folder


@pytest.fixture
def project(start, tmp_path, monkeypatch) -> Path:
    shutil.copytree(start, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_says_what_was_written_and_how_good_it_is(project):
    *models, last = (project / "printed").read_text().splitlines()
    assert [line.split()[0] for line in models] == ["torch", "model.onnx", "model.int8.onnx"]
    assert all(" of 5 validation rows; on one thread " in line and " ms for 64 rows" in line for line in models)
    assert last == "wrote data/exports/a: seed 0; its card is data/exports/a/README.md"


def test_settings_come_from_the_entry_of_the_run(project):
    assert 'license: "mit"\n' in Path("data/exports/a/README.md").read_text()


def test_classes_of_images(project):
    pixels = open_splits(Path("data/transfer"), ["valid"])["valid"].read_all()
    for row, picture in enumerate(pixels):
        Path(f"{row}.png").write_bytes(png(picture[0]))
    lines = says(0, "predict", "a", "0.png", "1.png", "--top", "2").splitlines()
    assert [line.split(": ")[0] for line in lines] == ["0.png", "1.png"]
    assert all(line.count("%") == 2 for line in lines)
    assert lines == says(0, "predict", "data/exports/a", "0.png", "1.png", "--top", "2").splitlines()
    assert says(0, "predict", "a", "0.png", "--int8").startswith("0.png: ")


def test_exports_of_sweeps_are_named_where_one_is_unknown(project):
    shutil.copytree("data/exports/a", "data/exports/some/s-T4")
    assert "expected a folder, or one of a, some/s-T4, found b." in says(2, "predict", "b", "x.png")


def test_predict_needs_no_torch(project, monkeypatch):
    Path("x.png").write_bytes(png(np.zeros((4, 4), np.uint8)))
    expected = says(0, "predict", "a", "x.png")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert says(0, "predict", "a", "x.png") == expected


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("export", "b"), 2, "run: expected one of a, found b. Correct the name, or train it first."),
        (("export", "a", "--seed", "7"), 2, "run a, seed: expected one of 0, found 7."),
        (("export", "../a"), 2, "expected a name such as tiny-T4"),
        (("export", "a", "--license", "mine: #1"), 2, "license: expected letters, digits"),
        (("export", "a", "--calibration", "0"), 2, "expected 1 or more"),
        (("predict", "b", "x.png"), 2, "export: expected a folder, or one of a, found b."),
        (("predict", "data", "x.png"), 2, "data: expected an export, with config.json, found none."),
        (("predict", "a", "none.png"), 2, "none.png: expected a file, found No such file or directory."),
        (("predict", "a", "params.yaml"), 2, "params.yaml: expected a PNG, JPEG or WebP image"),
        (("predict", "a", "x.png", "--top", "0"), 2, "expected 1 or more"),
    ],
)
def test_a_mistake_is_one_message(project, words, code, message):
    before = tree(Path("data"))
    assert message in says(code, *words)
    assert tree(Path("data")) == before


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("a: {licence: mit}", "params.yaml, exports.a.licence: expected one of seed, softmax, license, calibration"),
        ("a: {calibration: none}", "params.yaml, exports.a.calibration: expected a whole number"),
        ("s-T0.5: {}", "params.yaml, exports: expected names without '.' and '/', which DVC cannot address, found s-T0.5"),
    ],
)
def test_wrong_settings_are_named_by_their_place(project, entry, message):
    text = Path("params.yaml").read_text().replace("a: {license: mit, calibration: 9}", entry)
    Path("params.yaml").write_text(text)
    assert message in says(2, "export", "a")
    assert message in says(2, "versions")


def test_a_stage_exports_students_alone(project):
    """A teacher has no folder in data/students, which the stage in dvc.yaml depends on."""
    assert "params.yaml, exports: expected names of students, which DVC trains first, found teacher a." in says(2, "versions")


def test_a_damaged_export_is_damaged_data(project):
    path = Path("data/exports/a/model.onnx")
    path.write_bytes(path.read_bytes()[:-1])
    assert "model.onnx: expected sha256" in says(3, "predict", "a", "params.yaml")


def test_without_onnx_it_says_what_to_install(project, monkeypatch):
    monkeypatch.setattr("pipeline.models.onnxfile.NEEDED", ("onnx", "no_such_library"))
    assert "found no no_such_library. Install them with `pip install softcache[export]`" in says(2, "export", "a")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "expected onnxruntime, found not installed" in says(2, "predict", "a", "params.yaml")


def test_lines_of_text(tmp_path, monkeypatch):
    """What the built-in net for text says of texts that it was given as lines is what it says in torch."""
    import torch

    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    split = open_splits(write_texts(Path("data")) / "transfer", ["train"])["train"]
    net = build(parse_model("bag(width=8, features=99)"), split.inputs, 3, seed=4)
    with torch.no_grad():
        net.logits[-1].weight.mul_(9)
    write_teacher(Path("data/teachers/t"), net, split, model="bag(width=8, features=99)")
    says(0, "export", "t")
    texts = ["so many words", "", "valid 7 row: of 49?", "ÄRGER, ärger"]
    Path("x.txt").write_text("\n".join(texts))
    with torch.no_grad():
        shares = net.eval()(torch.from_numpy(net.encode(texts))).softmax(1)
    lines = says(0, "predict", "t", "x.txt", "--top", "1").splitlines()
    assert lines == [
        f"x.txt, line {row + 1}: {int(found.argmax())} {100 * float(found.max()):.1f} %" for row, found in enumerate(shares)
    ]
    assert json.loads(Path("data/exports/t/config.json").read_text())["encoding"]["name"] == "words"
