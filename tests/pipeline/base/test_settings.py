"""A setting is said in one place."""

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import projects
from pipeline.base.errors import InputError
from pipeline.base.settings import Name, check, gathered, setting, settings_of

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Odd:
    size: int = setting("How many.", above=0, most=9)
    share: float = setting("Of all.", default=0.5, least=0, most=1)
    more: int = setting("Beside them.", default=1, least=1, key="others")
    way: str = setting("Which.", default="up", choices=("up", "down"))
    bound: float | None = setting("None for none.", default=None)
    names: tuple[Name, ...] = setting("Of all.", default=())
    weights: tuple[float, ...] = setting("Of all.", default=(), above=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 0}, "size: expected a number above 0, 9 at most, found 0."),
        ({"size": 10}, "size: expected a number above 0, 9 at most, found 10."),
        ({"share": -0.1}, "share: expected a number from 0 to 1, found -0.1."),
        ({"share": 1.1}, "share: expected a number from 0 to 1, found 1.1."),
        ({"more": 0}, "others: expected 1 or more, found 0."),
        ({"way": "left"}, "way: expected up or down, found 'left'."),
        ({"bound": math.inf}, "bound: expected a finite number, found inf."),
        ({"bound": math.nan}, "bound: expected a finite number, found nan."),
        ({"weights": (1.0, 0.0)}, "weights: expected a number above 0, found 0.0."),
    ],
)
def test_a_setting_out_of_range_is_named(changes, message):
    with pytest.raises(InputError, match="Correct the setting") as raised:
        check(Odd(**{"size": 1} | changes))
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    "changes", [{"size": 9}, {"share": 0}, {"share": 1}, {"more": 1}, {"way": "down"}, {"bound": -1e9}, {"weights": (1, 1)}]
)
def test_a_setting_in_range_is_fine(changes):
    check(Odd(**{"size": 1} | changes))


def test_settings_are_gathered_by_their_keys():
    assert list(settings_of(Odd)) == ["size", "share", "others", "way", "bound", "names", "weights"]
    given = {"size": 2, "share": 0.1, "others": 3, "way": "up", "bound": None, "names": ("a",), "weights": (), "beside": 1}
    assert gathered(Odd, given) == Odd(2, 0.1, 3, "up", None, ("a",))


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
