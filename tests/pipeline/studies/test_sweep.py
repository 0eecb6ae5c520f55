"""A sweep gives the students that `distill` gives, all at once."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import images, measured, run_capture, tree, write_parquet, write_stage_one
from pipeline.base import runtime
from pipeline.base.errors import BusyError, InputError
from pipeline.data.settings import Views
from pipeline.data.splits import Split, open_splits
from pipeline.models.checkpoint import Checkpoint
from pipeline.results import evaluate as evaluation
from pipeline.results.evaluate import Evaluated
from pipeline.results.tables import BestRow, ClassRow, StudentRow, Tables
from pipeline.studies import sweep as sweep_room
from pipeline.studies.groups import Plan, key
from pipeline.studies.sweep import sweep
from pipeline.training import fit, lesson
from pipeline.training import lesson as lesson_room
from pipeline.training.distill import distill
from pipeline.training.examples import Examples
from pipeline.training.lesson import Lesson, Soft
from pipeline.training.losses import SoftLoss
from pipeline.training.objective import HARD, LossWeights
from pipeline.training.recipe import Recipe

CPU = torch.device("cpu")
VIEWS = Views("shift(1)", 3, 5)
WEIGHTINGS = [LossWeights(1.0, 0.5), LossWeights(8.0, 0.5), LossWeights(8.0, 0.9)]
RECIPE = Recipe.parse(optimizer="sgd(lr=0.1, momentum=0.9)", schedule="constant", epochs=4, batch_size=7)
STREAMED = Recipe.parse(
    optimizer="sgd(lr=0.1, momentum=0.9)", schedule="constant", epochs=4, batch_size=7, memory=1e-6
)  # in spans of 8 rows of 16 pixels and 3 views of 3 logits; all 20 rows would take 1,040 bytes
SAME = {"recipe": RECIPE, "views": VIEWS, "rows": "all", "correct": ()}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    runtime.prepare("cpu", threads=1)
    write_stage_one(folder, teachers="ab")
    for name in "ab":
        run_capture(folder, name)
    return folder


def soft(data: Path, names="ab", rule="probabilities") -> Soft:
    return Soft({name: data / "caches" / name for name in names}, rule, SoftLoss.parse("kl"))


def swept(data: Path, out: Path, together: int, models=("mlp(hidden=[6])", "mlp(hidden=[3], dropout=0.2)"), **changes) -> dict:
    settings = {"soft": soft(data), "seeds": (0, 3), **SAME} | changes
    plans = {f"s{number}": Plan(model=model, **settings) for number, model in enumerate(models)}
    given = {"splits": data / "transfer", "work": data / "work", "device": CPU}
    teachers = {name: data / "teachers" / name for name in settings["soft"].teachers}
    found = sweep(plans=plans, weightings=WEIGHTINGS, baseline=True, together=together, teachers=teachers, out=out, **given)
    count = sum(len(run.seeds) + len(run.diverged) for run in found.runs if run.student)
    assert count == len(plans) * (len(WEIGHTINGS) + 1) * len(settings["seeds"])
    assert {"best.parquet", "results.parquet", "tables.json"} <= {path.name for path in (out / "plots").iterdir()}
    return plain(out / "students")


def opened(folder: Path) -> Checkpoint:
    """A student of a sweep."""
    name = f"{folder.parents[1].name}/{folder.name}"
    return Checkpoint.open(folder, kinds=["student", "baseline"], name=name, fix="")


def plain(folder: Path) -> dict[str, object]:
    """All that is in the folders of students, but for the names by which they call themselves."""
    found = {}
    for path, data in tree(folder).items():
        if path.endswith("model.json"):
            data = json.loads(data)
            del data["name"], data["digest"]
        found[path] = data
    return found


@pytest.mark.parametrize(("rule", "recipe"), [("probabilities", RECIPE), ("logits", STREAMED)])
def test_one_at_a_time_it_is_distill_to_the_last_byte(data, tmp_path, rule, recipe):
    """Folder by folder: model.json, the history, and weights; the baseline too."""
    same = SAME | {"recipe": recipe}
    swept(data, tmp_path / "sweep", 1, soft=soft(data, rule=rule), recipe=recipe)
    given = {"splits": data / "transfer", "work": data / "work", "device": CPU, "seeds": (0, 3), **same}
    for number, model in enumerate(("mlp(hidden=[6])", "mlp(hidden=[3], dropout=0.2)")):
        for weighting in (HARD, *WEIGHTINGS):
            distill(
                model=model,
                soft=soft(data, rule=rule),
                weighting=weighting,
                out=tmp_path / "one" / f"s{number}-{key(weighting)}",
                **given,
            )
        baseline = tmp_path / f"baseline/s{number}-hard"
        distill(model=model, soft=None, weighting=HARD, out=baseline, **given)
        assert plain(baseline) == plain(tmp_path / f"sweep/students/s{number}-hard")
    assert plain(tmp_path / "sweep/students") == plain(tmp_path / "one")


def test_what_does_not_fit_in_memory_is_measured_span_by_span_to_the_same_bytes(data, tmp_path, monkeypatch):
    swept(data, tmp_path / "held", together=6)
    shutil.rmtree(data / "work")  # so that all are trained again
    monkeypatch.setattr(fit, "SHARE", 0.0)
    monkeypatch.setattr(evaluation, "HELD_BYTES", 0)
    monkeypatch.delattr(Split, "read_all")
    swept(data, tmp_path / "read", together=6)
    held, read = (tree(tmp_path / name) for name in ("held", "read"))
    assert "plots/metrics.json" in held
    assert all(held[path] == read[path] for path in held if path.endswith((".safetensors", ".parquet", "metrics.json")))
    assert held.keys() == read.keys()


@pytest.fixture(scope="module")
def alone(data) -> dict[str, Path]:
    """The sweep of one teacher, and of two, that trains one student at a time."""
    folders = {names: data / f"alone-{names}" for names in ("a", "ab")}
    for names, folder in folders.items():
        swept(data, folder, 1, soft=soft(data, names))
    return folders


@pytest.mark.parametrize(("together", "names"), [(2, "ab"), (3, "a"), (64, "a"), (64, "ab")])
def test_together_they_are_the_same_students(data, alone, tmp_path, together, names):
    """12 steps; each student near its own, and far from any other."""
    found = swept(data, tmp_path / "together", together, soft=soft(data, names))
    assert found.keys() == plain(alone[names] / "students").keys()
    here, there = ({name: weights(folder / "students" / name) for name in found if name.endswith("safetensors")}
                   for folder in (tmp_path / "together", alone[names]))  # fmt: skip
    for name in here:
        distances = {
            other: float((here[name] - there[other]).abs().max()) for other in there if here[name].shape == there[other].shape
        }
        assert distances.pop(name) < min(distances.values()) / 10


def weights(path: Path) -> torch.Tensor:
    checkpoint = opened(path.parent)
    (net,) = (each for each in checkpoint.nets if checkpoint.file(each) == path)
    return torch.cat([parameter.detach().flatten() for parameter in checkpoint.load(net, CPU).parameters()])


def test_each_student_says_what_it_is(data, tmp_path):
    swept(data, tmp_path / "sweep", 64)
    found = opened(tmp_path / "sweep/students/s0-T8-alpha0.9")
    assert (found.kind, found.name) == ("student", "sweep/s0-T8-alpha0.9")
    assert [net.seed for net in found.nets] == [0, 3]
    assert (found.soft.temperature, found.soft.alpha) == (8.0, 0.9)
    assert found.soft.label_weight == pytest.approx(0.1)
    assert set(found.soft.caches) == {"a", "b"}
    baseline = opened(tmp_path / "sweep/students/s0-hard")
    assert (baseline.kind, baseline.soft) == ("baseline", None)


def test_nets_that_cannot_be_stacked_are_trained_one_by_one(data, tmp_path, monkeypatch):
    (tmp_path / "normed_net.py").write_text(
        "from torch import nn\nfrom pipeline.models.zoo.layers import Pixels\n"
        "def build(shape, classes):\n"
        "    return nn.Sequential(Pixels(), nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SOFTCACHE_PLUGINS", "normed_net")
    together, alone = (swept(data, tmp_path / str(n), n, models=["normed_net:build()"]) for n in (64, 1))
    assert together == alone


def test_the_baseline_of_a_transfer_set_of_its_own_learns_from_the_training_split(tmp_path, monkeypatch):
    """Unlabelled transfer rows at alpha 1: what a label is needed for comes from train.parquet."""
    from pipeline.cache.capture import capture
    from pipeline.cache.settings import Keep
    from pipeline.data.ingest import ingest
    from pipeline.training.teach import teach

    monkeypatch.setattr("pipeline.data.ingest.span_rows", lambda classes, row_bytes: 8)
    source = write_parquet(tmp_path / "source.parquet", *images(48))
    other = write_parquet(tmp_path / "other.parquet", images(20, seed=1)[0], None)
    ingest(
        train=str(source), valid=0.25, test=0.25, transfer_set=[str(other)], damaged="fail", fold=False, seed=0,
        out=tmp_path / "transfer",
    )  # fmt: skip
    given = {"splits": tmp_path / "transfer", "work": tmp_path / "work", "device": CPU}
    teach(model="mlp(hidden=[9])", recipe=RECIPE, policy="none", seed=0, out=tmp_path / "teachers/a", **given)
    capture(
        teacher=tmp_path / "teachers/a", views=VIEWS, keep=Keep(tile=16),
        out=tmp_path / "caches/a", provenance=tmp_path / "provenance.json", **given,
    )  # fmt: skip
    plan = Plan(model="mlp(hidden=[4])", soft=soft(tmp_path, "a"), seeds=(0,), **SAME)
    swept = {"plans": {"s": plan}, "teachers": {"a": tmp_path / "teachers/a"}, "out": tmp_path / "sweep"}
    swept |= {"baseline": True, "together": 8}
    sweep(weightings=[LossWeights(2.0, 1.0)], **swept, **given)
    distill(model=plan.model, soft=None, weighting=HARD, seeds=(0,), out=tmp_path / "hard", **SAME, **given)
    distill(
        model=plan.model, soft=plan.soft, weighting=LossWeights(2.0, 1.0), seeds=(0,), out=tmp_path / "soft", **SAME, **given
    )
    assert plain(tmp_path / "sweep/students/s-hard") == plain(tmp_path / "hard")
    assert plain(tmp_path / "sweep/students/s-T2-alpha1") == plain(tmp_path / "soft")
    with pytest.raises(InputError, match="a label for some row"):
        sweep(weightings=[LossWeights(2.0, 0.9)], **swept, **given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"together": 0}, "together: expected 1 or more"), ({"seeds": ()}, "seeds"), ({"models": ()}, "sweep: expected students")],
)
def test_bad_settings_are_refused(data, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        swept(data, tmp_path / "sweep", **{"together": 4} | changes)
    assert not list(tmp_path.iterdir())


def test_a_baseline_may_be_trained_alone(data, tmp_path):
    """And is the one that a sweep trains beside others, when it is trained one at a time."""
    plan = Plan(model="mlp(hidden=[4])", soft=soft(data, "a"), seeds=(0,), **SAME)
    given = {"splits": data / "transfer", "work": data / "work", "device": CPU, "teachers": {"a": data / "teachers/a"}}
    for out, weightings in (("alone", []), ("beside", [LossWeights(2.0, 0.9)])):
        sweep(plans={"s": plan}, weightings=weightings, baseline=True, together=1, out=tmp_path / out, **given)
    assert {path.split("/")[0] for path in tree(tmp_path / "alone/students")} == {"s-hard"}
    assert Tables.open(tmp_path / "alone/plots").read(BestRow) == []
    alone, beside = (tree(tmp_path / out / "students/s-hard") for out in ("alone", "beside"))
    assert alone["seed-0.safetensors"] == beside["seed-0.safetensors"]
    sweep(plans={"s": plan}, weightings=[LossWeights(2.0, 0.9)], baseline=False, together=1, out=tmp_path / "without", **given)
    assert plain(tmp_path / "without/students") == {
        path: held for path, held in plain(tmp_path / "beside/students").items() if not path.startswith("s-hard")
    }


def test_a_corrected_student_is_measured_before_the_correction_too(data, tmp_path):
    """As the same student, trained by a sweep that corrects nothing, is measured."""
    given = {"splits": data / "transfer", "work": data / "work", "device": CPU, "teachers": {"a": data / "teachers/a"}}
    for out, correct in (("plain", ()), ("corrected", (0, 2))):
        plan = Plan(
            model="mlp(hidden=[4])", soft=soft(data, "a"), seeds=(0, 3), **SAME | {"correct": correct, "rows": "without([0])"}
        )
        sweep(plans={"s": plan}, weightings=WEIGHTINGS[:1], baseline=False, together=1, out=tmp_path / out, **given)
    plain, corrected = (measured(tmp_path / name / "plots") for name in ("plain", "corrected"))
    run, before = "s-T1-alpha0.5", "s-T1-alpha0.5-uncorrected"
    for split in ("valid", "test"):
        assert [row.errors for row in plain[run, split]] == [row.errors for row in corrected[before, split]]
        assert [row.nll for row in plain[run, split]] == pytest.approx([row.nll for row in corrected[before, split]], rel=1e-5)
    assert sum(row.errors for row in corrected[run, "valid"]) < sum(row.errors for row in plain[run, "valid"])
    rows = Tables.open(tmp_path / "corrected/plots").read(ClassRow)
    missed: dict[tuple, int] = {}
    for row in rows:
        place = (row.run, row.split)
        missed[place] = missed.get(place, 0) + row.errors
    for name in (run, before):
        for split in ("valid", "test"):
            assert missed[name, split] == sum(row.errors for row in corrected[name, split])
    assert {row.run for row in rows} == {"a", "s-T1-alpha0.5", "s-T1-alpha0.5-uncorrected"}
    never_seen = [row for row in rows if (row.run, row.class_) == ("s-T1-alpha0.5-uncorrected", rows[0].class_)]
    labels = open_splits(data / "transfer", ("test",))["test"].labels()
    assert all(row.rows == (labels == 0).sum() for row in never_seen if row.split == "test")


def test_accuracies_are_within_one_standard_error(data, tmp_path):
    """Of the last epoch's validation accuracy, at each setting: together against one by one, over the seeds."""
    long = Recipe.parse(optimizer="sgd(lr=0.1, momentum=0.9)", schedule="constant", epochs=15, batch_size=7)
    means = []
    for together in (1, 64):
        swept(data, tmp_path / str(together), together, recipe=long, seeds=(0, 1, 2, 3), models=["mlp(hidden=[6])"])
        folders = (tmp_path / str(together) / "students").iterdir()
        histories = {folder.name: opened(folder).history() for folder in folders}
        means.append(
            {
                name: np.array([row["valid_accuracy"] for row in history if row["epoch"] == 15])
                for name, history in histories.items()
            }
        )
    for name, alone in means[0].items():
        error = alone.std(ddof=1) / len(alone) ** 0.5
        assert abs(means[1][name].mean() - alone.mean()) <= max(error, 1e-12)


