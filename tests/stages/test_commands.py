"""The commands, end to end on a few dozen images, and what they say when something is wrong."""

import json
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from conftest import images, measured, tree, write_parquet
from pipeline.base.commands import short
from pipeline.cache.reader import Cache
from pipeline.models.checkpoint import Checkpoint
from pipeline.results.footprint import Footprint
from pipeline.results.tables import BestRow, Tables
from stages.cli import COMMANDS, main

PARAMS = """
ingest: {train: source.parquet, valid: 0.25, test: 0.25, seed: 0}
teach: {optimizer: "sgd(lr=0.1, momentum=0.9)", epochs: 3, batch_size: 8, policy: shift(1)}
teachers:
  a: {model: "mlp(hidden=[12], dropout=0.2)", seed: 1}
  b: {model: "cnn(channels=[4])", seed: 2, epochs: 2}
views: {policy: shift(1) | flip(), views: 3, view_seed: 5}
capture: {dtype: float32, tile: 16}
recipe: {optimizer: adamw(lr=0.01), schedule: cosine(warmup=0.1), epochs: 3, batch_size: 8, seeds: [0, 1]}
students:
  tiny: {model: "mlp(hidden=[4])"}
temperatures: [1, 2.5]
distill: {teachers: [a, b], weights: [2, 1], rule: probabilities, alpha: 0.9}
sweeps: {both: {alphas: [0.5, 0.9]}}
"""


def run(*args: str) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def ok(*args: str) -> str:
    result = run(*args)
    assert result.exit_code == 0, result.output
    return result.output


def stage_one() -> None:
    """Ingest, and train and capture both teachers."""
    ok("ingest")
    for teacher in "ab":
        ok("teach", teacher)
        ok("capture", teacher)


def fails(code: int, *args: str) -> str:
    """Run a command that must fail as a user sees it: one message, no traceback."""
    result = run(*args)
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.output


