"""The pages of docs/ say what the code is: the commands and their options, and the public API with its examples."""

import importlib
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from conftest import run_capture, write_stage_one
from pipeline.data.splits import open_splits
from pipeline.models.checkpoint import Checkpoint
from pipeline.results.export import export
from pipeline.results.exporting import Exporting
from stages.cli import COMMANDS, main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def run(folder: Path, *words: str, **variables: str) -> str:
    """What Python prints; it finds this code, from whatever folder it runs in."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_links_lead_somewhere():
    """To a file that there is and, behind #, to one of its headings."""
    for page in ("CONTRIBUTING.md", "CHANGELOG.md", "docs/api.md", "docs/commands.md", "docs/export.md", "docs/scaling.md"):
        for target, heading in re.findall(r"\]\(([^)#]+)(?:#([^)]*))?\)", (ROOT / page).read_text(encoding="utf-8")):
            if not target.startswith("https://"):
                titles = re.findall(
                    r"^#+ (.*)", (ROOT / page).parent.joinpath(target).read_text(encoding="utf-8"), re.MULTILINE
                )
                assert not heading or heading in {title.lower().replace(" ", "-") for title in titles}, f"{page}: {target}"


# ---------------------------------------------------------------- commands


PRINT = f"import sys; sys.path.insert(0, {str(ROOT / 'docs')!r}); import commands; print(commands.page(), end='')"


def test_the_commands_are_those_of_the_code(tmp_path):
    """A narrow terminal, variables and settings of a user's own change nothing."""
    (tmp_path / "params.yaml").write_text("teach: {epochs: 77}\nviews: {views: 66}\n")
    variables = {"COLUMNS": "30", "SOFTCACHE_DEVICE": "cuda:7", "SOFTCACHE_WORK": "/elsewhere", "PYTHONIOENCODING": "utf-8"}
    found = run(tmp_path, "-c", PRINT, **variables)
    assert found == (ROOT / "docs/commands.md").read_text(encoding="utf-8"), "docs/commands.md is old: run `make commands`"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_the_help_is_on_the_page(command, tmp_path):
    """As `softcache <command> --help` prints them."""
    [section] = re.findall(rf"^## softcache {command}$(.*?)(?=^## |\Z)", (ROOT / "docs/commands.md").read_text(), re.M | re.S)
    help_text = CliRunner().invoke(main, [command, "--help"]).output
    options = set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", help_text, re.MULTILINE)) - {"--help"}
    assert options
    assert options == set(re.findall(r"^- `(?:-\w, )?(--[\w-]+)", section, re.MULTILINE))
    assert re.search(r"^Example:\n\n    softcache ", section, re.MULTILINE)


# ---------------------------------------------------------------- the public API

API = (ROOT / "docs/api.md").read_text(encoding="utf-8")
NAMES = re.findall(r"^- `(pipeline\.[\w.]+)`", API, re.MULTILINE)
READING, DISTILLING = re.findall(r"```python\n(.*?)```", API, re.DOTALL)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_can_be_imported_and_says_what_it_is(name):
    module, _, attribute = name.rpartition(".")
    found = getattr(importlib.import_module(module), attribute)
    assert found.__module__ == module  # it lives where the page says
    assert found.__doc__


def test_every_wing_is_on_the_page():
    assert {name.split(".")[1] for name in NAMES} == {path.parent.name for path in (ROOT / "pipeline").glob("*/__init__.py")}
    assert len(NAMES) == len(set(NAMES))


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A folder with data/transfer, data/teachers/a and data/caches/a."""
    folder = tmp_path_factory.mktemp("project")
    run_capture(write_stage_one(folder / "data", rows=40))
    return folder


@pytest.fixture(scope="module")
def teacher(project) -> torch.nn.Module:
    checkpoint = Checkpoint.teacher(project / "data/teachers/a")
    return checkpoint.load(checkpoint.nets[0], torch.device("cpu"))


def test_a_cache_is_read_with_numpy_alone(project, teacher):
    printed = run(project, "-c", f"import sys; sys.modules['torch'] = None\n{READING}")
    valid = open_splits(project / "data/transfer", ["valid"])["valid"]
    with torch.no_grad():
        right = teacher(torch.from_numpy(valid.read_all())).argmax(dim=1).numpy() == valid.labels()
    assert float(printed) == pytest.approx(right.mean())


def test_a_student_learns_from_a_cache_in_a_loop_of_ones_own(project, teacher, monkeypatch, capsys):
    """On what the teacher was asked about: its logits for the pixels that the student saw last are the student's targets."""
    monkeypatch.chdir(project)
    found: dict = {}
    exec(DISTILLING, found)
    assert np.mean(found["losses"][-3:]) < 0.5 * np.mean(found["losses"][:3])
    assert 0 <= float(capsys.readouterr().out) <= 1
    rows, views = found["rows"], found["views"]
    with torch.no_grad():
        said = teacher(found["policy"].apply(found["images"][rows], rows, views))
    assert len(set(views)) == 3
    torch.testing.assert_close(said, found["teacher"][views, rows], rtol=0, atol=1e-4)


# ---------------------------------------------------------------- an export

DEPLOYED = re.search(r"((?:^    .*\n|^\n)*^    from softcache_export import load\n(?:^    .*\n|^\n)*)", README, re.MULTILINE)[1]


def test_an_export_is_used_in_ten_lines_of_torch(project, teacher, tmp_path):
    """With nothing of this project but the file that lies in the export."""
    export(run="a", data=project / "data", out=tmp_path / "data/exports/small-T4", settings=Exporting())
    code = textwrap.dedent(DEPLOYED)
    assert 0 < len([line for line in code.splitlines() if line.strip()]) <= 10
    blocked = "import sys\nfor name in ('pipeline', 'stages', 'onnxruntime', 'PIL', 'numpy'): sys.modules[name] = None\n"
    printed = run(tmp_path, "-c", blocked + code, PYTHONPATH=str(tmp_path / "data/exports/small-T4"))
    with torch.no_grad():
        assert int(printed) == int(teacher(torch.zeros(1, 1, 4, 4, dtype=torch.uint8)).argmax())
