"""A small project on disk, with settings of its own, and its commands as a user gives them."""

import functools
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from conftest import write_stage_one
from pipeline.base import runtime
from stages.cli import main

PARAMS = """
ingest: {train: odd.parquet}
teach: {optimizer: sgd(lr=0.1), epochs: 1, batch_size: 8}
teachers:
  a: {model: "mlp(hidden=[5])"}
views: {policy: shift(1), views: 3, view_seed: 5}
capture: {tile: 4}
recipe: {optimizer: sgd(lr=0.1), epochs: 1, batch_size: 8, seeds: [0]}
students:
  s: {model: "mlp(hidden=[3])"}
temperatures: [2]
distill: {teachers: [a], alpha: 0.9}
sweeps: {all: {alphas: [0.5]}}
"""


def make(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go into a folder with splits, a teacher, its cache, and params.yaml."""
    runtime.prepare("cpu")
    monkeypatch.setenv("SOFTCACHE_DEVICE", "cpu")
    made = Path(_made().name)
    copied: dict[int, str] = {}

    def copy(source: str, target: str) -> None:
        """What is one file under two names, as a span is in work and cache, is one again."""
        number = os.stat(source).st_ino
        if number in copied:
            os.link(copied[number], target)
        else:
            copied[number] = shutil.copy2(source, target)

    shutil.copytree(made, folder, copy_function=copy, dirs_exist_ok=True)
    for name in ("plan", "sealed"):  # which say where the cache lies
        (path,) = folder.glob(f".softcache/*/{name}.json")
        path.write_text(path.read_text().replace(str(made.resolve()), str(folder.resolve())))
    monkeypatch.chdir(folder)
    return folder


@functools.cache
def _made() -> tempfile.TemporaryDirectory:
    """The same, once for all tests of a process: each takes a copy."""
    folder = tempfile.TemporaryDirectory()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.name)
        write_stage_one(Path("data"))
        Path("params.yaml").write_text(PARAMS)
        says(0, "capture", "a")
    return folder


def says(code: int, *args: object) -> str:
    """Run a command, which must end with this exit code and no traceback; returns what it printed."""
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == code, result.output + str(result.exc_info)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.output