@pytest.fixture
def project(tmp_path, source, monkeypatch) -> Path:
    """A folder with params.yaml and 48 images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOFTCACHE_DEVICE", "cpu")
    (tmp_path / "params.yaml").write_text(PARAMS)
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The same folder after every command has run; tests only read it."""
    folder = tmp_path_factory.mktemp("finished")
    write_parquet(folder / "source.parquet", *images(48), names=["low", "middle", "high"])
    (folder / "params.yaml").write_text(PARAMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SOFTCACHE_DEVICE", "cpu")
        stage_one()
        ok("distill", "tiny", "--hard")
        for temperature in ("1", "2.5"):
            ok("distill", "tiny", "-T", temperature)
        ok("evaluate")
        ok("report")
        (folder / "measured.txt").write_text(ok("footprint"))
        ok("versions")
        ok("distill", "tiny", "-T", "2.5", "--live")
        (folder / "swept.txt").write_text(ok("sweep", "both"))
    return folder


# ---------------------------------------------------------------- the whole way


def test_the_footprint_of_every_architecture(finished):
    """36 pixels and 3 classes, by hand: both teachers, and the one architecture of all students."""
    found = Footprint.open(finished / "data/footprint")
    sizes = {entry.model.partition("(")[0] + str(entry.parameters): entry.multiply_adds for entry in found.entries}
    assert sizes == {"mlp483": 36 * 12 + 12 * 3, "mlp163": 36 * 4 + 4 * 3, "cnn151": 36 * 4 * 9 + 36 * 3}
    assert all(set(entry.seconds) == {"1", "64"} and min(entry.seconds.values()) > 0 for entry in found.entries)
    assert (finished / "measured.txt").read_text() == f"wrote data/footprint: 3 architectures, by {found.machine}\n"


def test_everything_is_where_it_should_be(finished):
    assert sorted(path.name for path in (finished / "data").iterdir()) == [
        "caches", "footprint", "plots", "provenance", "report", "students", "sweeps", "teachers",
        "times.csv", "transfer", "versions",
    ]  # fmt: skip
    assert sorted(path.name for path in (finished / "data/students").iterdir()) == [
        "tiny-T1", "tiny-T2.5", "tiny-T2.5-live", "tiny-hard",
    ]  # fmt: skip
    assert sorted(path.name for path in (finished / "data/sweeps/both/students").iterdir()) == [
        "tiny-T1-alpha0.5", "tiny-T1-alpha0.9", "tiny-T2.5-alpha0.5", "tiny-T2.5-alpha0.9", "tiny-hard",
    ]  # fmt: skip
    assert sorted(path.name for path in (finished / "data/students/tiny-T1").iterdir()) == [
        "history.parquet", "model.json", "seed-0.safetensors", "seed-1.safetensors",
    ]  # fmt: skip
    assert sorted(path.name for path in (finished / "data/teachers/a").iterdir()) == [
        "history.parquet", "model.json", "model.safetensors",
    ]  # fmt: skip
    assert not list(finished.rglob("*.partial"))


def test_running_again_gives_the_same_bytes(finished, tmp_path, monkeypatch):
    """Every output but provenance, from nothing, in another folder."""
    write_parquet(tmp_path / "source.parquet", *images(48), names=["low", "middle", "high"])
    (tmp_path / "params.yaml").write_text(PARAMS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOFTCACHE_DEVICE", "cpu")
    stage_one()
    ok("distill", "tiny", "-T", "2.5")
    for folder in ("transfer", "teachers", "caches", "students/tiny-T2.5"):
        assert tree(tmp_path / "data" / folder) == tree(finished / "data" / folder), folder


def test_every_run_is_measured_and_metrics_are_means_of_the_best_over_seeds(finished):
    found = measured(finished / "data/plots")
    seeds = {"a": [None], "b": [None], "ensemble": [None], "tiny-hard": [0, 1], "tiny-T1": [0, 1], "tiny-T2.5": [0, 1]}
    assert {key: [row.seed for row in rows] for key, rows in found.items()} == {
        (run, split): each for run, each in seeds.items() for split in ("valid", "test")
    }
    assert found["ensemble", "test"][0].agreement == 1.0
    best = min((1.0, 2.5), key=lambda t: sum(row.nll for row in found[f"tiny-T{short(t)}", "valid"]))
    chosen, hard = (found[f"tiny-{name}", "test"] for name in (f"T{short(best)}", "hard"))
    saved = [before.errors - after.errors for before, after in zip(hard, chosen, strict=True)]
    (teacher,) = found["ensemble", "test"]
    assert json.loads((finished / "data/plots/metrics.json").read_text()) == {
        "teacher": {"accuracy": teacher.accuracy, "nll": teacher.nll},
        "tiny": {
            "temperature": best,
            "accuracy": pytest.approx(np.mean([row.accuracy for row in chosen])),
            "accuracy_std": pytest.approx(np.std([row.accuracy for row in chosen], ddof=1)),
            "nll": pytest.approx(np.mean([row.nll for row in chosen])),
            "hard_accuracy": pytest.approx(np.mean([row.accuracy for row in hard])),
            "errors_saved": pytest.approx(np.mean(saved)),
            "errors_saved_std": pytest.approx(np.std(saved, ddof=1)),
        },
    }


def test_accuracy_is_what_the_saved_student_gets(finished):
    """Recomputed from the weights with numpy alone."""
    from safetensors.numpy import load_file

    from pipeline.data.splits import Split

    split = Split.open(finished / "data/transfer/test.parquet")
    inputs, labels = split.read_all().reshape(split.rows, -1) / 255.0, split.labels()
    errors = []
    for seed in (0, 1):
        first, first_bias, last, last_bias = (
            load_file(finished / f"data/students/tiny-T1/seed-{seed}.safetensors")[key]
            for key in ("2.weight", "2.bias", "4.weight", "4.bias")
        )
        errors.append(((np.maximum(inputs @ first.T + first_bias, 0) @ last.T + last_bias).argmax(1) != labels).sum())
    found = measured(finished / "data/plots")["tiny-T1", "test"]
    assert [row.errors for row in found] == errors
    assert [row.accuracy for row in found] == pytest.approx([1 - wrong / split.rows for wrong in errors])


def test_the_ensemble_is_the_weighted_mean_of_probabilities(finished):
    """Weights 2 and 1, worked out with numpy from the members' logits."""
    from pipeline.data.splits import Split

    for split in ("valid", "test"):
        labels = Split.open(finished / f"data/transfer/{split}.parquet").labels()
        members = [np.exp(Cache.open(finished / "data/caches" / name).read(split)[0].astype(float)) for name in "ab"]
        mean = sum(share * odds / odds.sum(1, keepdims=True) for share, odds in zip((2 / 3, 1 / 3), members, strict=True))
        (found,) = measured(finished / "data/plots")["ensemble", split]
        assert found.errors == (mean.argmax(1) != labels).sum()
        assert found.nll == pytest.approx(-np.log(mean[np.arange(len(labels)), labels]).mean(), rel=1e-5)


def test_a_student_names_the_caches_it_learned_from(finished):
    found = opened(finished / "data/students/tiny-T2.5")
    digests = {name: Cache.open(finished / "data/caches" / name).manifest.digest for name in "ab"}
    assert vars(found.soft) == {
        "temperature": 2.5, "alpha": 0.9, "label_weight": 1 - 0.9, "loss": "kl()", "loss_behaviour": "version 1",
        "squared": True, "standardised": False, "rule": "probabilities", "rule_version": 1,
        "weights": (2 / 3, 1 / 3), "caches": digests, "live": None,
        "temperature_schedule": None, "alpha_schedule": None, "loss_warmup": 0,
        "features": (), "feature_behaviours": (), "learned_temperature": None,
    }  # fmt: skip
    assert (found.kind, found.name) == ("student", "tiny-T2.5")
    baseline = opened(finished / "data/students/tiny-hard")
    assert (baseline.kind, baseline.soft) == ("baseline", None)


def opened(folder: Path) -> Checkpoint:
    """A student, by its own folder or a sweep's."""
    sweep = f"{folder.parents[1].name}/" if folder.parents[2].name == "sweeps" else ""
    return Checkpoint.open(folder, kinds=["student", "baseline", "live"], name=f"{sweep}{folder.name}", fix="")


def weights(folder: Path) -> np.ndarray:
    """All weights of the students in a folder, in one row per seed."""
    from safetensors.numpy import load_file

    return np.stack(
        [
            np.concatenate([v.ravel() for _, v in sorted(load_file(path).items())])
            for path in sorted(folder.glob("*.safetensors"))
        ]
    )


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("sweeps/both/students/tiny-T2.5-alpha0.9", "tiny-T2.5"),
        ("sweeps/both/students/tiny-hard", "tiny-hard"),
        ("students/tiny-T2.5-live", "tiny-T2.5"),
    ],
)
def test_students_swept_or_live_are_those_that_were_distilled(finished, name, reference):
    """Ten times nearer to their own than to any other."""
    here = weights(finished / "data" / name)
    apart = {
        other: np.abs(here - weights(finished / "data/students" / other)).max()
        for other in ("tiny-T1", "tiny-T2.5", "tiny-hard")
    }
    assert apart.pop(reference) < min(apart.values()) / 10


