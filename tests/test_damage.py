"""Damage in every file that is stored: what reads it names it, and what the message says mends it."""

import json
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import damage
import pytest
from click.testing import CliRunner

from conftest import images, write_parquet
from pipeline.base import runtime
from stages.cli import main

PARAMS = """
ingest: {train: ../source.parquet, valid: 0.25, test: 0.25, seed: 0}
teach: {optimizer: "sgd(lr=0.1, momentum=0.9)", epochs: 2, batch_size: 16}
teachers:
  a: {model: "mlp(hidden=[5])", seed: 1}
  b: {model: "mlp(hidden=[4])", seed: 2}
views: {policy: shift(1), views: 2, view_seed: 5}
capture: {tile: 16}
recipe: {optimizer: "sgd(lr=0.1)", epochs: 2, batch_size: 16, seeds: [0, 1]}
students:
  s: {model: "mlp(hidden=[4])"}
  u: {model: "mlp(hidden=[3])", epochs: 4}
temperatures: [1, 4]
distill: {teachers: [a], alpha: 0.9}
sweeps: {all: {students: [s], teachers: [a, b], alphas: [0.5, 1]}}
"""


def ok(*args: str) -> None:
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0, result.output


INT8 = ("capture", "b", "--knowledge", "hidden", "--dtype", "int8", "--features", "layer1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Below `start` a project that is done, but for a student that is half trained and a capture that is half done."""
    root = tmp_path_factory.mktemp("damage")
    write_parquet(root / "source.parquet", *images(48), names=["low", "middle", "high"])
    (root / "start").mkdir()
    (root / "start/params.yaml").write_text(PARAMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root / "start")
        patch.setenv("SOFTCACHE_DEVICE", "cpu")
        patch.setattr("pipeline.data.ingest.span_rows", lambda classes, row_bytes: 16)
        runtime.prepare("cpu")
        ok("ingest")
        for teacher in "ab":
            ok("teach", teacher)
            ok("capture", teacher, *(("--knowledge", "hidden", "--features", "layer1") if teacher == "b" else ()))
        for options in (("--hard",), ("-T", "1"), ("-T", "4"), ("-T", "4", "--live")):
            ok("distill", "s", *options)
        ok("sweep", "all")
        for options in (("--hard",), ("-T", "1"), ("-T", "4")):
            ok("distill", "u", *options)
        ok("evaluate")
        ok("report")
        interrupt(patch, "pipeline.cache.writer.Work.publish", 2, *INT8)
        patch.setattr("pipeline.training.fit.SAVING", float("inf"))
        interrupt(patch, "pipeline.training.resume.State.save", 2, "distill", "u", "-T", "1")
    assert list(root.glob("start/.softcache/trainings/u-T1*/*.state"))
    return root


def interrupt(patch: pytest.MonkeyPatch, place: str, calls: int, *command: str) -> None:
    """Run a command that is stopped right after so many calls of a method."""
    module, name, method = place.rsplit(".", 2)
    owner = getattr(sys.modules[module], name)
    real, done = getattr(owner, method), []

    def stopping(self, *given, **named):
        if len(done) == calls:
            raise KeyboardInterrupt
        done.append(real(self, *given, **named))
        return done[-1]

    with patch.context() as inner:
        inner.setattr(owner, method, stopping)
        assert CliRunner().invoke(main, command).exit_code == 1


def damaged(folder: Path, runs: list[tuple[int, int]]) -> Counter:
    """Run damage.py once for each of `runs`, side by side; returns the counts, nothing having been found."""

    def one(first: int, count: int) -> list[str]:
        command = [sys.executable, damage.__file__, str(folder), str(first), str(count)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()

    with ThreadPoolExecutor(len(runs)) as pool:
        printed = list(pool.map(one, *zip(*runs, strict=True)))
    assert [line for lines in printed for line in lines[:-1]] == []
    return sum((Counter(json.loads(lines[-1])) for lines in printed), Counter())


def test_damage_is_named_and_mended(folder):
    counts = damaged(folder, [(0, 5)])
    assert counts["tries"] == 5
    assert counts["mended in 1"] > 1


@pytest.mark.soak
def test_fifteen_hundred_damages_are_named_and_mended(folder):
    counts = damaged(folder, [(10_000, 750), (20_000, 750)])
    print(dict(counts))
    assert counts["tries"] == 1500
    assert counts["mended in 1"] > 500
