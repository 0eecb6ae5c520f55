"""Generations under DVC: the stages of examples/generations, by the real `dvc repro`, whose commands run in this process."""

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from conftest import ROOT, images, write_parquet
from pipeline.base import files, runtime
from stages.cli import main

EXAMPLE = ROOT / "examples/generations"
PARAMS = """
ingest: {train: data/source/source.parquet, valid: 0.25, test: 0.25, seed: 0}
teach: {optimizer: sgd(lr=0.1), epochs: 1, batch_size: 8}
teachers:
  first: {model: "mlp(hidden=[5])", seed: 1}
  second: {student: born-1/net-T4-alpha0.5, seed: 1}
views: {policy: shift(1), views: 2}
capture: {tile: 16}
recipe: {optimizer: sgd(lr=0.1), epochs: 1, batch_size: 8, seeds: [0, 1]}
students: {net: {model: "mlp(hidden=[5])"}}
temperatures: [4]
distill: {teachers: [first], alpha: 0.5}
sweeps:
  born-1: {teachers: [first], baseline: false}
  born-2: {teachers: [second], baseline: false}
"""
CHAIN = ["teach@first", "capture@first", "sweep@born-1", "promote@second", "capture@second", "sweep@born-2"]


@pytest.fixture
def repro(tmp_path, monkeypatch) -> Callable[[], list[str]]:
    """Reproduces a small project with the stages of the example; returns those whose command ran."""
    from dvc.repo import Repo
    from dvc.stage import run

    runtime.prepare("cpu")
    for name, value in {"SOFTCACHE_DEVICE": "cpu", "DVC_NO_ANALYTICS": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    write_parquet(Path("data/source/source.parquet"), *images(48))
    Path("params.yaml").write_text(PARAMS)
    found = YAML(typ="safe", pure=True).load(EXAMPLE / "dvc.yaml")["stages"]
    kept = {"promote": ("second",), "sweep": ("born-1", "born-2"), "teach": ("first",)}
    for stage, names in kept.items():
        found[stage]["foreach"] = {name: found[stage]["foreach"][name] for name in names}
    with Path("dvc.yaml").open("w") as file:
        YAML().dump({"stages": {name: found[name] for name in ("versions", "ingest", "capture", *kept)}}, file)
    Repo.init(no_scm=True).close()
    ran: list[str] = []

    def in_this_process(executable: str, command: str, *, env: dict, **kwargs: object) -> None:
        _, _, *words = shlex.split(command)
        with monkeypatch.context() as patch:
            patch.setenv("DVC_STAGE", env["DVC_STAGE"])
            result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, result.output
        ran.append(env["DVC_STAGE"])

    monkeypatch.setattr(run, "_run", in_this_process)

    def reproduced() -> list[str]:
        ran.clear()
        with Repo(os.getcwd()) as repo:
            repo.reproduce()
        return list(ran)

    return reproduced


def told(path: str) -> dict:
    return json.loads(Path("data", path).read_bytes())


def test_each_of_three_generations_is_taught_by_a_student_of_the_one_before(repro):
    assert sorted(repro()) == sorted(["versions", "ingest", *CHAIN])
    second, third = weights("born-1"), weights("born-2")
    require_chain()
    assert repro() == ["versions"]  # which is always written again

    Path("params.yaml").write_text(PARAMS.replace("seed: 1}\n  second", "seed: 2}\n  second"))
    assert repro() == ["versions", *CHAIN]
    require_chain()
    assert not {*second, *third} & {*weights("born-1"), *weights("born-2")}


def weights(sweep: str) -> list[str]:
    """The sha256 of the weights of its students, as the files are."""
    folder = Path(f"data/sweeps/{sweep}/students/net-T4-alpha0.5")
    return [files.sha256_file(folder / f"seed-{seed}.safetensors") for seed in (0, 1)]


def require_chain() -> None:
    """Each generation names the one before it, by its digest."""
    caches = {name: told(f"caches/{name}/manifest.json") for name in ("first", "second")}
    for sweep, teacher in {"born-1": "first", "born-2": "second"}.items():
        learned = told(f"sweeps/{sweep}/students/net-T4-alpha0.5/model.json")["soft"]["caches"]
        assert learned == {teacher: caches[teacher]["digest"]}
    student = weights("born-1")[1]
    assert caches["second"]["identity"]["teacher"]["weights_sha256"] == student
    first = {"first": caches["first"]["digest"]}
    told_of = {"run": "born-1/net-T4-alpha0.5", "seed": 1, "sha256": student, "teachers": first}
    assert told("teachers/second/model.json")["generations"] == [told_of]