def test_results_of_a_sweep_are_a_row_per_student(finished):
    import pyarrow.parquet as pq

    from pipeline.data.splits import Split
    from pipeline.models.predict import predict

    rows = pq.read_table(finished / "data/sweeps/both/plots/results.parquet").to_pylist()
    settings = [(row["temperature"], row["alpha"], row["seed"]) for row in rows]
    assert sorted(settings, key=str) == sorted(
        [(None, None, seed) for seed in (0, 1)] + [(t, a, seed) for t in (1.0, 2.5) for a in (0.5, 0.9) for seed in (0, 1)],
        key=str,
    )
    import torch

    row = rows[settings.index((2.5, 0.5, 1))]
    folder = finished / "data/sweeps/both/students/tiny-T2.5-alpha0.5"
    checkpoint = opened(folder)
    net = checkpoint.load(checkpoint.nets[1], torch.device("cpu"))
    for split in ("valid", "test"):
        held = Split.open(finished / f"data/transfer/{split}.parquet")
        said = predict(net, torch.from_numpy(held.read_all())).argmax(1)
        assert row[f"{split}_errors"] == (said != held.labels()).sum()


def test_a_sweep_says_what_was_best_on_validation_and_how_sure_that_is(finished):
    (best,) = Tables.open(finished / "data/sweeps/both/plots").read(BestRow)
    found = measured(finished / "data/sweeps/both/plots")
    nll = {run: sum(row.nll for row in rows) for (run, split), rows in found.items() if split == "valid" and "-T" in run}
    assert len(nll) == 4
    assert best.run == min(nll, key=nll.get)
    shown = json.loads((finished / "data/sweeps/both/plots/metrics.json").read_text())
    assert (shown["tiny"]["temperature"], shown["tiny"]["alpha"]) == (best.temperature, best.alpha)
    assert shown["tiny"]["errors_saved"] == best.errors_saved
    assert best.over_seeds_low <= best.errors_saved <= best.over_seeds_high
    assert best.over_rows_low <= best.errors_saved <= best.over_rows_high
    text = (finished / "swept.txt").read_text()
    assert f"tiny at T = {short(best.temperature)} and alpha = {best.alpha} (lowest validation NLL)" in text
    assert "over 2 seeds (paired t; of so few it says little)" in text
    assert "over test rows (bootstrap)" in text
    assert text.endswith("wrote data/sweeps/both: 10 students over all seeds, metrics and plots\n")


def test_a_sweep_may_set_anything_for_its_students(finished, tmp_path, monkeypatch):
    """Of teachers, rows, views and epochs here; a section of a sweep comes before that of a student."""
    monkeypatch.chdir(finished)
    said = "{temperatures: [], teachers: [b], weights: null, epochs: 1, seeds: [4], rows: 'only([0, 1])', views: 1}"
    params = PARAMS.replace('hidden=[4])"}', 'hidden=[4])", seeds: [7]}').replace("sweeps: {", f"sweeps: {{part: {said}, ")
    (tmp_path / "params.yaml").write_text(params)
    out = ok("sweep", "part", "--params", tmp_path / "params.yaml")
    assert out == (
        "tiny-hard, seed 4: learned nothing: its validation accuracy, 33.33 %, "
        "is not clearly above always naming the commonest class; "
        "try a lower learning rate, another optimizer such as adam(lr=0.003), or more epochs\n"
        "To see every run: softcache report data/sweeps/part --out data/sweeps/part/report\n"
        "wrote data/sweeps/part: 1 student over all seeds, metrics and plots\n"
    )
    assert Tables.open(finished / "data/sweeps/part/plots").read(BestRow) == []
    folder = finished / "data/sweeps/part"
    assert [path.name for path in (folder / "students").iterdir()] == ["tiny-hard"]
    assert {run for run, _ in measured(folder / "plots")} == {"b", "tiny-hard"}
    assert json.loads((folder / "plots/metrics.json").read_text())["tiny"].keys() == {"hard_accuracy"}
    found = opened(folder / "students/tiny-hard")
    assert [net.seed for net in found.nets] == [4]
    assert found.recipe.epochs == 1
    assert found.rows.selection == "only(classes=[0, 1])"
    assert (found.views.policy, found.views.seed, found.views.count) == ("shift(pixels=1) | flip()", 5, 1)
    ok("sweep", "part", "--params", tmp_path / "params.yaml", "--temperatures", "3", "--no-baseline")
    assert [path.name for path in (folder / "students").iterdir()] == ["tiny-T3-alpha0.9"]
    assert json.loads((folder / "plots/metrics.json").read_text())["tiny"]["temperature"] == 3
    import shutil

    shutil.rmtree(folder)


PUBLISHED = """
published:
  source: a paper
  rows:
    - {what: both teachers, folder: both, runs: [a, b], published: 67}
"""


