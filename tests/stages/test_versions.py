"""softcache versions: which stages depend on which versions, under the settings that there are."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.models import ensemble, modelfile
from pipeline.models.zoo import table as nets
from pipeline.training import losses
from stages.cli import main

TEACHERS = """
teach: {optimizer: sgd(lr=0.1), epochs: 1, batch_size: 8}
teachers: {a: {model: "mlp(hidden=[5])"}, b: {model: "cnn(channels=[2])"}}
views: {policy: shift(1) | flip()}
capture: {}
"""
STUDENTS = """
recipe: {optimizer: adamw(lr=0.1), epochs: 1, batch_size: 8}
students:
  tiny: {model: "mlp(hidden=[3])"}
  odd: {model: "mlp(hidden=[3])", correct: [1], rows: "without([1])", virtual_teacher: tf_kd(0.2)}
temperatures: [1]
views: {}
"""
DISTILL = """
distill: {teachers: [a, b], loss: dkd(beta=2), alpha_schedule: linear, learn_temperature: ctkd(),
  features: ["hint(teacher=a, student=b)", "sp(teacher=a | pool, student=b)"]}
sweeps: {some: {students: [tiny], alphas: [0.5], loss: mse}}
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes params.yaml, runs the command, and returns the lines of every file."""
    monkeypatch.chdir(tmp_path)

    def run(params: str, code: int = 0) -> dict[str, set[str]] | str:
        Path("params.yaml").write_text(params)
        result = CliRunner().invoke(main, ["versions"])
        assert result.exit_code == code, result.output
        files = Path("data/versions").rglob("*.txt")
        found = {str(path.relative_to("data/versions")): set(path.read_text().splitlines()) for path in files}
        return found if code == 0 else result.output

    return run


def test_every_stage_has_what_it_uses_and_no_more(written):
    found = written(TEACHERS + STUDENTS.replace("views: {}", "") + DISTILL)
    assert set(found) == {
        *(
            "ingest.txt",
            "capture.txt",
            "evaluate.txt",
            "footprint.txt",
            "report.txt",
            "export.txt",
            "sweep/some.txt",
            "teach/a.txt",
            "teach/b.txt",
        ),
        *(f"{kind}/{name}.txt" for kind in ("baseline", "distill") for name in ("tiny", "odd")),
    }
    assert {"model mlp: version 1", "optimizer sgd: version 1", "schedule constant: version 1"} <= found["teach/a.txt"]
    assert "model cnn: version 1" in found["teach/b.txt"] - found["teach/a.txt"]
    assert {"policy shift: version 1", "policy flip: version 1"} <= found["capture.txt"]
    assert {"rule probabilities: version 1"} == {line for line in found["evaluate.txt"] if line.startswith("rule")}
    assert found["distill/tiny.txt"] - found["baseline/tiny.txt"] == {
        "loss dkd: version 1", "rule probabilities: version 1", "alpha_schedule linear: version 1",
        "learn_temperature ctkd: version 1", "features hint: version 1", "features sp: version 1", "watched: version 1",
    }  # fmt: skip
    assert "virtual_teacher tf_kd: version 1" in found["baseline/odd.txt"] - found["baseline/tiny.txt"]
    assert found["baseline/odd.txt"] ^ found["baseline/tiny.txt"] == {
        "bias correction: version 1", "rows without: version 1", "rows all: version 1", "virtual_teacher tf_kd: version 1",
    }  # fmt: skip
    assert {"tiny, loss mse: version 1", "tiny, features hint: version 1"} <= found["sweep/some.txt"]


@pytest.mark.parametrize(
    ("table", "name", "changed"),
    [
        (nets.VERSIONS, "cnn", {"teach/b.txt"}),
        (losses.VERSIONS, "dkd", {"distill/tiny.txt", "distill/odd.txt"}),
        (losses.VERSIONS, "kl", set()),
        (ensemble.RULES, "probabilities", {"distill/tiny.txt", "distill/odd.txt", "evaluate.txt", "sweep/some.txt"}),
        (ensemble.RULES, "logits", set()),
    ],
)
def test_another_version_changes_the_files_of_what_uses_it(written, monkeypatch, table, name, changed):
    params = TEACHERS + STUDENTS.replace("views: {}", "") + DISTILL
    before = written(params)
    monkeypatch.setitem(table, name, 2)
    after = written(params)
    assert {path for path in before if before[path] != after[path]} == changed


def test_a_project_without_soft_targets_needs_no_section_for_them(written):
    found = written(STUDENTS.replace("views: {}", "views:\ncapture:"))
    summing = {"footprint.txt", "report.txt", "export.txt"}
    assert set(found) == {"ingest.txt", "capture.txt", "baseline/tiny.txt", "baseline/odd.txt"} | summing


def test_a_plug_in_is_read_whatever_its_arguments_hold(written, tmp_path):
    (tmp_path / "my_nets.py").write_text("def build(shape, classes, how='x'):\n    return None\n")
    [model] = [line for line in written(TEACHERS.replace("cnn(channels=[2])", "my_nets:build(how='a|c')"))["teach/b.txt"]
               if line.startswith("model ")]  # fmt: skip
    assert len(model.removeprefix("model my_nets:build: ")) == 64


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (TEACHERS + "ingest: {train: digits, vlid: 0.1}", "params.yaml, ingest.vlid: expected one of train, valid"),
        (TEACHERS.replace("epochs: 1", "epoch: 1"), "params.yaml, teach.epoch: expected one of"),
        (TEACHERS.replace("mlp(hidden=[5])", "a net: mlp"), "spec 'a net: mlp': expected"),
        (TEACHERS.replace("mlp(hidden=[5])", "mlp(hiden=[5])"), "spec mlp(…): expected hidden, dropout, input_dropout"),
        (TEACHERS.replace("shift(1)", "shft(1)"), "spec shft(…): expected one of affine"),
        (TEACHERS.replace("a: {model", "a.b: {model"), "teach a.b: Invalid value for 'NAME'"),
    ],
)
def test_wrong_settings_are_refused_before_any_stage_runs(written, params, message):
    assert message in written(params, code=2)


EXPORTS = "exports: {tiny-T1: {}, odd-hard: {}}\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "teachers: [a, b], loss",
            "teachers: [a, e], loss",
            "distill.teachers: expected some of a, b, as in teachers, found e",
        ),
        ("tiny-T1: {}", "tiny-T2: {}", "exports: expected a student and one of T1, hard, such as tiny-hard, found tiny-T2"),
        ("tiny-T1: {}", "big-T1: {}", "exports: expected a student and one of T1, hard, such as tiny-hard, found big-T1"),
    ],
)
def test_what_would_end_a_run_late_is_refused_before_it_begins(written, old, new, message):
    whole = TEACHERS + STUDENTS.replace("views: {}", "") + DISTILL + EXPORTS
    written(whole)
    assert message in written(whole.replace(old, new), code=2)


@pytest.mark.parametrize(("cache", "code"), [("b", 0), ("e", 2)])
def test_dvc_has_to_know_the_caches_that_students_learn_from(written, monkeypatch, cache, code):
    monkeypatch.setenv("DVC_STAGE", "versions")
    deps = f"[data/transfer, data/caches/a, data/caches/{cache}]"
    Path("dvc.yaml").write_text(f"stages: {{versions: {{deps: []}}, distill: {{cmd: x, deps: {deps}}}}}")
    found = written(TEACHERS + STUDENTS.replace("views: {}", "") + DISTILL, code=code)
    if code:
        expected = "dvc.yaml, stage distill, deps: expected data/caches/a, data/caches/b, as in distill.teachers"
        assert f"{expected}, found data/caches/a, data/caches/e. Name the cache of each teacher there" in found


GENERATIONS = """
teach: {optimizer: sgd(lr=0.1), epochs: 1, batch_size: 8}
teachers: {a: {model: "mlp(hidden=[5])"}, b: {student: STUDENT}}
views: {policy: none, views: 1}
capture: {}
recipe: {optimizer: sgd(lr=0.1), epochs: 1, batch_size: 8}
students: {tiny: {model: "mlp(hidden=[3])"}}
temperatures: [1, 2.5]
distill: {teachers: [a], alpha: 0.5}
sweeps: {some: {temperatures: [8], alphas: [0, 1]}, usual: {baseline: false}}
"""


@pytest.mark.parametrize("run", ["tiny-hard", "tiny-T2.5", "some/tiny-T8-alpha1", "some/tiny-hard", "usual/tiny-T1-alpha0.5"])
def test_a_teacher_may_be_any_student_that_the_settings_train(written, run):
    found = written(GENERATIONS.replace("STUDENT", run))
    assert found["teach/b.txt"] == {"promote: version 1", f"model.json: format {modelfile.FORMAT}"}


@pytest.mark.parametrize("run", ["tiny", "tiny-T2", "a", "some/tiny-T1-alpha1", "usual/tiny-hard", "other/tiny-hard"])
def test_a_teacher_that_no_setting_trains_is_refused(written, run):
    message = written(GENERATIONS.replace("STUDENT", run), code=2)
    assert "params.yaml, teachers.b.student: expected a student that these settings train, such as " in message
    assert f"found {run}. Correct the name, or the settings of that student." in message


@pytest.mark.parametrize(
    ("stages", "fine"),
    [
        ("teach: {foreach: '${teachers}', do: {cmd: 'softcache teach ${key}', deps: [data/transfer]}}", False),
        ("next: {foreach: {b: x}, do: {cmd: 'softcache teach ${key}', deps: [data/transfer]}}", False),
        ("next: {foreach: {b: x}, do: {cmd: 'softcache teach ${key}', deps: ['data/students/${item}']}}", True),
        ("next: {cmd: softcache teach b, deps: [data/students/tiny-T1]}", True),
        ("next: {cmd: softcache teach bc, deps: [data/students/tiny-T1]}", False),
    ],
)
def test_under_dvc_a_stage_has_to_wait_for_that_student(written, monkeypatch, stages, fine):
    monkeypatch.setenv("DVC_STAGE", "versions")
    Path("dvc.yaml").write_text(f"stages:\n  versions: {{cmd: softcache versions}}\n  {stages}\n")
    found = written(GENERATIONS.replace("STUDENT", "tiny-T1"), code=0 if fine else 2)
    assert fine or "expected a stage that runs `softcache teach b` once tiny-T1 is trained, found none" in found