def test_an_optimizer_that_looks_at_more_than_one_weight_trains_nets_one_by_one(data, tmp_path, monkeypatch):
    """This one divides by the norm of whole tensors: stacked, nets would share it."""
    (tmp_path / "normed_steps.py").write_text(
        "import torch\n"
        "class Normed(torch.optim.SGD):\n"
        "    @torch.no_grad()\n"
        "    def step(self):\n"
        "        for parameter in self.param_groups[0]['params']:\n"
        "            parameter -= self.param_groups[0]['lr'] * parameter.grad / (1e-3 + parameter.grad.norm())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SOFTCACHE_PLUGINS", "normed_steps")
    recipe = Recipe.parse(optimizer="normed_steps:Normed(lr=0.1)", schedule="constant", epochs=2, batch_size=7)
    together, alone = (swept(data, tmp_path / str(n), n, models=["mlp(hidden=[4])"], recipe=recipe) for n in (64, 1))
    assert together == alone


def test_rows_are_read_once_for_all_plans_that_share_them(data, tmp_path, monkeypatch):
    loads = []
    real = Examples._load
    monkeypatch.setattr(Examples, "_load", lambda self, *given: loads.append(self) or real(self, *given))
    swept(data, tmp_path / "sweep", 2)
    assert len(loads) == 1
    assert "_kept" not in loads[0].__dict__  # its memory was given back