def test_several_folders_can_be_reported(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(finished)
    (tmp_path / "params.yaml").write_text(PARAMS + PUBLISHED)
    shutil.copytree("data/plots", tmp_path / "one by one/plots")
    out = tmp_path / "page"
    given = ("--out", out, "--params", tmp_path / "params.yaml", "--tensorboard", tmp_path / "events")
    text = ok("report", "data/sweeps/both/", tmp_path / "one by one", *given)
    assert text == (
        f"wrote {tmp_path}/events: look at it with tensorboard --logdir {tmp_path}/events\n"
        f"wrote {out}/index.html: open it in a browser\n"
    )
    assert len(tree(tmp_path / "events")) == 1 + (3 + 5 * 2) + (3 + 3 * 2)  # the columns; teachers and students of each
    names = ["both.svg", "index.html", "one by one.svg", "published.md", "results.json", "results.md"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert ">alpha</text>" in (out / "both.svg").read_text()
    page = (out / "index.html").read_text()
    assert page.index(">both</h1>") < page.index(">one by one</h1>")
    errors = [row.errors for name in "ab" for row in measured(finished / "data/plots")[name, "test"]]
    assert json.loads((out / "results.json").read_text())["rows"][0]["values"] == errors
    assert (
        f"| both teachers | 67 | {np.mean(errors):.1f} ± {np.std(errors, ddof=1):.1f} | 2 |"
        in (out / "published.md").read_text()
    )


def test_folders_that_cannot_be_reported(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(finished)
    before = tree(finished / "data/report")
    text = fails(2, "report", "data/sweeps/both", tmp_path / "both")
    assert f"expected folders of different names, found data/sweeps/both and {tmp_path}/both. Rename one of them." in text
    assert f"{tmp_path}/none/plots: expected tables, found none" in fails(2, "report", tmp_path / "none")
    assert "data: expected a report, or nothing, found caches, footprint, plots" in fails(
        2, "report", "data/sweeps/both", "--out", "data"
    )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/results.md").write_text("mine")
    (tmp_path / "mine/thesis.tex").write_text("mine too")
    assert "or nothing, found thesis.tex" in fails(2, "report", "data/sweeps/both", "--out", tmp_path / "mine")
    assert len(list((tmp_path / "mine").iterdir())) == 2
    for events in ("data/report/events", "data"):
        text = fails(2, "report", "--tensorboard", events)
        assert f"tensorboard: expected a folder apart from data/report, found {events}. Name another folder." in text
    (tmp_path / "empty").mkdir()
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path / "empty")
        assert ".: expected a report, or nothing, found no name" in fails(
            2, "report", finished / "data/sweeps/both", "--out", "."
        )
    (tmp_path / "params.yaml").write_text(PARAMS + PUBLISHED)
    text = fails(2, "report", "--params", tmp_path / "params.yaml")
    assert "published 'both teachers', folder: expected none, because there are none, found 'both'" in text
    ok("report", "--params", tmp_path / "params.yaml", "--no-published", "--out", tmp_path / "without")
    assert not (tmp_path / "without/published.md").exists()
    (tmp_path / "params.yaml").write_text(PARAMS + "published: 67")
    assert "published: expected a section, found 67" in fails(2, "report", "--params", tmp_path / "params.yaml")
    assert tree(finished / "data/report") == before


def test_rows_and_selection_are_recorded_and_the_best_epoch_is_kept(finished, tmp_path, monkeypatch):
    """With a constant learning rate, the best of six epochs at epoch k is the last one of k epochs."""
    monkeypatch.chdir(finished)
    recipe = "recipe: {optimizer: adamw(lr=0.3), schedule: constant, epochs: 6, batch_size: 8, keep: best, seeds: [1]}"
    (tmp_path / "params.yaml").write_text(re.sub("recipe: .*", recipe, PARAMS))
    options = ("--params", tmp_path / "params.yaml", "--rows", "without(['low'])", "--alpha", "0.5")
    ok("distill", "tiny", "-T", "7", *options)
    found = opened(finished / "data/students/tiny-T7")
    assert found.rows.selection == "without(classes=['low'])"
    assert 0 < found.rows.count < 27
    kept = found.nets[0].kept_epoch
    assert 1 <= kept < 6
    best = weights(finished / "data/students/tiny-T7")
    ok("distill", "tiny", "-T", "7", *options, "--keep", "last", "--epochs", kept)
    assert (best == weights(finished / "data/students/tiny-T7")).all()
    ok("distill", "tiny", "-T", "7", *options, "--correct", "low")
    offsets = opened(finished / "data/students/tiny-T7").nets[0].offsets
    assert offsets[0] > 0  # the class that it never saw
    assert offsets[1:] == (0, 0)
    found = weights(finished / "data/students/tiny-T7") - best
    assert np.count_nonzero(found) == 1
    assert found.sum() == pytest.approx(offsets[0], rel=1e-5)
    import shutil

    shutil.rmtree(finished / "data/students/tiny-T7")


@pytest.mark.parametrize(
    ("command", "change", "message"),
    [
        (
            ("sweep", "both"),
            ("alphas: [0.5, 0.9]", "alphas: 0.5"),
            "params.yaml, sweeps.both.alphas: expected a list, found 0.5. Write it in brackets: [0.5]",
        ),
        (
            ("sweep", "both"),
            ("alphas: [0.5, 0.9]", "alpfa: [0.5]"),
            "params.yaml, sweeps.both.alpfa: expected one of students,",
        ),
        (
            ("sweep", "both"),
            ("alphas: [0.5, 0.9]", "alpha: 0.3, alphas: [0.5]"),
            "params.yaml, sweeps.both: expected alpha or alphas, found both",
        ),
        (
            ("sweep", "both"),
            ("alphas: [0.5, 0.9]", "alpha: [0.3]"),
            "params.yaml, sweeps.both.alpha: expected a number, found [0.3].",
        ),
        (
            ("distill", "tiny", "-T", "1"),
            ("alpha: 0.9}", "alpha: [0.9]}"),
            "params.yaml, distill.alpha: expected a number, found [0.9].",
        ),
        (
            ("teach", "a"),
            ("epochs: 3, batch_size: 8, policy", "epochs: 3, batch_size: 8, max_norm: [2], policy"),
            "expected a number, found [2].",
        ),
        (("sweep", "none"), ("", ""), "sweeps.none: expected a section 'none', found both"),
        (("sweep", "both"), ("temperatures: [1, 2.5]", "temperatures: 4"), "temperatures: expected a list such as"),
        (("sweep", "both", "--no-baseline"), ("temperatures: [1, 2.5]", "temperatures: []"), "no baseline"),
        (("sweep", "both"), ("temperatures: [1, 2.5]", "temperatures: []"), "alphas without temperatures"),
        (("sweep", "both", "--students", "other"), ("", ""), "students.other: expected a section 'other'"),
        (("sweep", "both", "--alphas", "1.5"), ("", ""), "alpha: expected a number from 0 to 1, found 1.5"),
        (("distill", "tiny", "--hard", "--live"), ("", ""), "Give either --live or --hard"),
        (("distill", "tiny", "-T", "1", "--rows", "only([5])"), ("", ""), "rows by class: expected a label from 0 to 2"),
        (("distill", "tiny", "-T", "1", "--correct", "none"), ("", ""), "correct: expected a label from 0 to 2"),
        (("distill", "tiny", "-T", "1", "--patience", "2"), ("", ""), "patience: expected `keep: best` with it"),
        (("distill", "tiny", "-T", "1"), ("alpha: 0.9}", "alpha: 0.9, t_squared: perhaps}"), "t_squared"),
        (("distill", "tiny", "-T", "1"), ("alpha: 0.9}", "alpha: 0.9, loss: dkd(gamma=1)}"), "spec dkd"),
    ],
)
def test_bad_settings_of_students_are_refused(finished, monkeypatch, tmp_path, command, change, message):
    monkeypatch.chdir(finished)
    (tmp_path / "params.yaml").write_text(PARAMS.replace(*change))
    before = tree(finished / "data")
    assert message in fails(2, *command, "--params", tmp_path / "params.yaml")
    after = tree(finished / "data")
    after["times.csv"] = before["times.csv"]  # of failures too
    assert after == before


def test_folded_validation_rows_choose_nothing(project):
    (project / "params.yaml").write_text(PARAMS.replace("test: 0.25, seed: 0", "test: 0.25, fold: true, seed: 0"))
    stage_one()
    for options in (("--keep", "best"), ("--correct", "low")):
        text = fails(2, "distill", "tiny", "-T", "1", *options)
        assert "expected validation rows that are not training rows" in text
    ok("distill", "tiny", "-T", "1")
    ok("distill", "tiny", "--hard")
    ok("evaluate", "--temperatures", "1")
    ok("distill", "tiny", "-T", "2.5")
    assert "choice among several settings of a student: expected validation rows" in fails(2, "evaluate")


def test_cached_logits_are_the_teachers_on_the_replayed_views(finished):
    """Invariant 4 (d), with the model called by hand on every row of every view."""
    import torch

    from pipeline.data.splits import open_splits
    from pipeline.data.views import Policy

    cache = Cache.open(finished / "data/caches/b")
    split = open_splits(finished / "data/transfer", ["transfer"])["transfer"]
    teacher = Checkpoint.teacher(finished / "data/teachers/b")
    net = teacher.load(teacher.nets[0], torch.device("cpu"))
    policy, rows = Policy.parse("shift(1) | flip()", 5), np.arange(split.rows)
    pixels = torch.from_numpy(split.read_all())
    stored = cache.read("transfer")
    assert stored.shape == (3, 27, 3)
    for view in range(3):
        live = net(policy.apply(pixels, rows, np.full(split.rows, view))).detach().numpy()
        assert np.abs(live - stored[view]).max() <= 1e-5 * np.ptp(stored)
    assert np.abs(stored[1] - stored[2]).max() > 1e-3


def test_the_report_opens_without_a_network(finished):
    """No script and no picture lies elsewhere; test_page.py asks a browser."""
    page = re.sub("<script.*?</script>", "", (finished / "data/report/index.html").read_text(), flags=re.DOTALL)
    assert not re.search(r"<link|(src|href)=\"(?!#|data:)", page)
    for run_name in ("ensemble", "tiny-hard", "tiny-T1", "tiny-T2.5"):
        assert f"<td>{run_name}" in page


def test_capture_again_computes_nothing(finished, monkeypatch):
    monkeypatch.chdir(finished)
    before = tree(finished / "data/caches/a")
    assert "5 kept from before" in ok("capture", "a")
    assert tree(finished / "data/caches/a") == before


# ---------------------------------------------------------------- help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_ends_in_an_example(name):
    text = ok(name, "--help")
    assert text.split("Options:")[1].split("Example:\n")[1].startswith(f"    softcache {name}")
    assert ok(name, "-h") == text


def test_the_group_lists_every_command():
    text = ok("--help")
    assert all(f"  {name} " in text for name in COMMANDS)
    lines = text.split("Commands:\n")[1].split("\n\n")[0].splitlines()
    assert len(lines) == len(COMMANDS)  # each on a line of its own
    assert all(line.endswith(".") and not line.endswith("..") for line in lines)  # and whole


# ---------------------------------------------------------------- settings


def test_an_option_comes_before_params(project):
    assert "train 18, valid 6, test 24 rows of 6×6×1, 3 classes" in ok("ingest", "--test", "0.5")


def test_ingest_says_when_it_folded(project):
    text = ok("ingest", "--fold")
    assert "train 36, valid 9, test 12 rows" in text
    assert text.endswith("3 classes; folded: the validation rows are training rows too\n")
    assert "folded" not in ok("ingest")
    (project / "params.yaml").write_text(PARAMS.replace("test: 0.25", "test: 0.25, fold: true"))
    folded = ok("ingest")
    assert folded == text
    assert "folded" not in ok("ingest", "--no-fold")
    (project / "params.yaml").write_text(PARAMS.replace("test: 0.25", "test: 0.25, fold: 3"))
    assert "params.yaml, ingest.fold: expected true or false, found 3." in fails(2, "ingest")


def test_ingest_counts_a_damaged_row_once(project):
    encoded, labels = images(48)
    for row in range(0, 48, 3):
        encoded[row] = b"not an image"
    write_parquet(project / "source.parquet", encoded, labels, names=["low", "middle", "high"])
    for fold in ("--fold", "--no-fold"):
        assert ", 16 damaged rows left out" in ok("ingest", "--damaged", "exclude", fold)


def test_null_means_the_default(project):
    (project / "params.yaml").write_text(PARAMS.replace("test: 0.25", "test: null"))
    assert "test 10 rows" in ok("ingest")


def test_an_unknown_key_lists_the_known_ones(project):
    (project / "params.yaml").write_text(PARAMS.replace("seed: 0}", "sede: 0}"))
    text = fails(2, "ingest")
    assert "ingest.sede" in text
    assert "train, valid, test, labels, transfer, size, fit, damaged, seed, fold" in text


def test_a_misspelt_section_is_told_and_sections_of_others_are_left_alone(project):
    (project / "params.yaml").write_text(PARAMS.replace("temperatures:", "temperaturs:"))
    for command in (("evaluate",), ("ingest",)):
        assert "params.yaml, temperaturs: expected the section temperatures, found temperaturs" in fails(2, *command)
    (project / "params.yaml").write_text(PARAMS + "\nmine: {of: my own}\nteam: b\nteachers_old: {}\nrecipe2: {}\n")
    ok("ingest")


def test_an_unknown_teacher_lists_the_known_ones(project):
    assert "expected a section 'z', found a, b" in fails(2, "teach", "z")


def test_a_name_that_yaml_takes_for_a_number(project):
    ok("ingest")
    (project / "params.yaml").write_text(PARAMS.replace("students:\n", "students:\n  1: {model: 'mlp(hidden=[2])'}\n"))
    ok("distill", "1", "--hard")
    (project / "params.yaml").write_text(PARAMS.replace("students:\n", "students:\n  1: {}\n  '1': {}\n"))
    assert "expected each name once" in fails(2, "distill", "1", "--hard")
    assert (project / "data/students/1-hard/model.json").exists()


def test_a_missing_section_is_named(project):
    (project / "params.yaml").write_text("ingest: {train: source.parquet}")
    assert "params.yaml, teach:" in fails(2, "teach", "a")


@pytest.mark.parametrize("text", ["a: [", "a: 1\na: 2\n", "\t"])
def test_yaml_that_does_not_parse(project, text):
    (project / "params.yaml").write_text(text)
    assert "params.yaml: expected YAML" in fails(2, "ingest")


def test_numbers_of_yaml_1_2(project):
    """1e-3 is a number there; PyYAML would read text."""
    (project / "params.yaml").write_text(PARAMS.replace("valid: 0.25", "valid: 2.5e-1"))
    assert "valid 9" in ok("ingest")


@pytest.mark.parametrize("name", ["../x", "a b", "$(touch x)", "-x", "a.b", ""])
def test_names_are_safe_in_paths_and_shells(project, name):
    assert "letters, digits" in fails(2, "teach", "--", name)


@pytest.mark.parametrize("temperature", ["0", "-1", "nan", "inf", "warm", "1_0", " 4"])
def test_temperatures_are_above_zero(project, temperature):
    assert "expected a number from 1e-06 to 1e+06" in fails(2, "distill", "tiny", f"-T{temperature}")


def test_a_temperature_or_hard_labels(project):
    assert "either --temperature or --hard" in fails(2, "distill", "tiny")
    assert "either --temperature or --hard" in fails(2, "distill", "tiny", "--hard", "-T", "1")


def test_a_device_that_is_not_there(project):
    ok("ingest")
    assert "device 'cuda:7'" in fails(2, "teach", "a", "--device", "cuda:7")


# ---------------------------------------------------------------- all views


def test_all_views_from_the_settings_to_the_student(project):
    """Captured once in all 18, verified, and learned from by a student whose model.json says so."""
    (project / "params.yaml").write_text(PARAMS.replace("views: 3, view_seed: 5", "views: all"))
    stage_one()
    assert "18 views" in ok("capture", "a", "--anew")
    manifest = Cache.open(project / "data/caches/a").manifest
    assert manifest.extents["transfer"].views == manifest.identity["views"]["outcomes"] == 18
    assert "--views all" in " ".join(manifest.options)
    ok("verify", "a", "--deep", "20")
    ok("distill", "tiny", "-T", "1")
    found = json.loads((project / "data/students/tiny-T1/model.json").read_text())["views"]
    assert (found["count"], found["seed"]) == (18, None)
    ok("evaluate")
    (project / "params.yaml").write_text(PARAMS)
    ok("capture", "b", "--views", "all")
    assert Cache.open(project / "data/caches/b").manifest.extents["transfer"].views == 18


@pytest.mark.parametrize("word", ["every", "1.5", "ALL", "", "true"])
def test_other_words_than_all_are_refused(project, word):
    assert f"'{word}': expected a whole number, or all" in fails(2, "capture", "a", "--views", word)
    (project / "params.yaml").write_text(PARAMS.replace("views: 3", f"views: {word or 'x'}"))
    assert "params.yaml, views.views: expected a whole number, or all, found" in fails(2, "capture", "a")


def test_a_policy_without_finite_outcomes_is_refused(project):
    (project / "params.yaml").write_text(PARAMS.replace("shift(1) | flip(), views: 3", "elastic(1), views: all"))
    ok("ingest")
    ok("teach", "a")
    assert "views: all: expected steps with finitely many outcomes" in fails(2, "capture", "a")


# ---------------------------------------------------------------- refusing what does not match


@pytest.fixture
def captured(project) -> Path:
    stage_one()
    return project


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (("shift(1) | flip()", "shift(2) | flip()"), "views.policy: expected shift(pixels=2) | flip() as in the setting"),
        (("view_seed: 5", "view_seed: 6"), "views.seed: expected 6 as in the setting, found 5"),
        (("views: 3", "views: 4"), "views.count: expected 4 as in the setting, found 3"),
    ],
)
def test_a_cache_of_other_views_is_refused(captured, change, field):
    (captured / "params.yaml").write_text(PARAMS.replace(*change))
    text = fails(2, "distill", "tiny", "-T", "1")
    assert f"cache a, {field}" in text
    assert "softcache capture a" in text
    assert not (captured / "data/students").exists()


