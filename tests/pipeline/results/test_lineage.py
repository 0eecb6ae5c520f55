"""Lineage: what it says of a project is what lies there, in bytes that are equal for equal projects."""

import json
import shutil
from dataclasses import replace

import pytest

import lineages
from conftest import NO_LINEAGE
from lineages import many
from pipeline.base.errors import IntegrityError
from pipeline.results.lineage import Lineage
from projects import says


def test_it_says_what_lies_there():
    told, data = lineages.opened().lineage, lineages.project() / "data"
    models = {path.parent.name: json.loads(path.read_text()) for path in data.glob("*/*/model.json")}
    assert told.models == {run: said["model"] for run, said in models.items()}
    for teacher in told.teachers:
        said = models[teacher.name]
        assert (teacher.kind, teacher.seed, teacher.sha256) == (
            said["kind"],
            *(said["nets"][0][key] for key in ("seed", "sha256")),
        )
    (was,) = told.teachers[1].generations
    assert (was.run, was.seed, was.sha256, list(was.teachers)) == ("s-T2", 7, told.teachers[1].sha256, ["a"])
    for name, stored in told.caches.items():
        folder = data / "caches" / name
        assert stored.digest == json.loads((folder / "manifest.json").read_text())["digest"]
        assert stored.size_bytes == sum(path.stat().st_size for path in folder.glob("*.zarr/*/c/**/*") if path.is_file())
    assert [(each.name, [run.run for run in each.runs]) for each in told.students] == [
        ("s", ["s-hard"]), ("s", ["s-T2", "s-T2.5"]), ("t", ["t-T2"]),
    ]  # fmt: skip
    for run in (run for each in told.students for run in each.runs):
        assert run.kept == {str(net["seed"]): net["kept_epoch"] for net in models[run.run]["nets"]}
    assert told.parts["transfer"] == told.parts["train"]
    assert (told.parts["train"].rows, told.parts["train"].labelled, told.kind, told.shape) == (20, 20, "image", (1, 4, 4))
    assert lineages.opened("data/sweeps/live/plots").lineage.study == "live"


def test_equal_projects_have_equal_lineages_without_a_place(tmp_path, monkeypatch):
    shutil.copytree(lineages.project(), tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    says(0, "evaluate")
    first, second = ((folder / "data/plots/lineage.json").read_bytes() for folder in (lineages.project(), tmp_path / "copy"))
    assert first == second
    assert b"/" not in first


def test_many_students_make_a_small_file():
    told = many(4, 50)
    assert sum(len(run.kept) for each in told.students for run in each.runs if each.soft) == 50 * 5 * 5
    assert len(told.to_json()) < 400_000


def test_damage_is_refused(tmp_path):
    data = NO_LINEAGE.to_json()
    assert Lineage.parse(data, tmp_path, "") == NO_LINEAGE
    for old, new in ((b'"classes": 2', b'"classes": 3'), (b"{", b"")):
        with pytest.raises(IntegrityError, match="facts with their digest"):
            Lineage.parse(data.replace(old, new, 1), tmp_path, "")
    with pytest.raises(IntegrityError, match="expected version 1, found version 2"):
        Lineage.parse(replace(NO_LINEAGE, version=2).to_json(), tmp_path, "")
