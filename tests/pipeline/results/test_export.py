"""Exports of a student that was distilled and evaluated, as a user does it."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from ruamel.yaml import YAML

import projects
from conftest import change_teacher, measured, tree, write_split, write_teacher
from pipeline.base.errors import InputError, IntegrityError
from pipeline.cache.reader import Cache
from pipeline.data.splits import open_splits
from pipeline.models import int8
from pipeline.models.checkpoint import Checkpoint
from pipeline.results import export as job
from pipeline.results.card import Figures
from pipeline.results.export import Exported, export
from pipeline.results.exporting import Exporting
from pipeline.results.trial import Trial
from projects import says
from softcache_export import CONFIG, FLOAT, INT8, MODULE, NET, WEIGHTS, Predictor, load, session, softmax

ROOT = Path(__file__).resolve().parents[3]
DATA, OUT = Path("data"), Path("data/exports/s-T2")


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Iterator[Path]:
    """A project with a student that was distilled, evaluated and exported."""
    with pytest.MonkeyPatch.context() as patch:
        folder = projects.make(tmp_path_factory.mktemp("start"), patch)
        says(0, "distill", "s", "-T", "2", "--seeds", "3", "--seeds", "5", "--seeds", "4")
        says(0, "evaluate")
        export(run="s-T2", data=DATA, out=OUT, settings=Exporting(license="mit"))
        yield folder


@pytest.fixture
def project(start, tmp_path, monkeypatch) -> Path:
    """A copy of it."""
    shutil.copytree(start, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def student(project) -> Checkpoint:
    return Checkpoint.open(DATA / "students/s-T2", kinds=["student"], name="s-T2", fix="")


def again(run: str = "s-T2", out: Path = OUT, **settings) -> Exported:
    return export(run=run, data=DATA, out=out, settings=Exporting(**settings))


def probabilities(student: Checkpoint, seed: int) -> np.ndarray:
    """Of the validation rows, by the student in torch."""
    [net] = [net for net in student.nets if net.seed == seed]
    rows = torch.from_numpy(open_splits(DATA / "transfer", ["valid"])["valid"].read_all())
    with torch.no_grad():
        return student.load(net, torch.device("cpu"))(rows).softmax(1).numpy()


def test_every_model_predicts_what_the_student_predicts(student):
    seed = json.loads((OUT / CONFIG).read_text())["seed"]
    rows = open_splits(DATA / "transfer", ["valid"])["valid"].read_all()
    expected = probabilities(student, seed)
    with torch.no_grad():
        np.testing.assert_allclose(softmax(load(OUT)(torch.from_numpy(rows)).numpy()), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(Predictor(OUT).probabilities(rows), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(Predictor(OUT, int8=True).probabilities(rows), expected, rtol=0, atol=0.05)


def test_weights_are_those_that_were_trained_and_the_seed_is_the_best(student):
    last = {row["seed"]: row["valid_nll"] for row in student.history()}
    best = min(last, key=last.__getitem__)
    assert (OUT / WEIGHTS).read_bytes() == (DATA / f"students/s-T2/seed-{best}.safetensors").read_bytes()
    assert json.loads((OUT / CONFIG).read_text())["seed"] == best


def test_the_same_net_gives_the_same_bytes_but_for_the_times_on_the_card(project):
    before = tree(OUT)
    again(license="mit")
    after = tree(OUT)
    assert before.keys() == after.keys() == {CONFIG, WEIGHTS, NET, FLOAT, INT8, MODULE, "README.md"}
    assert {name for name in before if before[name] != after[name]} <= {"README.md"}
    assert after[MODULE] == (ROOT / MODULE).read_bytes()


def test_another_seed_and_probabilities_as_output(student):
    found = again(seed=5, softmax=True)
    assert found.seed == 5
    rows = open_splits(DATA / "transfer", ["valid"])["valid"].read_all()
    for name in (FLOAT, INT8):
        model = (OUT / name).read_bytes()
        assert [each.name for each in onnx.load_from_string(model).graph.output] == ["probabilities"]
        np.testing.assert_allclose(session(model)(rows).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(Predictor(OUT).probabilities(rows), probabilities(student, 5), rtol=0, atol=1e-5)


def test_the_card_has_what_was_measured_and_where_it_comes_from(student):
    text = (OUT / "README.md").read_text()
    head = YAML(typ="safe").load(text.split("---")[1])
    cache = Cache.open(DATA / "caches/a").manifest
    figures = {split: [row.accuracy for row in measured(DATA / "plots")["s-T2", split]] for split in ("valid", "test")}
    assert head["license"] == "mit"
    assert [each["dataset"]["split"] for each in head["model-index"][0]["results"]] == ["validation", "test"]
    assert cache.digest in text
    assert cache.identity["teacher"]["weights_sha256"] in text
    for split in ("valid", "test"):
        assert f"{100 * np.mean(figures[split]):.2f} ± {100 * np.std(figures[split], ddof=1):.2f} | 3 |" in text
    assert "distilled at T = 2 from a teacher" in text
    assert "uint8 (batch, 1, 4, 4)" in text
    assert str(project_root := Path.cwd()) not in text, project_root


def test_config_has_every_setting_that_decides_the_weights(project):
    """Those of params.yaml, see projects.py, and the defaults of the others."""
    said = json.loads((OUT / CONFIG).read_text())
    recipe = said["recipe"]
    assert (recipe["epochs"], recipe["batch_size"], recipe["label_smoothing"], recipe["keep"]) == (1, 8, 0, "last")
    assert (said["views"]["policy"], said["views"]["seed"], said["views"]["count"]) == ("shift(pixels=1)", 5, 3)
    assert said["rows"]["count"] == 20
    assert (said["soft"]["temperature"], said["soft"]["squared"], said["soft"]["weights"]) == (2, True, [1])


def test_the_figures_of_a_student_of_a_sweep_are_those_of_its_sweep(student):
    shutil.move(DATA / "plots", DATA / "sweeps/some/plots")
    figures, witnesses = job._figures(DATA, Checkpoint(**vars(student) | {"name": "some/s-T2"}), 4)
    assert [row.seed for row in figures.of("test")] == [4, 3, 5]
    assert figures.rows == {"valid": 5, "test": 3}
    assert len(witnesses) == 2  # the tables, and the test split
    assert job._figures(DATA, student, 4) == (Figures(4, [], {}), [])


def test_a_teacher_that_was_not_evaluated(project):
    shutil.rmtree(DATA / "plots")
    again("a", DATA / "exports/a")
    text = (DATA / "exports/a/README.md").read_text()
    assert "A teacher, `mlp(hidden=[5]" in text
    assert "This run was not evaluated" in text
    assert "other: none was named" in text


# ---------------------------------------------------------------- int8


def test_the_first_way_that_loses_little_is_taken_else_the_best(monkeypatch, tmp_path):
    labels = np.arange(1000) % 2
    trial = Trial.of(write_split(tmp_path / "x.parquet", np.zeros((1000, 1, 1, 1), np.uint8), labels, 2), torch.nn.Identity())
    usual = np.eye(2, dtype=np.float32)[labels]
    wrong = dict(zip((way.said for way in int8.WAYS), (30, 7, 5, 0), strict=True))

    def run(model: bytes):
        at = iter(range(0, 1000, 64))  # each piece of rows is seen once

        def logits(rows):
            first = next(at)
            flips = np.arange(first, first + len(rows)) < wrong[model.decode()]
            return np.where(flips[:, None], 9 - 9 * usual[first : first + len(rows)], 9 * usual[first : first + len(rows)])

        return logits

    monkeypatch.setattr(job, "session", run)
    monkeypatch.setattr(job.int8, "quantised", lambda model, rows, way: way.said.encode())
    monkeypatch.setattr(job.int8, "holds_int8", lambda model: True)
    made, shares, quantised = job._quantised(b"", False, trial, usual, [])
    assert made.decode() == quantised.way == int8.WAYS[2].said
    assert quantised.lost == pytest.approx(0.005)
    assert (shares.argmax(1) != labels).sum() == 5
    wrong |= dict.fromkeys(list(wrong)[2:], 9)
    assert job._quantised(b"", False, trial, usual, [])[2].lost == pytest.approx(0.007)


def test_calibration_rows_are_training_rows_each_once(project):
    train = open_splits(DATA / "transfer", ["train"])["train"]
    everything = {row.tobytes() for row in train.read_all()}
    some = np.concatenate(job._calibration(train, torch.nn.Identity(), 7))
    assert len(some) == 7
    assert len({row.tobytes() for row in some} & everything) == 7
    assert len(np.concatenate(job._calibration(train, torch.nn.Identity(), 10**6))) == train.rows


# ---------------------------------------------------------------- what is refused


def untouched(message: str, error: type[Exception] = InputError, **changes) -> None:
    """The export fails with this message, and the former one stays as it was."""
    before = tree(DATA / "exports")
    with pytest.raises(error, match=message):
        again(**changes)
    assert tree(DATA / "exports") == before


def test_a_model_that_predicts_otherwise_is_not_written(project, monkeypatch):
    other = (OUT / INT8).read_bytes()
    monkeypatch.setattr(job.onnxfile, "onnx_of", lambda *given: other)
    untouched(r"s-T2, model\.onnx: expected probabilities within 1e-05", IntegrityError)


def test_a_seed_that_was_not_trained_or_diverged(student, monkeypatch):
    untouched("run s-T2, seed: expected one of 3, 5, 4, found 7", seed=7)
    lost = [replace(net, sha256=None, diverged=1) if net.seed == 5 else net for net in student.nets]
    monkeypatch.setattr(job, "open_run", lambda *given: Checkpoint(**vars(student) | {"nets": tuple(lost)}))
    untouched(r"seed: expected one of 3, 4, found 5 \(diverged: 5\)", seed=5)
    lost = [replace(net, sha256=None, diverged=1) for net in student.nets]
    monkeypatch.setattr(job, "open_run", lambda *given: Checkpoint(**vars(student) | {"nets": tuple(lost)}))
    untouched(r"seed: expected a net that did not diverge, found none \(diverged: 3, 5, 4\)")


def test_other_validation_rows(project):
    write_split(DATA / "transfer/valid.parquet", np.zeros((5, 1, 4, 4), np.uint8), np.arange(5) % 3, 3)
    untouched("run s-T2, validation rows: expected")


def test_other_validation_labels(project):
    pixels = open_splits(DATA / "transfer", ["valid"])["valid"].read_all()
    write_split(DATA / "transfer/valid.parquet", pixels, np.zeros(5, np.int64), 3)
    untouched("run s-T2, validation")


def test_tables_of_another_training_however_near(project, student):
    change_teacher(DATA / "teachers/a", lambda net: net[2].weight.mul_(1 + 1e-6))
    untouched(
        r"data/plots, weights of a: expected .* as it is now, found .*Run `softcache evaluate` again",
        run="a", out=DATA / "exports/a",
    )  # fmt: skip


def test_tables_of_other_seeds(project):
    """The card gives the mean over all of them."""
    says(0, "distill", "s", "-T", "2", "--seeds", "3", "--seeds", "5", "--seeds", "6")
    untouched(r"data/plots, weights of s-T2\.6: expected \w{64} as it is now, found none\.", seed=3)


def test_tables_of_other_test_rows_are_left_out(project, caplog):
    write_split(DATA / "transfer/test.parquet", np.zeros((3, 1, 4, 4), np.uint8), np.arange(3) % 3, 3)
    again()
    assert "data/plots is of other rows than data/transfer, so the card says nothing of it" in caplog.text
    assert "| test |" not in (OUT / "README.md").read_text()


def test_changed_weights(project):
    path = DATA / "students/s-T2/seed-3.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    untouched(r"seed-3\.safetensors: expected sha256", IntegrityError, seed=3)


def test_a_folder_of_other_files(project):
    untouched("data/students: expected nothing but the files of an export, found s-T2, too", out=DATA / "students")


def test_exports_that_lie_in_an_export_are_not_deleted(project):
    """The first export of the sweep `alphas`, and one of a run that is called so."""
    shutil.copytree(OUT, OUT / "tiny-T4")
    untouched("s-T2: expected nothing but the files of an export, found tiny-T4, too")
    shutil.rmtree(OUT / "tiny-T4")
    (OUT / "__pycache__").mkdir()  # of `from softcache_export import load` in that folder
    again()


def test_teachers_without_a_net_of_torch(student, monkeypatch):
    for changes, message in (
        (
            {"kind": "imported"},
            "teacher x: expected a teacher with a net, found logits that were made elsewhere. Export a stud",
        ),
        ({"model": "onnx(path='x.onnx')"}, "teacher x: expected a net of torch, found an ONNX file already. Use that file, or"),
    ):
        changed = Checkpoint(**vars(student) | {"name": "x"} | changes)
        monkeypatch.setattr(job, "open_run", lambda *given, changed=changed: changed)
        untouched(message)


class Lonely(torch.nn.Module):
    """It gives a row by itself other logits."""

    def __init__(self, at_one):
        super().__init__()
        self.layer, self.at_one = torch.nn.Linear(16, 3), at_one

    def forward(self, pixels):
        logits = self.layer(pixels.float().flatten(1) / 255)
        return self.at_one(logits) if logits.shape[0] == 1 else logits


@pytest.mark.parametrize(
    ("at_one", "message", "error"),
    [
        (lambda logits: logits.flip(1), r"s-T2, torch: expected probabilities of a row by itself within 1e-05", IntegrityError),
        (torch.squeeze, r"s-T2, torch: expected logits \(1, classes\) of a batch of one row, found shape \(3,\)", InputError),
        (
            lambda logits: logits @ logits,
            r"s-T2, torch: expected logits \(1, classes\) of a batch of one row, found",
            InputError,
        ),
    ],
)
def test_a_net_that_treats_one_row_otherwise(project, monkeypatch, at_one, message, error):
    net = Lonely(at_one).eval()
    monkeypatch.setattr(Checkpoint, "load", lambda *given: net)
    untouched(message, error)


def test_a_net_with_nothing_to_quantise(project, monkeypatch):
    class Picked(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(3))

        def forward(self, pixels):
            return pixels.float().flatten(1)[:, :3] / 255 * self.scale

    monkeypatch.setattr(Checkpoint, "load", lambda *given: Picked().eval())
    shutil.rmtree(DATA / "plots")
    assert again().quantised.way is None
    assert (
        "`model.int8.onnx` is in float, as `model.onnx` is: nothing in it can be quantised" in (OUT / "README.md").read_text()
    )


def test_a_net_that_torch_cannot_trace_is_named(project, monkeypatch):
    class Unsteady(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(16, 3)

        def forward(self, pixels):
            values = pixels.float().flatten(1)
            return self.layer(values) if values.max() > 0 else self.layer(-values)

    train = open_splits(DATA / "transfer", ["train"])["train"]
    write_teacher(DATA / "teachers/u", torch.nn.Sequential(), train, model="mlp(hidden=[5])")
    monkeypatch.setattr(Checkpoint, "load", lambda *given: Unsteady().eval())
    untouched("u: expected a net that torch.export can trace, found .*", run="u", out=DATA / "exports/u")
