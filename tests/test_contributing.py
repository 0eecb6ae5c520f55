"""CONTRIBUTING.md is followed to the letter, on a copy of the repository: what it adds can be named, and computes."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from math import log
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
NEEDED = (
    "pipeline", "stages", "softcache_export.py", "tests", "docs", "examples", "dvc.yaml", "params.yaml", "pyproject.toml",
    "README.md",
)  # fmt: skip
RUFF = Path(sys.executable).with_name("ruff")
ADDED = ("policy invert", "model pooled", "loss rkl", "optimizer rmsprop", "schedule parabola")  # as they are recorded

STEP = re.compile(
    r"^\d+\. In (?:a new file )?`(?P<file>[^`]+)`(?:, (?P<how>[a-z ]+?)(?: `(?P<place>[^`]+)`)?)?(?:, a sample)?:"
    r"(?: `(?P<text>[^`]+)`$|\n\n   ```python\n(?P<block>.*?)\n   ```$)",
    re.MULTILINE | re.DOTALL,
)


class Step(NamedTuple):
    file: str
    how: str | None  # None: the file is new
    place: str | None
    text: str | None
    block: str | None

    def apply(self, folder: Path) -> None:
        """Do what the step says."""
        path, code = folder / self.file, textwrap.dedent(self.block or "")
        if self.how is None:
            assert not path.exists()
            path.write_text(code + "\n", encoding="utf-8")
            return
        held = path.read_text(encoding="utf-8")
        if self.how == "at the end":
            path.write_text(f"{held.rstrip()}\n\n\n{code}\n", encoding="utf-8")
            return
        head, _, tail = self.place.partition("…")
        found = list(re.finditer(rf"^( *){re.escape(head)}", held, re.MULTILINE))
        assert len(found) == 1, f"{self.file}: {len(found)} lines begin with {head!r}"
        [line] = found
        end = held.index("\n", line.end())
        if self.how == "before the line":
            at, new = line.start(), f"{code}\n\n\n"
        elif self.how == "under the line":
            at, new = end, f"\n{line[1]}{self.text}"
        else:
            between = {"into": ", ", "into the line": "   "}[self.how]
            inside = held[line.end() : held.index(tail, line.end()) if tail else end]
            at, new = line.end() + len(inside.rstrip().removesuffix(",")), between + self.text
        path.write_text(held[:at] + new + held[at:], encoding="utf-8")


STEPS = [Step(**found.groupdict()) for found in STEP.finditer(PAGE)]


def run(folder: Path, *words: object) -> str:
    """What a command prints, which must succeed; Python finds the code of `folder`."""
    env = {**os.environ, "PYTHONPATH": str(folder), "SOFTCACHE_DEVICE": "cpu"}
    done = subprocess.run([*map(str, words)], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def followed(tmp_path_factory) -> Path:
    """A copy of the repository, after every step."""
    folder = tmp_path_factory.mktemp("followed")
    for name in NEEDED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".dvc"))
        else:
            shutil.copy(ROOT / name, folder / name)
    for step in STEPS:
        step.apply(folder)
    run(folder, RUFF, "format", "--no-cache", ".")
    printed = run(folder, sys.executable, "tests/behaviour.py")
    assert printed.splitlines() == [f"recorded {name}, version 1" for name in ADDED]
    run(folder, sys.executable, "docs/commands.py")
    return folder


def test_every_step_is_understood():
    numbered = re.findall(r"^\d+\. (.*)", PAGE, re.MULTILINE)
    assert len(STEPS) == sum(not line.startswith("Run ") for line in numbered) > 30
    assert PAGE.count("```python") == sum(step.block is not None for step in STEPS)


def test_the_golden_values_are_recorded_and_the_old_ones_stay(followed):
    old, new = (json.loads((folder / "tests/golden/versions.json").read_text()) for folder in (ROOT, followed))
    assert new.keys() - old.keys() == set(ADDED)
    assert {name: new[name] for name in old} == old


def test_what_was_added_can_be_named_and_computes(followed):
    code = """if True:
        import numpy as np, torch, pipeline.training.losses
        from pipeline.data.inputs.array import Arrays
        from pipeline.data.views import Policy
        from pipeline.models.build import build, parse_model
        print(pipeline.training.losses.__file__)
        loss = pipeline.training.losses.SoftLoss.parse("rkl")
        print(loss(torch.tensor([[0.0, 3.0]]).log1p(), torch.zeros(1, 2), None, 1.0).item())
        net = build(parse_model("pooled(size=3)"), Arrays("uint8", (2, 6, 9)), 4)
        print([list(each.shape) for each in net.parameters()], list(net(torch.zeros(5, 2, 6, 9, dtype=torch.uint8)).shape))
        pixels = Policy.parse("invert()", 0).apply(torch.full((64, 1, 1, 1), 7, dtype=torch.uint8), np.arange(64), np.ones(64))
        print(sorted(set(pixels.flatten().tolist())))
    """
    where, value, shapes, pixels = run(followed, sys.executable, "-c", code).splitlines()
    assert Path(where).is_relative_to(followed)
    assert float(value) == pytest.approx(0.2 * log(0.2 / 0.5) + 0.8 * log(0.8 / 0.5))
    assert shapes == "[[4, 12], [4]] [5, 4]"
    assert pixels == "[7, 248]"


def test_the_new_command_shows_up(followed):
    printed = run(followed, sys.executable, "-c", "from stages.cli import main; main()", "--help")
    assert re.search(r"^  classes +Name the classes of the data", printed, re.MULTILINE)
    assert "\n## softcache classes\n" in (followed / "docs/commands.md").read_text(encoding="utf-8")
    assert "    softcache classes   " in (followed / "README.md").read_text(encoding="utf-8")


def test_the_tests_pass(followed):
    """The new ones, and the old ones that see whether a step is missing."""
    new = [
        f"{step.file}::{name}"
        for step in STEPS
        if step.file.startswith("tests/") and step.block
        for name in re.findall(r"^ *def (test_\w+)", step.block, re.MULTILINE)
    ]
    assert len(new) == 5
    old = [f"tests/test_versions.py::test_what_it_does_is_what_its_version_did[{name}]" for name in ADDED] + [
        "tests/test_versions.py::test_everything_that_can_be_named_has_a_version",
        "tests/test_docs.py::test_the_commands_are_those_of_the_code",
    ]
    printed = run(followed, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *new, *old)
    assert " passed" in printed


def test_the_blocks_are_in_the_style_of_the_house(followed):
    run(followed, RUFF, "check", "--no-cache", ".")
    for step in STEPS:
        assert textwrap.dedent(step.block or "") in (followed / step.file).read_text(encoding="utf-8")  # not formatted anew


def test_the_hooks_run_what_the_page_and_make_run():
    """Local tools only: nothing is fetched."""
    from ruamel.yaml import YAML

    repos = YAML(typ="safe", pure=True).load(ROOT / ".pre-commit-config.yaml")["repos"]
    assert [repo["repo"] for repo in repos] == ["local"]
    assert all(hook["language"] == "system" and hook["entry"].startswith(".venv/bin/") for hook in repos[0]["hooks"])
    linted = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    for line in linted.splitlines():
        command = line.strip().removesuffix(" .")
        assert any(hook["entry"].startswith(command) for hook in repos[0]["hooks"]), command
