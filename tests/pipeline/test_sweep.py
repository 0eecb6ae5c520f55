"""A sweep gives the students that `distill` gives, all at once."""

from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import images, run_capture, tree, write_parquet, write_stage_one
from pipeline import runtime, transfer
from pipeline.checkpoint import Checkpoint
from pipeline.distill import distill
from pipeline.errors import InputError
from pipeline.fit import Recipe
from pipeline.lesson import Soft, Views
from pipeline.losses import SoftLoss
from pipeline.objective import HARD, Weighing
from pipeline.sweep import Plan, sweep

CPU = torch.device("cpu")
VIEWS = Views("shift(1)", 3, 5)
WEIGHINGS = {"T1-alpha0.5": Weighing(1.0, 0.5), "T8-alpha0.5": Weighing(8.0, 0.5), "T8-alpha0.9": Weighing(8.0, 0.9)}
RECIPE = Recipe.parse(optimizer="sgd(lr=0.1, momentum=0.9)", schedule="constant", epochs=4, batch_size=7)
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
    count = sweep(plans=plans, weighings=WEIGHINGS, together=together, out=out, **given)
    assert count == len(plans) * (len(WEIGHINGS) + 1) * len(settings["seeds"])
    return tree(out)


@pytest.mark.parametrize("rule", ["probabilities", "logits"])
def test_one_at_a_time_it_is_distill_to_the_last_byte(data, tmp_path, rule):
    """Folder by folder: model.json, history.csv, and weights; the baseline too."""
    found = swept(data, tmp_path / "sweep", 1, soft=soft(data, rule=rule))
    given = {"splits": data / "transfer", "work": data / "work", "device": CPU, "seeds": (0, 3), **SAME}
    for number, model in enumerate(("mlp(hidden=[6])", "mlp(hidden=[3], dropout=0.2)")):
        for key, weighing in ({"hard": HARD} | WEIGHINGS).items():
            distill(
                model=model, soft=soft(data, rule=rule), weighing=weighing, out=tmp_path / "one" / f"s{number}-{key}", **given
            )
        baseline = tmp_path / f"baseline/s{number}-hard"
        distill(model=model, soft=None, weighing=HARD, out=baseline, **given)
        weights = {path.name: path.read_bytes() for path in baseline.glob("*.safetensors")}
        assert weights == {name: found[f"s{number}-hard/{name}"] for name in weights}
    assert found == tree(tmp_path / "one")


@pytest.mark.parametrize(("together", "names"), [(2, "ab"), (3, "a"), (64, "a"), (64, "ab")])
def test_together_they_are_the_same_students(data, tmp_path, together, names):
    """12 steps; each student near its own, and far from any other."""
    alone = swept(data, tmp_path / "alone", 1, soft=soft(data, names))
    found = swept(data, tmp_path / "together", together, soft=soft(data, names))
    assert found.keys() == alone.keys()
    here, there = ({key: weights(folder / key) for key in found if key.endswith("safetensors")}
                   for folder in (tmp_path / "together", tmp_path / "alone"))  # fmt: skip
    for key in here:
        distances = {
            other: float((here[key] - there[other]).abs().max()) for other in there if here[key].shape == there[other].shape
        }
        assert distances.pop(key) <= 1e-5
        assert min(distances.values()) > 1e-4


def weights(path: Path) -> torch.Tensor:
    net = Checkpoint.open(path.parent).load(path, CPU)
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def test_each_student_says_what_it_is(data, tmp_path):
    swept(data, tmp_path / "sweep", 64)
    facts = Checkpoint.open(tmp_path / "sweep/s0-T8-alpha0.9").facts
    assert facts["seeds"] == [0, 3]
    assert (facts["soft"]["temperature"], facts["soft"]["alpha"]) == (8.0, 0.9)
    assert facts["soft"]["label_weight"] == pytest.approx(0.1)
    assert set(facts["soft"]["caches"]) == {"a", "b"}
    assert Checkpoint.open(tmp_path / "sweep/s0-hard").facts["soft"]["alpha"] == 0