def test_a_cache_of_other_data_is_refused(captured):
    write_parquet(captured / "source.parquet", *images(48, seed=1), names=["low", "middle", "high"])
    ok("ingest")
    for command in (("distill", "tiny", "-T", "1"), ("evaluate",)):
        message = fails(2, *command)
        assert "cache a, transfer rows 0 to 26, which begin with id 'train-0000" in message


def test_a_cache_of_other_classes_is_refused(captured):
    write_parquet(captured / "source.parquet", *images(48), names=["low", "middle", "top"])
    ok("ingest")
    assert "cache a, classes: expected ['low', 'middle', 'top']" in fails(2, "distill", "tiny", "-T", "1")
    assert "teacher a, classes" in fails(2, "capture", "a")


def test_fewer_views_than_captured_are_fine(captured):
    (captured / "params.yaml").write_text(PARAMS.replace("views: 3", "views: 2"))
    ok("distill", "tiny", "-T", "1")


def test_an_unfinished_cache_is_refused(captured):
    (captured / "data/caches/a/manifest.json").unlink()
    text = fails(3, "distill", "tiny", "-T", "1")
    assert "expected a sealed cache" in text


def test_a_damaged_cache_is_refused_and_capture_mends_it(captured):
    path = captured / "data/caches/a/logits.zarr/transfer/c/1/0/0"
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.unlink()
    path.write_bytes(data)
    assert "softcache capture a" in fails(3, "distill", "tiny", "-T", "1")
    ok("capture", "a")
    ok("distill", "tiny", "-T", "1")


