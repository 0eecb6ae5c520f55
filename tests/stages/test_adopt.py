"""softcache adopt, as a user gives it: by the README, by options, and by an entry of params.yaml."""

import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import foreign
from conftest import ROOT, measured, tree
from elsewhere import lines, made, write_npz
from pipeline.cache.reader import Cache
from pipeline.data.splits import Split
from pipeline.models.checkpoint import Checkpoint
from projects import says

SECTION = (ROOT / "README.md").read_text().split("## Your own teacher in five minutes")[1].split("\n## ")[0]
COMMANDS = re.findall(r"^    softcache (.*)$", SECTION, re.MULTILINE)
SETTINGS = """
ingest: {train: data/source/train, test: 0.25, valid: 0.25, size: 8}
teach: {optimizer: sgd(lr=0.1), epochs: 1, batch_size: 8}
teachers:
  own: {model: "mlp(hidden=[5])", seed: 1}
  big: {model: "onnx('data/source/net.onnx')"}
  weights: {model: "mlp(hidden=[5])", weights: data/source/mine.pt, classes: {cat: 2, dog: [0, 3], eel: 1}}
  api: {logits: [data/source/logits.npz]}
views: {policy: none, views: 1}
capture: {dtype: float32, tile: 8}
recipe: {optimizer: sgd(lr=0.1), epochs: 1, batch_size: 8, seeds: [0]}
students: {small: {model: "mlp(hidden=[3])"}}
temperatures: [1]
distill: {teachers: [own, big, weights, api], alpha: 0.5}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Class folders of pictures, and an ONNX file for pictures of 8×8 pixels."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for row in range(24):
        folder = tmp_path / "data/source/train" / foreign.CLASSES[row % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{row}.png")
    shutil.copyfile(folder / "23.png", tmp_path / "data/source/photo.jpg")
    foreign.onnx_file(tmp_path / "data/source/net.onnx")
    return tmp_path


def words(command: str) -> list[str]:
    import shlex

    return shlex.split(command.replace("--size 32", "--size 8").replace("channels=[16, 32, 64]", "channels=[4]"))


def test_the_readme_leads_from_a_teacher_to_a_student_that_predicts(project):
    """Its first commands, on pictures of 8×8 pixels."""
    shutil.copyfile(ROOT / "params.yaml", "params.yaml")
    first = COMMANDS[: next(index for index, line in enumerate(COMMANDS) if line.startswith("predict")) + 1]
    assert [line.split()[0] for line in first] == ["ingest", "adopt", "capture", "distill", "export", "predict"]
    said = [says(0, *words(line)) for line in first]
    assert re.search(r"wrote data/teachers/big: 131 parameters, right on \d+\.\d\d% of \d validation rows", said[1])
    assert re.search(r"photo\.jpg: (cat|dog|eel) \d", said[-1])


def test_every_other_teacher_of_the_readme_is_read_by_the_command(project):
    """What they name is not here; but the options are there, and the specs parse."""
    from pipeline.models.build import parse_model
    from stages.adopt import command

    others = [line for line in COMMANDS if line.startswith("adopt")]
    assert len(others) == 6
    for line in others:
        given = command.make_context("adopt", words(line)[1:]).params
        assert (given["model"] is None) == bool(given["logits"])
        if given["model"] and ":" not in given["model"]:
            parse_model(given["model"])


def test_entries_of_params_are_adopted_by_teach(project):
    (project / "params.yaml").write_text(SETTINGS)
    says(0, "ingest")
    torch.manual_seed(0)
    layers = [torch.nn.Linear(192, 5), torch.nn.ReLU(), torch.nn.Linear(5, 4)]
    net = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Identity(), *layers)
    torch.save(net.state_dict(), "data/source/mine.pt")
    logits = made(project / "data", views=1)
    write_npz(project / "data/source/logits.npz", lines(project / "data", logits))
    says(0, "versions")
    for name, kind in {"own": "teacher", "big": "adopted", "weights": "adopted", "api": "imported"}.items():
        assert f"wrote data/teachers/{name}: " in says(0, "teach", name)
        assert Checkpoint.teacher(project / "data/teachers" / name).kind == kind
        before = tree(project / "data/teachers" / name)
        if kind != "teacher":
            says(0, "adopt", name)
            assert tree(project / "data/teachers" / name) == before
        says(0, "capture", name)
    found = Cache.open(project / "data/caches/api").read("valid")[0]
    np.testing.assert_array_equal(found, logits["valid"][0])
    assert Checkpoint.teacher(project / "data/teachers/weights").outputs.groups == ((2,), (0, 3), (1,))
    versions = (project / "data/versions/teach/weights.txt").read_text()
    assert "adopt: version 1\n" in versions
    assert re.search(r"^file data/source/mine.pt: [0-9a-f]{64}$", versions, re.MULTILINE)
    assert "file data/source/net.onnx: " in (project / "data/versions/teach/big.txt").read_text()
    assert "file data/source/logits.npz: " in (project / "data/versions/teach/api.txt").read_text()
    assert "optimizer sgd" in (project / "data/versions/teach/own.txt").read_text()
    says(0, "distill", "small", "-T", "1")
    says(0, "distill", "small", "--hard")
    for command in ("evaluate", "report", "cost"):
        says(0, command)
    found = measured(project / "data/plots")
    assert {"big", "api", "small-T1"} <= {run for run, _ in found}
    valid = Split.open(project / "data/transfer/valid.parquet").labels()
    right = (Cache.open(project / "data/caches/big").read("valid")[0].argmax(1) == valid).mean()
    assert found["big", "valid"][0].accuracy == pytest.approx(right)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("big",), "Missing option '--model', or '--logits'"),
        (("big", "more.npz", "--model", "mlp([3])"), "more.npz: expected files after --logits only"),
        (
            ("big", "--model", "mlp([3])", "--logits", "x.npz"),
            "expected --logits, --student, or a model with its weights and classes",
        ),
        (("big", "--model", "mlp([3])", "--classes", "cat"), "expected class=output for each class"),
        (("big", "--model", "onnx('data/source/none.onnx')"), "expected an ONNX file, found none"),
        (("big", "--model", "mlp([3])"), "weights: expected a file with the weights of mlp"),
        (("big", "--logits", "none.npz"), "none.npz"),
    ],
)
def test_one_message_and_nothing_written(project, given, message):
    says(0, "ingest", "--train", "data/source/train", "--test", "0.25", "--valid", "0.25", "--size", "8")
    before = tree(project)
    assert message in says(2, "adopt", *given)
    assert tree(project) == before


def test_what_teach_would_drop_is_refused(project):
    """Its own options say how to train, and nothing of where a teacher comes from."""
    (project / "params.yaml").write_text(SETTINGS)
    says(0, "ingest")
    for given in (("--model", "onnx('other.onnx')"), ("--weights", "none.pt"), ("--epochs", "3")):
        assert f"{given[0]}: big is adopted, not trained; give it to `softcache adopt big`" in says(2, "teach", "big", *given)
    assert not (project / "data/teachers").exists()
