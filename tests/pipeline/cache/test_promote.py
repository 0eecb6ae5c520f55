"""A student that becomes a teacher: the same net, captured like another, with a record of whom it descends from."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import projects
from conftest import measured, tree
from pipeline.base import files, table
from pipeline.base.errors import InputError, IntegrityError
from pipeline.cache.promote import promote
from pipeline.cache.reader import Cache
from pipeline.data.splits import open_splits
from pipeline.models import modelfile
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.modelfile import ModelFile
from pipeline.models.runfolder import open_run
from projects import says

SEEDS = ("--seeds", 0, "--seeds", 1, "--seeds", 2)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Students of teacher a, three of them, and a baseline."""
    projects.make(tmp_path, monkeypatch)
    says(0, "distill", "s", "-T", 2, *SEEDS)
    return tmp_path / "data"


def told(path: Path) -> dict:
    return json.loads(path.read_bytes())


def test_three_generations_are_captured_and_remembered(project):
    """Born again: each generation is the net that the one before it taught; with baseline and sweep it goes the same way."""
    said = says(0, "adopt", "b", "--student", "s-T2", "--seed", 1)
    assert said == "wrote data/teachers/b: a → s-T2 (seed 1)\n"
    says(0, "capture", "b")
    student, teacher = open_run(project, "s-T2"), Checkpoint.teacher(project / "teachers/b")
    own = (project / "students/s-T2/seed-1.safetensors").read_bytes()
    assert (project / "teachers/b/model.safetensors").read_bytes() == own
    cache = Cache.open(project / "caches/b")
    assert cache.manifest.identity["teacher"]["weights_sha256"] == student.nets[1].sha256 == files.sha256(own)
    pixels = torch.from_numpy(open_splits(project / "transfer", ["valid"])["valid"].read_all())
    with torch.no_grad():
        expected = student.load(student.nets[1], torch.device("cpu"))(pixels)
    np.testing.assert_allclose(cache.read("valid")[0], expected, atol=1e-5)
    assert (teacher.recipe, teacher.views, teacher.soft) == (student.recipe, student.views, student.soft)
    assert teacher.history() == [row for row in student.history() if row["seed"] == 1]

    says(0, "sweep", "all", "--params", with_b())
    said = says(0, "adopt", "c", "--student", "all/s-T2-alpha0.5")
    assert said == "wrote data/teachers/c: a → s-T2 (seed 1); b → all/s-T2-alpha0.5 (seed 0)\n"
    assert ("b", "test") in measured(project / "sweeps/all/plots")  # like any teacher
    generations = ModelFile.teacher(project / "teachers/c").generations
    assert generations[0] == teacher.generations[0]
    assert generations[1].teachers == {"b": cache.manifest.digest}
    says(0, "capture", "c")
    says(0, "verify", "c", "--deep", 5)

    says(0, "distill", "s", "--hard")
    assert says(0, "adopt", "d", "--student", "s-hard") == "wrote data/teachers/d: s-hard (seed 0)\n"


def with_b() -> Path:
    """The settings, of students that learn from b."""
    settings = projects.PARAMS.replace("teachers: [a]", "teachers: [b]").replace("  a: {", "  b: {student: s-T2}\n  a: {")
    Path("b.yaml").write_text(settings)
    return Path("b.yaml")


def test_the_best_net_on_the_validation_split_is_taken(project):
    history = table.from_parquet(
        (project / "students/s-T2/history.parquet").read_bytes(), modelfile.HISTORY_COLUMNS, "history", ""
    )
    best = min(history, key=lambda row: row["valid_nll"])["seed"]  # of one epoch each
    assert promote(student="s-T2", seed=None, data=project, out=project / "teachers/b")[0].seed == best


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("b", "--student", "a"), "teacher b, student: expected the run of a student, found a, which is a teacher already"),
        (("b", "--student", "s-T2", "--seed", 7), "run s-T2, seed: expected one of 0, 1, 2, found 7"),
        (("b", "--student", "s-T9"), "run: expected one of a, s-T2, found s-T9"),
        (("b", "--student", "s-T2", "--model", "mlp([3])"), "expected --logits, --student, or a model with its weights"),
        (
            ("a", "--student", "s-T2"),
            "its weights and classes, found --student and a model; an entry a in params.yaml counts.",
        ),
        (("b", "--model", "mlp([3])", "--seed", 1), "--seed: says which net of a --student is meant"),
    ],
)
def test_one_message_and_nothing_written(project, given, message):
    before = tree(project)
    assert message in says(2, "adopt", *given)
    assert tree(project) == before


def test_nobody_is_taught_by_a_student_of_his_own(project):
    with pytest.raises(InputError, match="teacher a, student: expected a student of others, found s-T2, which learned from it"):
        promote(student="s-T2", seed=0, data=project, out=project / "teachers/a")
    promote(student="s-T2", seed=0, data=project, out=project / "teachers/b")


def test_a_net_that_diverged_teaches_nobody(project):
    says(0, "distill", "s", "-T", 1, "--optimizer", "sgd(lr=1e38)", "--epochs", 5, "--model", "mlp([4, 4])")
    message = "run s-T1, seed: expected a net that did not diverge, found none (diverged: 0)"
    assert message in says(2, "adopt", "b", "--student", "s-T1")


def test_a_damaged_student_is_refused(project):
    path = project / "students/s-T2/seed-1.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"seed-1\.safetensors"):
        promote(student="s-T2", seed=1, data=project, out=project / "teachers/b")
    assert not (project / "teachers/b").exists()


def test_a_teacher_that_changed_meanwhile_is_in_no_history(project, caplog):
    promote(student="s-T2", seed=0, data=project, out=project / "teachers/b")
    says(0, "capture", "b")
    says(0, "distill", "s", "-T", 1, "--teachers", "b")
    promote(student="s-T2", seed=1, data=project, out=project / "teachers/b")
    found = promote(student="s-T1", seed=0, data=project, out=project / "teachers/c")
    assert [each.run for each in found] == ["s-T1"]
    assert "s-T1: its teacher b is not here as it was, so no generation before it is recorded" in caplog.text