def test_temperatures_whose_targets_do_not_fit_the_budget_are_trained_in_turn(data, tmp_path, monkeypatch):
    """20 rows of 16 pixels and 3 views of 3 logits take 1,040 bytes; 1,600 have room for the targets of one T, not of two."""
    seen = []
    real = Lesson.prepare.__func__
    monkeypatch.setattr(
        Lesson,
        "prepare",
        classmethod(lambda cls, ground, **given: seen.append(given["weightings"]) or real(cls, ground, **given)),
    )
    tight = Recipe.parse(optimizer="sgd(lr=0.1, momentum=0.9)", schedule="constant", epochs=4, batch_size=7, memory=1.6e-6)
    swept(data, tmp_path / "tight", 64, recipe=tight)
    assert [sorted({each.temperature for each in some if each.alpha}) for some in seen[1:]] == [[1.0], [8.0]]
    here, there = tmp_path / "tight/students", tmp_path / "roomy/students"
    swept(data, tmp_path / "roomy", 64)
    for path in here.glob("*/*.safetensors"):
        roomy = weights(there / path.relative_to(here))
        other = weights(path.with_name("seed-3.safetensors" if path.name == "seed-0.safetensors" else "seed-0.safetensors"))
        assert (weights(path) - roomy).abs().max() < (other - roomy).abs().max() / 100


