"""A small project on disk, with settings of its own, and its commands as a user gives them."""

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
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SOFTCACHE_DEVICE", "cpu")
    write_stage_one(folder / "data")
    (folder / "params.yaml").write_text(PARAMS)
    says(0, "capture", "a")
    return folder


def says(code: int, *args: object) -> str:
    """Run a command, which must end with this exit code and no traceback; returns what it printed."""
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == code, result.output + str(result.exc_info)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.output
