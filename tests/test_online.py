"""Online: students of a sweep that learn from each other, and from teachers in the loop, for comparison with caches."""

import shutil
from pathlib import Path

import pytest
import torch

import projects
from conftest import run_capture, tree, write_stage_one
from pipeline.base import runtime
from pipeline.base.errors import InputError, IntegrityError
from pipeline.data.settings import Views
from pipeline.models.build import build, parse_model
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.modelfile import Mutual
from pipeline.results.evaluate import Evaluated
from pipeline.studies.groups import Plan
from pipeline.studies.sweep import sweep
from pipeline.training import fit
from pipeline.training.lesson import Ground, Lesson, Soft
from pipeline.training.losses import SoftLoss
from pipeline.training.objective import LossWeights
from pipeline.training.recipe import Recipe

CPU = torch.device("cpu")
MODEL, SEEDS, RATE = "mlp(hidden=[6])", (3, 0, 5), 0.1
RECIPE = Recipe.parse(optimizer=f"sgd(lr={RATE})", schedule="constant", epochs=3, batch_size=7)
SAME = {"recipe": RECIPE, "views": Views("shift(1)", 3, 5), "rows": "all", "correct": ()}
LABELS, TAUGHT = LossWeights(1.0, 0.0, mutual=1.0), LossWeights(2.0, 0.9, mutual=0.5)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = write_stage_one(tmp_path_factory.mktemp("online"), teachers="ab")
    runtime.prepare("cpu", threads=1)
    for name in "ab":
        run_capture(folder, name)
    return folder


def soft(data: Path, *, live: bool = False) -> Soft:
    folder = data / ("teachers" if live else "caches")
    return Soft({name: folder / name for name in "ab"}, "probabilities", SoftLoss.parse("kl"), live=live)


def swept(data: Path, out: Path, *weightings: LossWeights, live: bool = False, together: int = 64, **changes) -> Evaluated:
    plan = Plan(**{"model": MODEL, "soft": soft(data, live=live), "seeds": SEEDS, **SAME} | changes)
    return sweep(
        plans={"s": plan}, weightings=weightings, baseline=True, together=together, out=out, device=CPU,
        teachers={name: data / "teachers" / name for name in "ab"}, splits=data / "transfer", work=out.parent / "work",
    )  # fmt: skip


def opened(folder: Path, kind: str = "student") -> Checkpoint:
    return Checkpoint.open(folder, kinds=[kind], name=f"{folder.parents[1].name}/{folder.name}", fix="")


@pytest.fixture(scope="module")
def cohorts(data, tmp_path_factory) -> Path:
    """A sweep of two cohorts and a baseline."""
    out = tmp_path_factory.mktemp("cohorts") / "sweep"
    found = swept(data, out, LABELS, TAUGHT)
    assert {run.name for run in found.runs if run.student} == {"s-hard", "s-T1-alpha0", "s-T2-alpha0.9"}
    return out


@pytest.mark.parametrize(("run", "weighting"), [("s-T1-alpha0", LABELS), ("s-T2-alpha0.9", TAUGHT)])
def test_a_cohort_is_as_many_nets_with_optimizers_of_their_own(data, cohorts, run, weighting):
    """Three epochs, by autograd on separate nets, whose peers are what they were before the step."""
    ground = Ground.open(data / "transfer", ("train", "transfer", "valid"), data / "work", CPU)
    lesson = Lesson.prepare(
        ground, views=SAME["views"], rows="all", soft=soft(data), weightings=[weighting], correct=(), recipe=RECIPE
    )
    nets = [build(parse_model(MODEL), ground.splits["train"].inputs, 3, seed=seed).train() for seed in SEEDS]
    optimizers = [torch.optim.SGD(net.parameters(), RATE) for net in nets]
    for epoch in range(3):
        for batch in lesson.examples.epoch(SEEDS[0], epoch, 7):
            logits = [net(batch.inputs).double() for net in nets]
            for net, own in enumerate(logits):
                peers = [each.detach().softmax(-1) for other, each in enumerate(logits) if other != net]
                loss = torch.nn.functional.cross_entropy(own, lesson.labels[batch.rows]) * (1 - weighting.alpha)
                if weighting.alpha:
                    T = weighting.temperature
                    targets = (batch.targets[:, 0].double() / T).softmax(-1)
                    loss = loss + weighting.alpha * T**2 * divergence(targets, own / T)
                loss = loss + weighting.mutual * (divergence(peers[0], own) + divergence(peers[1], own)) / 2
                optimizers[net].zero_grad()
                loss.backward()
            for optimizer in optimizers:
                optimizer.step()
    found = opened(cohorts / "students" / run)
    assert found.mutual == Mutual(weighting.mutual, SEEDS)
    for net, kept in zip(nets, found.nets, strict=True):
        for expected, parameter in zip(net.parameters(), found.load(kept, CPU).parameters(), strict=True):
            torch.testing.assert_close(parameter, expected, rtol=1e-4, atol=1e-5)


