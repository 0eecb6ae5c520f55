"""How a net is trained: what each setting may be, and that one more is said in one place."""

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

import projects
from pipeline.base.errors import InputError
from pipeline.base.settings import check
from pipeline.models.training import Training

ROOT = Path(__file__).resolve().parents[3]


def training(**changes) -> Training:
    return Training(**{"optimizer": "sgd(lr=0.1)", "epochs": 1, "batch_size": 1} | changes)


def test_what_need_not_be_given():
    """Trainings of those who leave it out change with these."""
    check(training())
    assert asdict(training()) == {
        "optimizer": "sgd(lr=0.1)", "schedule": "constant", "epochs": 1, "batch_size": 1, "max_norm": None, "clip_grad": None,
        "label_smoothing": 0.0, "virtual_teacher": None, "draws": 1, "ema": None, "memory": 4.0,
        "keep": "last", "patience": None, "precision": "float32",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs: expected a number above 0, found 0"),
        ({"batch_size": 0}, "batch_size: expected a number above 0, found 0"),
        ({"max_norm": 0.0}, "max_norm: expected a number above 0, found 0.0"),
        ({"clip_grad": 0.0}, "clip_grad: expected a number above 0, found 0.0"),
        ({"label_smoothing": 1.5}, "label_smoothing: expected a number from 0 to 1, found 1.5"),
        ({"draws": 0}, "draws: expected a number above 0, 64 at most, found 0"),
        ({"ema": 0.0}, "ema: expected a number above 0, 0.999999 at most, found 0.0"),
        ({"ema": 1.0}, "ema: expected a number above 0, 0.999999 at most, found 1.0"),
        ({"memory": 0.0}, r"memory: expected a number above 0, 1e\+09 at most, found 0.0"),
        ({"memory": math.inf}, r"memory: expected a number above 0, 1e\+09 at most, found inf"),
        ({"patience": 0}, "patience: expected a number above 0, found 0"),
        ({"keep": "first"}, "keep: expected last or best, found 'first'"),
        ({"precision": "float16"}, "precision: expected float32 or bfloat16, found 'float16'"),
    ],
)
def test_a_setting_out_of_range_is_named(changes, message):
    with pytest.raises(InputError, match=message):
        check(training(**changes))


def test_a_setting_more_takes_one_edit(tmp_path, monkeypatch):
    """In a copy of the tree: then it is an option, a key of params.yaml, checked, and in model.json."""
    project, tree = tmp_path / "project", tmp_path / "tree"
    project.mkdir()
    projects.make(project, monkeypatch)
    for wing in ("pipeline", "stages"):
        shutil.copytree(ROOT / wing, tree / wing, ignore=shutil.ignore_patterns("__pycache__"))
    path = tree / "pipeline/models/training.py"
    path.write_text(path.read_text() + '    odd_rate: float | None = setting("Of odd ones.", default=None, above=0, most=3)\n')

    def says(code: int, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", "from stages.cli import main; main()", *words], cwd=project, capture_output=True, text=True,
            env=os.environ | {"PYTHONPATH": str(tree), "COLUMNS": "120"},
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    for command in ("teach", "distill"):
        assert "--odd_rate, --odd-rate NUMBER   Of odd ones." in says(0, command, "--help")
    settings = project / "params.yaml"

    def write(value: object) -> None:
        settings.write_text(projects.PARAMS.replace("recipe: {", f"recipe: {{odd_rate: {value}, "))

    write(4)
    assert "params.yaml, recipe.odd_rate: expected a number above 0, 3 at most, found 4.0." in says(2, "distill", "s", "--hard")
    write("often")
    assert "params.yaml, recipe.odd_rate: expected a number, found 'often'." in says(2, "distill", "s", "--hard")
    write(2)
    model = project / "data/students/s-hard/model.json"
    for options, expected in (((), 2.0), (("--odd-rate", "1.5"), 1.5)):
        says(0, "distill", "s", "--hard", *options)
        assert json.loads(model.read_text())["recipe"]["odd_rate"] == expected
    says(0, "sweep", "all")
    assert json.loads((project / "data/sweeps/all/students/s-T2-alpha0.5/model.json").read_text())["recipe"]["odd_rate"] == 2.0