def test_growing_the_views_computes_only_the_new_ones(captured):
    (captured / "params.yaml").write_text(PARAMS.replace("views: 3", "views: 5"))
    assert "2 spans computed, 5 kept from before" in ok("capture", "a")
    ok("capture", "b")
    ok("distill", "tiny", "-T", "1")


def test_evaluate_refuses_students_of_other_caches_and_of_other_data(captured):
    ok("distill", "tiny", "--hard")
    ok("distill", "tiny", "-T", "1")
    only = ("evaluate", "--temperatures", "1")
    ok(*only)
    ok("teach", "b", "--seed", "9")
    ok("capture", "b")
    assert "student tiny-T1, caches.b: expected" in fails(2, *only)
    write_parquet(captured / "source.parquet", *images(48, size=8), names=["low", "middle", "high"])
    stage_one()
    assert "student tiny-hard, inputs.shape: expected [1, 8, 8]" in fails(2, *only)


def test_a_failed_evaluation_leaves_metrics_and_plots_as_they_were(captured):
    """Baseline and student share no seed: known only when everything has been measured."""
    ok("distill", "tiny", "--hard")
    ok("distill", "tiny", "-T", "1")
    ok("evaluate", "--temperatures", "1")
    before = tree(captured / "data/plots")
    ok("distill", "tiny", "-T", "1", "--seeds", "7")
    assert "expected some in common" in fails(2, "evaluate", "--temperatures", "1")
    assert tree(captured / "data/plots") == before