def test_nets_that_cannot_be_stacked_are_trained_one_by_one(data, tmp_path, monkeypatch):
    (tmp_path / "normed_net.py").write_text(
        "from torch import nn\nfrom pipeline import models\n"
        "def build(shape, classes):\n"
        "    return nn.Sequential(models.Pixels(), nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SOFTCACHE_PLUGINS", "normed_net")
    together, alone = (swept(data, tmp_path / str(n), n, models=["normed_net:build()"]) for n in (64, 1))
    assert together == alone


def test_the_baseline_of_a_transfer_set_of_its_own_learns_from_the_training_split(tmp_path, monkeypatch):
    """Unlabelled transfer rows at alpha 1: what a label is needed for comes from train.parquet."""
    from pipeline.capture import capture
    from pipeline.ingest import ingest
    from pipeline.teach import teach

    monkeypatch.setattr(transfer, "span_rows", lambda classes: 8)
    source = write_parquet(tmp_path / "source.parquet", *images(48))
    other = write_parquet(tmp_path / "other.parquet", images(20, seed=1)[0], None)
    ingest(
        train=str(source), valid=0.25, test=0.25, transfer_set=[str(other)], damaged="fail", fold=False, seed=0,
        out=tmp_path / "transfer",
    )  # fmt: skip
    given = {"splits": tmp_path / "transfer", "work": tmp_path / "work", "device": CPU}
    teach(name="a", model="mlp(hidden=[9])", recipe=RECIPE, policy="none", seed=0, out=tmp_path / "teachers/a", **given)
    capture(
        name="a", teacher=tmp_path / "teachers/a", policy="shift(1)", views=3, view_seed=5, dtype="float32", tile=16,
        out=tmp_path / "caches/a", provenance=tmp_path / "provenance.json", **given,
    )  # fmt: skip
    plan = Plan(model="mlp(hidden=[4])", soft=soft(tmp_path, "a"), seeds=(0,), **SAME)
    sweep(plans={"s": plan}, weighings={"T2": Weighing(2.0, 1.0)}, together=8, out=tmp_path / "sweep", **given)
    distill(model=plan.model, soft=None, weighing=HARD, seeds=(0,), out=tmp_path / "hard", **SAME, **given)
    distill(model=plan.model, soft=plan.soft, weighing=Weighing(2.0, 1.0), seeds=(0,), out=tmp_path / "soft", **SAME, **given)
    assert tree(tmp_path / "sweep/s-hard") == tree(tmp_path / "hard")
    assert tree(tmp_path / "sweep/s-T2") == tree(tmp_path / "soft")
    with pytest.raises(InputError, match="a label for every row"):
        sweep(plans={"s": plan}, weighings={"T2": Weighing(2.0, 0.9)}, together=8, out=tmp_path / "sweep", **given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"together": 0}, "together: expected 1 or more"), ({"seeds": ()}, "seeds"), ({"models": ()}, "sweep: expected students")],
)
def test_bad_settings_are_refused(data, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        swept(data, tmp_path / "sweep", **{"together": 4} | changes)
    assert not list(tmp_path.iterdir())


def test_accuracies_are_within_one_standard_error(data, tmp_path):
    """Of the last epoch's validation accuracy, at each setting: together against one by one, over the seeds."""
    long = Recipe.parse(optimizer="sgd(lr=0.1, momentum=0.9)", schedule="constant", epochs=15, batch_size=7)
    means = []
    for together in (1, 64):
        swept(data, tmp_path / str(together), together, recipe=long, seeds=(0, 1, 2, 3), models=["mlp(hidden=[6])"])
        histories = {
            path.parent.name: path.read_text().splitlines() for path in (tmp_path / str(together)).glob("*/history.csv")
        }
        means.append(
            {
                key: np.array([float(line.split(",")[4]) for line in lines if line.split(",")[1] == "15"])
                for key, lines in histories.items()
            }
        )
    for key, alone in means[0].items():
        error = alone.std(ddof=1) / len(alone) ** 0.5
        assert abs(means[1][key].mean() - alone.mean()) <= max(error, 1e-12)