def divergence(targets: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """The mean over rows of KL(targets ‖ softmax(logits))."""
    return torch.nn.functional.kl_div(logits.log_softmax(-1), targets, reduction="batchmean")


def test_the_baseline_learns_from_nobody(data, cohorts, tmp_path):
    swept(data, tmp_path / "sweep", LossWeights(2.0, 0.9))
    assert opened(cohorts / "students/s-hard", "baseline").mutual is None
    for seed in SEEDS:  # stacked with others the last bits of sums may differ
        mine, other = (opened(folder / "students/s-hard", "baseline") for folder in (tmp_path / "sweep", cohorts))
        for one, two in zip(
            *(each.load(each.chosen(seed, folded=False), CPU).parameters() for each in (mine, other)), strict=True
        ):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def test_stopped_and_gone_on_with_it_has_the_same_bits_and_then_nothing_is_trained_again(data, cohorts, tmp_path, monkeypatch):
    epoch = fit._Training.epoch

    def stops(training: fit._Training, bar: object) -> None:
        if training.done == 2:
            raise KeyboardInterrupt
        epoch(training, bar)

    with monkeypatch.context() as patch:
        patch.setattr(fit, "SAVING", 1e9)
        patch.setattr(fit._Training, "epoch", stops)
        with pytest.raises(KeyboardInterrupt):
            swept(data, tmp_path / "sweep", LABELS, TAUGHT)
    assert len(list((tmp_path / "work").rglob("*.state"))) == 1
    swept(data, tmp_path / "sweep", LABELS, TAUGHT)
    assert tree(tmp_path / "sweep/students") == tree(cohorts / "students")
    monkeypatch.delattr(fit._Training, "epoch")
    swept(data, tmp_path / "sweep", LABELS, TAUGHT)
    assert tree(tmp_path / "sweep/students") == tree(cohorts / "students")


def test_by_settings(tmp_path, monkeypatch):
    """Peers without a teacher, and teachers in the loop, as params.yaml says it."""
    projects.make(tmp_path, monkeypatch)
    sweeps = "sweeps: {peers: {alphas: [0], mutual: 0.5, seeds: [4, 2]}, loop: {alphas: [0.5], live: true}}"
    Path("params.yaml").write_text(projects.PARAMS.replace("sweeps: {all: {alphas: [0.5]}}", sweeps))
    for name in ("peers", "loop"):
        projects.says(0, "sweep", name)
    assert opened(Path("data/sweeps/peers/students/s-T2-alpha0")).mutual == Mutual(0.5, (4, 2))
    assert opened(Path("data/sweeps/loop/students/s-T2-alpha0.5"), "live").soft.live
    none = "sweeps: {control: {temperatures: [], mutual: 1.0}}"
    Path("none.yaml").write_text(projects.PARAMS.replace("sweeps: {all: {alphas: [0.5]}}", none))
    assert "only baselines would be trained, which do neither" in projects.says(2, "sweep", "control", "--params", "none.yaml")
    assert "mutual: expected a number of at least 0, found -1.0" in projects.says(2, "sweep", "peers", "--mutual", "-1")


NORMED = """
from torch import nn
from pipeline.models.zoo.layers import Pixels

def build(shape, classes):
    return nn.Sequential(Pixels(), nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, classes))
"""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": (0,)}, "mutual, seeds: expected two or more students that learn from each other, found one"),
        (
            {"together": 2},
            "together: expected at least 3, so that all seeds share each step, as with `mutual` they must, found 2",
        ),
        ({"model": "normed_peers:build()"}, "expected students that share each step, found they keep batch statistics"),
    ],
)
def test_students_that_cannot_learn_from_each_other_are_refused(data, tmp_path, monkeypatch, changes, message):
    (tmp_path / "normed_peers.py").write_text(NORMED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SOFTCACHE_PLUGINS", "normed_peers")
    with pytest.raises(InputError) as refused:
        swept(data, tmp_path / "sweep", TAUGHT, **changes)
    assert message in str(refused.value)
    assert not (tmp_path / "sweep").exists()


def test_the_caches_that_live_students_are_measured_by_are_looked_at_before_any_is_trained(data, tmp_path, monkeypatch):
    monkeypatch.setattr(fit._Training, "epoch", None)
    shutil.copytree(data, tmp_path / "data")
    shutil.rmtree(tmp_path / "data/caches/b")
    with pytest.raises(IntegrityError, match=r"caches/b.*softcache capture b"):
        swept(tmp_path / "data", tmp_path / "data/sweeps/live", LossWeights(2.0, 0.9), live=True)


def test_with_teachers_in_the_loop_students_are_those_that_learn_from_caches(data, tmp_path):
    """All of a sweep, which is then measured by the same caches; the baseline has no teacher."""
    found = swept(data, tmp_path / "live", LossWeights(2.0, 0.9), live=True)
    swept(data, tmp_path / "cached", LossWeights(2.0, 0.9))
    assert {(run.name, run.kind) for run in found.runs if run.student} == {("s-T2-alpha0.9", "student"), ("s-hard", "baseline")}
    live = opened(tmp_path / "live/students/s-T2-alpha0.9", "live")
    cached = opened(tmp_path / "cached/students/s-T2-alpha0.9")
    assert live.soft.caches is None
    assert set(live.soft.live) == {"a", "b"}
    for mine, other in zip(live.nets, cached.nets, strict=True):
        for one, two in zip(live.load(mine, CPU).parameters(), cached.load(other, CPU).parameters(), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