def test_runs_of_one_name_are_refused(captured):
    ok("distill", "tiny", "--hard")
    (captured / "params.yaml").write_text(PARAMS.replace("  b: {", "  ensemble: {").replace("[a, b]", "[a, ensemble]"))
    ok("teach", "ensemble")
    ok("capture", "ensemble")
    ok("distill", "tiny", "-T", "1")
    text = fails(2, "evaluate", "--temperatures", "1")
    assert "run name ensemble: expected one run of that name, found a teacher and a ensemble" in text


def test_a_recipe_hidden_in_another_section_is_refused(project):
    """Else it would change the baseline behind DVC's back."""
    (project / "params.yaml").write_text(PARAMS.replace("alpha: 0.9}", "alpha: 0.9, epochs: 1}"))
    text = fails(2, "distill", "tiny", "-T", "1")
    assert re.search(r"distill.epochs: expected one of teachers, .*alpha, label_weight, .*found 'epochs'", text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("epochs: 3, batch_size: 8, policy", "epochs: 1.9, batch_size: 8, policy"), "expected a whole number"),
        (("epochs: 3, batch_size: 8, policy", "epochs: true, batch_size: 8, policy"), "expected a whole number"),
    ],
)
def test_half_numbers_are_not_cut(project, change, message):
    (project / "params.yaml").write_text(PARAMS.replace(*change))
    assert message in fails(2, "teach", "a")