def test_one_at_a_time_after_a_stack_gives_what_one_at_a_time_gives(data, tmp_path):
    """What a stack has finished has the last bits of a stack, and is not taken for what was trained alone."""
    alone = swept(data, tmp_path / "elsewhere/sweep", 1)
    stacked = swept(data, tmp_path / "sweep", 64)
    assert swept(data, tmp_path / "sweep", 1) == alone
    assert swept(data, tmp_path / "sweep", 64) in (alone, stacked)


NORMED = """
import torch
from torch import nn

class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor(100.0))
        self.register_buffer("deviation", torch.tensor(60.0))
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 3))

    def forward(self, pixels):
        return self.layers((pixels - self.mean) / self.deviation)

def build(shape, classes):
    return Normed()
"""


@pytest.mark.parametrize("keep", ["last", "best"])
def test_a_net_with_a_mean_and_a_deviation_is_stacked_kept_and_gone_on_with(data, tmp_path, monkeypatch, keep):
    """Buffers are of the net, not of its training: neither a rerun nor a resumed training confuses them with weights."""
    (tmp_path / f"buffered_{keep}.py").write_text(NORMED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SOFTCACHE_PLUGINS", f"buffered_{keep}")
    recipe = Recipe.parse(optimizer="adamw(lr=0.01)", schedule="constant", epochs=4, batch_size=7, keep=keep)
    given = {"models": [f"buffered_{keep}:build()"], "recipe": recipe}
    trained, real = [], lesson_room.fit
    monkeypatch.setattr(
        "pipeline.training.lesson.fit", lambda *some, **named: trained.append(named["name"]) or real(*some, **named)
    )
    before = swept(data, tmp_path / "sweep", 64, **given)
    assert len(trained) == 2  # a stack for each seed
    assert swept(data, tmp_path / "sweep", 64, **given) == before
    assert len(trained) == 2

    epoch, saved = fit._Training.epoch, []

    def stopping(self, bar):
        if self.done == 2:
            raise KeyboardInterrupt
        epoch(self, bar)
        saved.append(self.done)

    monkeypatch.setattr(fit, "SAVING", float("inf"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fit._Training, "epoch", stopping)
        swept(data, tmp_path / "again/sweep", 64, **given)
    assert saved == [1, 2]
    assert swept(data, tmp_path / "again/sweep", 64, **given) == before


def test_what_is_replaced_while_a_sweep_runs_is_told_and_nothing_is_written(data, tmp_path, monkeypatch):
    folder = tmp_path / "project"
    shutil.copytree(data, folder)
    real = sweep_room._train

    def meanwhile(*given):
        real(*given)
        run_capture(folder, "a", views=4)

    monkeypatch.setattr("pipeline.studies.sweep._train", meanwhile)
    with pytest.raises(BusyError, match="caches/a.*: expected what it was when this started"):
        swept(folder, folder / "sweep", 64)
    assert not (folder / "sweep").exists()


def test_a_sweep_that_is_stopped_while_it_measures_trains_nothing_again(data, tmp_path, monkeypatch):
    def stop(**given):
        raise KeyboardInterrupt

    swept(data, tmp_path / "elsewhere/sweep", 64)
    before = tree(tmp_path / "elsewhere/sweep")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("pipeline.studies.sweep.evaluate", stop)
        swept(data, tmp_path / "sweep", 64)
    assert not (tmp_path / "sweep").exists()
    monkeypatch.setattr(fit._Training, "epoch", None)
    swept(data, tmp_path / "sweep", 64)
    assert tree(tmp_path / "sweep") == before


# ---------------------------------------------------------------- one bad student harms no other

RATES = {f"s{number}": 0.05 + 0.01 * number for number in range(20)}


def twenty(data: Path, out: Path, **changes) -> Evaluated:
    """Twenty students of one weighting, each at a learning rate of its own, and no baseline."""
    rates = RATES | changes
    plans = {
        name: Plan(
            model="mlp(hidden=[5, 5])", soft=soft(data, "a"), seeds=(0,), views=VIEWS, rows="all", correct=(),
            recipe=Recipe.parse(optimizer=f"sgd(lr={rate})", schedule="constant", epochs=3, batch_size=7),
        )
        for name, rate in rates.items()
    }  # fmt: skip
    given = {"splits": data / "transfer", "work": data / "work", "device": CPU, "teachers": {"a": data / "teachers/a"}}
    return sweep(plans=plans, weightings=[LossWeights(2.0, 0.5)], baseline=False, together=64, out=out, **given)


def test_of_twenty_three_diverge_and_a_changed_setting_trains_one(data, tmp_path, monkeypatch, caplog):
    trained = []
    real = lesson_room.fit
    monkeypatch.setattr(
        "pipeline.training.lesson.fit", lambda *given, **named: trained.append(named["name"]) or real(*given, **named)
    )
    wild = {"s3": 1e30, "s11": 1e25, "s19": 1e30}
    found = twenty(data, tmp_path / "sweep", **wild)
    assert len(trained) == 20
    runs = {run.student: run for run in found.runs if run.student}
    assert {name for name, run in runs.items() if run.diverged} == wild.keys()
    assert all(run.seeds == () and list(run.diverged) == [0] for name, run in runs.items() if name in wild)
    assert all(run.seeds == (0,) for name, run in runs.items() if name not in wild)
    for name in RATES:
        folder = tmp_path / f"sweep/students/{name}-T2-alpha0.5"
        assert (folder / "seed-0.safetensors").exists() == (name not in wild)
        assert (opened(folder).nets[0].diverged is not None) == (name in wild)
    assert all(f"{name}-T2-alpha0.5, seed 0: diverged in epoch" in caplog.text for name in wild)
    rows = Tables.open(tmp_path / "sweep/plots").read(StudentRow)
    assert sorted(row.student for row in rows if row.diverged is not None) == sorted(wild)
    assert all((row.test_errors is None) == (row.student in wild) for row in rows)
    before = tree(tmp_path / "sweep/students")

    trained.clear()
    twenty(data, tmp_path / "sweep", **wild)
    assert trained == []
    assert tree(tmp_path / "sweep/students") == before

    twenty(data, tmp_path / "sweep", **wild | {"s3": 0.08})
    assert trained == ["s3-T2-alpha0.5, seed 0"]
    after = tree(tmp_path / "sweep/students")
    assert {path.split("/")[0] for path in after.keys() | before.keys() if after.get(path) != before.get(path)} == {
        "s3-T2-alpha0.5"
    }


def test_in_a_stack_one_net_diverges_and_the_others_are_as_without_it(data, tmp_path):
    """By a weight that is far too large; labels alone and another temperature are not touched."""
    weightings = [LossWeights(1.0, 0.1), LossWeights(2.0, 1e30, 0.5)]
    plan = Plan(model="mlp(hidden=[6, 6])", soft=soft(data, "a"), seeds=(0, 3), **SAME)
    given = {"splits": data / "transfer", "work": data / "work", "device": CPU, "teachers": {"a": data / "teachers/a"}}
    runs = {}
    for out, some in (("both", weightings), ("one", weightings[:1])):
        found = sweep(plans={"s": plan}, weightings=some, baseline=True, together=64, out=tmp_path / out, **given)
        runs[out] = {run.name: run for run in found.runs}
    assert list(runs["both"]["s-T2-alpha1e+30"].diverged) == [0, 3]
    assert (runs["both"]["s-hard"].seeds, runs["both"]["s-T1-alpha0.1"].seeds) == ((0, 3), (0, 3))
    for run in ("s-hard", "s-T1-alpha0.1"):
        for seed in (0, 3):
            here, there = (weights(tmp_path / f"{out}/students/{run}/seed-{seed}.safetensors") for out in ("both", "one"))
            torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-4)


def test_three_of_a_stack_diverge_and_the_others_have_the_bits_they_have_beside_sound_ones(data, tmp_path):
    """Nothing of one net reaches another: the same stack with sound weights in the three places."""
    sound = [LossWeights(float(T), 0.5) for T in (1, 2, 3, 4, 5)]
    wild = [LossWeights(each.temperature, 1e30, 0.5) if each.temperature in (1, 3, 5) else each for each in sound]
    plan = Plan(model="mlp(hidden=[6, 6])", soft=soft(data, "a"), seeds=(0,), **SAME)
    given = {"splits": data / "transfer", "work": data / "work", "device": CPU, "teachers": {"a": data / "teachers/a"}}
    runs = {}
    for out, some in (("sound", sound), ("wild", wild)):
        found = sweep(plans={"s": plan}, weightings=some, baseline=True, together=64, out=tmp_path / out, **given)
        runs[out] = {run.name: run for run in found.runs if run.student}
    assert {name for name, run in runs["wild"].items() if run.diverged} == {f"s-T{T}-alpha1e+30" for T in (1, 3, 5)}
    assert not any(run.diverged for run in runs["sound"].values())
    for run in ("s-hard", "s-T2-alpha0.5", "s-T4-alpha0.5"):
        here, there = (tree(tmp_path / f"{out}/students/{run}") for out in ("sound", "wild"))
        assert here["seed-0.safetensors"] == there["seed-0.safetensors"]


def test_a_new_temperature_trains_itself_and_going_back_trains_nothing(data, tmp_path, monkeypatch, caplog):
    plan = Plan(model="mlp(hidden=[6])", soft=soft(data, "a"), seeds=(0,), **SAME)
    given = {"splits": data / "transfer", "work": data / "work", "device": CPU, "teachers": {"a": data / "teachers/a"}}
    trained = []
    real = lesson_room.fit
    monkeypatch.setattr(
        "pipeline.training.lesson.fit", lambda *given, **named: trained.append(named["name"]) or real(*given, **named)
    )

    def run(*temperatures: float) -> None:
        weightings = [LossWeights(each, 0.5) for each in temperatures]
        sweep(plans={"s": plan}, weightings=weightings, baseline=True, together=64, out=tmp_path / "sweep", **given)

    run(1.0, 2.0)
    assert trained == ["s-hard and 2 more, seed 0"]
    run(1.0, 2.0, 4.0)
    assert trained[1:] == ["s-T4-alpha0.5, seed 0"]
    assert "not of this sweep" not in caplog.text
    run(1.0, 4.0)
    assert "former students that are not in this sweep are removed, 1 of them: s-T2-alpha0.5" in caplog.text
    shutil.rmtree(tmp_path / "sweep")  # as DVC does before it runs a stage again
    run(4.0, 1.0)
    assert trained[2:] == []
    assert {path.name for path in (tmp_path / "sweep/students").iterdir()} == {"s-hard", "s-T1-alpha0.5", "s-T4-alpha0.5"}


def test_the_three_parts_of_a_sweep_are_swapped_as_one(data, tmp_path, monkeypatch):
    """Whatever else lies there stays; and where it ends before the swap, nothing has changed."""
    swept(data, tmp_path / "sweep", 64)
    (tmp_path / "sweep/report").mkdir()
    (tmp_path / "sweep/report/index.html").write_text("mine")
    before = tree(tmp_path / "sweep")
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr("pipeline.results.plotted.by_epoch", lambda *found: 1 / 0)  # with the tables
        swept(data, tmp_path / "sweep", 64, seeds=(0, 4))
    assert tree(tmp_path / "sweep") == before
    swept(data, tmp_path / "sweep", 64, seeds=(0, 4))
    after = tree(tmp_path / "sweep")
    assert after["report/index.html"] == b"mine"
    assert not {path for path in after if "seed-3" in path}


def test_students_of_different_teachers_are_not_swept_together(data, tmp_path):
    plans = {name: Plan(model="mlp(hidden=[4])", soft=soft(data, name), seeds=(0,), **SAME) for name in "ab"}
    with pytest.raises(InputError, match="student b, teachers: expected .* as of student a"):
        sweep(
            plans=plans, weightings=WEIGHTINGS, baseline=False, together=4, out=tmp_path / "sweep", splits=data / "transfer",
            work=data / "work", device=CPU, teachers={name: data / "teachers" / name for name in "ab"},
        )  # fmt: skip


def test_nets_that_fill_a_cpu_by_themselves_are_trained_one_by_one(data, tmp_path, monkeypatch):
    """mlp(hidden=[6]) has 123 weights."""
    alone = swept(data, tmp_path / "alone", 1, models=["mlp(hidden=[6])"])
    found = {}
    for limit in (122, 123):
        monkeypatch.setattr(lesson, "STACKED_WEIGHTS", limit)
        found[limit] = swept(data, tmp_path / str(limit), 64, models=["mlp(hidden=[6])"])
    assert found[122] == alone
    assert found[123] != alone