@pytest.mark.parametrize("value", [".nan", ".inf", "[1]", "true"])
def test_amounts_are_numbers(project, value):
    (project / "params.yaml").write_text(PARAMS.replace("valid: 0.25", f"valid: {value}"))
    fails(2, "ingest")


def test_a_list_is_asked_for(project):
    (project / "params.yaml").write_text(PARAMS.replace("seeds: [0, 1]", "seeds: 3"))
    assert "params.yaml, recipe.seeds: expected a list, found 3. Write it in brackets: [3]." in fails(
        2, "distill", "tiny", "--hard"
    )


def test_without_a_teacher_or_data(project):
    assert "Run `softcache ingest`" in fails(2, "teach", "a")
    ok("ingest")
    assert "data/teachers/a/model.json: expected a file, found none" in fails(2, "capture", "a")
    assert "expected a sealed cache" in fails(3, "distill", "tiny", "-T", "1")


def test_a_transfer_set_without_any_label_needs_alpha_1(captured):
    write_parquet(captured / "bare.parquet", images(20, seed=3)[0], None)
    (captured / "params.yaml").write_text(PARAMS.replace("seed: 0}", "seed: 0, transfer: [bare.parquet]}", 1))
    assert "20 rows of the transfer set without a label: students learn from their soft targets alone" in ok("ingest")
    for teacher in "ab":
        ok("capture", teacher)
    text = fails(2, "distill", "tiny", "-T", "1")
    assert "20 rows without" in text
    assert "Set alpha to 1" in text
    ok("distill", "tiny", "-T", "1", "--alpha", "1")
    ok("distill", "tiny", "--hard")  # on the training split


def test_a_folder_that_cannot_be_written(project):
    (project / "data").write_text("a file where the folder should be")
    assert "data" in fails(2, "ingest")


def test_a_student_that_diverges_is_told_and_recorded_and_the_others_are_measured(captured):
    ok("distill", "tiny", "--hard")
    ok("distill", "tiny", "-T", "1")
    text = ok("distill", "tiny", "-T", "2.5", "--optimizer", "sgd(lr=1e30)", "--model", "mlp(hidden=[4, 4])")
    for seed in (0, 1):
        assert f"tiny-T2.5, seed {seed}: diverged in epoch 1 and is left out; lower the learning rate" in text
    assert text.endswith("wrote data/students/tiny-T2.5: 0 seeds; 2 of 2 seeds diverged\n")
    assert [net.diverged for net in opened(captured / "data/students/tiny-T2.5").nets] == [1, 1]
    ok("evaluate")
    assert ("tiny-T2.5", "test") not in measured(captured / "data/plots")
    assert json.loads((captured / "data/plots/metrics.json").read_text())["tiny"]["temperature"] == 1
    assert Tables.open(captured / "data/plots").read(BestRow)[0].run == "tiny-T1"
    ok("report")
    assert "tiny-T2.5 <small>(2 diverged)</small>" in (captured / "data/report/index.html").read_text()


def test_the_console_script_prints_one_line_and_no_traceback(project):
    done = subprocess.run(
        [sys.executable, "-c", "from stages.cli import COMMANDS, main; main()", "teach", "a"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(
        "Error: data/transfer: expected splits written by ingest, found none. Run `softcache ingest`."
    )
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_settings_are_options(name):
    """What a section may set is an option of the command that reads it; but `sweep` and `adopt` read those of others too."""
    command = import_module(f"stages.{name}").command
    options = {option.name for option in command.params}
    if other := {"sweep": "distill", "adopt": "teach"}.get(name):
        options |= {option.name for option in import_module(f"stages.{other}").command.params}
    for section, keys in getattr(command, "sections", {}).items():
        assert set(keys) <= options, section


def test_a_square_size_may_be_said_twice(tmp_path, source):
    """Height and width are one value, not two of which each may be given once."""
    words = [
        "ingest",
        "--train",
        str(source),
        "--valid",
        "0.2",
        "--labels",
        "all",
        "--size",
        "5x5",
        "--data",
        str(tmp_path / "data"),
    ]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert "rows of 5×5×1 (crop), 3 classes" in result.output
