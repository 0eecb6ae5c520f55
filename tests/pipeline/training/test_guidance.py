"""Guidance: students that learn from cached features end where a loop in plain torch ends, and keep no projections."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from guided import CPU, HINT, POLICY, RECIPE, SIMILAR, STUDENT, VIEWS, WEIGHTING, captured, soft, trained
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from pipeline.base import randomness
from pipeline.base.errors import InputError
from pipeline.cache.reader import Cache
from pipeline.data.inputs.image import Images
from pipeline.data.splits import open_splits
from pipeline.models.build import build, parse_model
from pipeline.models.checkpoint import Checkpoint
from pipeline.studies.groups import Plan
from pipeline.studies.sweep import sweep
from pipeline.training import fit
from pipeline.training.examples import Examples
from pipeline.training.features import FeatureLoss
from pipeline.training.inputs import Numbers
from pipeline.training.lesson import Ground, Lesson
from pipeline.training.objective import HARD, LossWeights
from pipeline.training.signal import NoTeacher
from stages.cli import main


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return captured(tmp_path_factory.mktemp("guided"), "abc")


# ---------------------------------------------------------------- against plain torch


def layers(net: nn.Sequential, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits and the outputs of both layers of a convnet: Pixels, then (convolution, rectifier, pooling) twice."""
    first = net[3](net[2](net[1](net[0](pixels))))
    second = net[6](net[5](net[4](first)))
    return net[8](net[7](second)), first, second


def by_hand(data: Path, names: str, weights: list[float], alpha: float, label_weight: float, seed: int) -> dict:
    """The weights of a student after three epochs of a loop in plain torch, with the teachers in the loop."""
    split = open_splits(data / "transfer", ["transfer"])["transfer"]
    labels = torch.from_numpy(split.labels())
    teachers = []
    for name in names:
        taught = Checkpoint.teacher(data / "teachers" / name)
        teachers.append(taught.load(taught.nets[0], CPU))
    net = build(parse_model(STUDENT), Images("L", (1, 4, 4)), 3, seed=seed)
    torch.manual_seed(randomness.torch_seed(seed, randomness.Use.PROJECTIONS))
    projections = [nn.Conv2d(4, 6, 1) for _ in names]
    every = [*net.parameters(), *(each for one in projections for each in one.parameters())]
    optimizer = torch.optim.SGD(every, lr=0.2, momentum=0.9)
    order = Examples(Numbers(split), POLICY, 3, NoTeacher(), 10**9, CPU)  # which rows in which view: another test's business
    for epoch in range(3):
        for batch in order.epoch(seed, epoch, 8):
            logits, first, second = layers(net, batch.inputs)
            with torch.no_grad():
                given = [layers(teacher, batch.inputs) for teacher in teachers]
                targets = sum(weight * each[0] for weight, each in zip(weights, given, strict=True))
            loss = label_weight * functional.cross_entropy(logits, labels[batch.rows])
            soft = functional.kl_div((logits / 2).log_softmax(1), (targets / 2).softmax(1), reduction="batchmean")
            loss = loss + alpha * 4 * soft
            for name, weight, projection, (_, wanted, deeper) in zip(names, weights, projections, given, strict=True):
                kept = [each.half().float() if name == "b" else each for each in (wanted, deeper.mean(dim=(2, 3)))]
                loss = loss + weight * 0.5 * functional.mse_loss(projection(first), kept[0])
                grams = [functional.normalize(each @ each.t()) for each in (second.flatten(1), kept[1])]
                loss = loss + weight * 30 * (grams[0] - grams[1]).square().sum() / len(batch.rows) ** 2
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(every, 2.0)
            optimizer.step()
    return net.state_dict()


@pytest.mark.parametrize(
    ("names", "weights", "alpha", "label_weight"), [("a", [1.0], 0.7, 0.5), ("ab", [0.25, 0.75], 0.0, 0.0)]
)
def test_a_student_ends_where_a_loop_in_plain_torch_ends(data, tmp_path, names, weights, alpha, label_weight):
    """From one teacher, with soft targets and labels; and from the features of two teachers alone."""
    taught = soft(data, HINT, SIMILAR, names=names, weights=weights)
    found = trained(data, tmp_path / "s-T2", taught, LossWeights(2.0, alpha, label_weight, features=True))
    expected = by_hand(data, names, weights, alpha, label_weight, seed=3)
    start = build(parse_model(STUDENT), Images("L", (1, 4, 4)), 3, seed=3).state_dict()
    assert found.keys() == expected.keys()  # no projections
    for name, wanted in expected.items():
        torch.testing.assert_close(found[name], wanted, rtol=0, atol=1e-6)
        moves = alpha > 0 or not name.startswith("8.")  # the last layer is no part of what features teach
        assert ((wanted - start[name]).abs().max() > 0.01) == moves


# ---------------------------------------------------------------- what is written


def test_the_command_takes_losses_and_model_json_names_them(data, tmp_path, monkeypatch):
    """Features and labels without soft targets, at T = 1: still no baseline."""
    monkeypatch.chdir(tmp_path)
    said = {"teachers": ["a"], "alpha": 0, "features": [HINT, SIMILAR]}
    Path("params.yaml").write_text(
        f"distill: {json.dumps(said)}\nstudents: {{s: {{model: '{STUDENT}'}}}}\n"
        "recipe: {optimizer: sgd(lr=0.1), epochs: 1, batch_size: 8}\n"
        "views: {policy: shift(1), views: 3, view_seed: 5}\n"
    )
    for how in (["-T", "1"], ["--hard"]):
        result = CliRunner().invoke(main, ["distill", "s", *how, "--data", str(data), "--work", "work"], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    facts = json.loads((data / "students/s-T1/model.json").read_text())
    assert (facts["kind"], facts["soft"]["alpha"], facts["soft"]["feature_behaviours"]) == ("student", 0, ["version 1"] * 2)
    assert facts["soft"]["features"] == [FeatureLoss.parse(text).text for text in (HINT, SIMILAR)]
    assert facts["soft"]["caches"] == {"a": Cache.open(data / "caches/a").manifest.digest}
    assert json.loads((data / "students/s-hard/model.json").read_text())["soft"] is None


def test_a_sweep_trains_students_with_features_one_by_one_to_the_bits_of_distill(data, tmp_path, caplog):
    plan = Plan(STUDENT, RECIPE, VIEWS, "all", soft(data, HINT), (), (3,))
    with caplog.at_level(logging.INFO):
        found = sweep(
            plans={"s": plan}, weightings=[WEIGHTING], baseline=True, together=9, teachers={"a": data / "teachers/a"},
            splits=data / "transfer", work=tmp_path / "work", out=tmp_path / "sweeps/f", device=CPU,
        )  # fmt: skip
    assert {run.name for run in found.runs} >= {"s-T2-alpha0.7", "s-hard"}
    alone = trained(data, tmp_path / "s-T2", soft(data, HINT))
    swept = load_file(tmp_path / "sweeps/f/students/s-T2-alpha0.7/seed-3.safetensors")
    assert all(torch.equal(alone[name], swept[name]) for name in alone)
    assert json.loads((tmp_path / "sweeps/f/students/s-hard/model.json").read_text())["soft"] is None


def test_the_identity_of_a_student_names_its_feature_losses(data):
    """Else a student that was kept would be taken for one of other losses; that of a baseline does not name them."""
    ground = Ground.open(data / "transfer", ("transfer", "valid"), data / "work", CPU)
    given = {"views": VIEWS, "rows": "all", "weightings": [WEIGHTING], "correct": (), "recipe": RECIPE}
    lessons = [Lesson.prepare(ground, soft=soft(data, *each), **given) for each in ([], [HINT], [SIMILAR], [HINT, SIMILAR])]
    own, hard = (
        {json.dumps(each.identity(parse_model(STUDENT), RECIPE, weighting, 3)) for each in lessons}
        for weighting in (WEIGHTING, HARD)
    )
    assert (len(own), len(hard)) == (4, 1)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("names", "features", "message"),
    [
        ("c", [HINT], r"cache c, features: expected layer1, found none. Set `capture.features: \['layer1'\]` and run"),
        ("ca", [HINT], "cache c, features: expected layer1, found none"),
        (
            "a",
            [HINT, "at(teacher=layer2, student=layer2)"],
            "features: expected layer2, found layer1, layer2 . pool. Set",
        ),
        (
            "a",
            ["hint(teacher=layer1, student=layer9)"],
            "features of the student, feature layer9: expected one of the layers layer1, layer2",
        ),
        (
            "a",
            ["hint(teacher='layer2 | pool', student=layer2)"],
            "layers layer2 | pool of the teacher and layer2 of the student",
        ),
    ],
)
def test_features_that_do_not_fit_are_refused_before_anything_is_trained(data, tmp_path, monkeypatch, names, features, message):
    monkeypatch.setattr(fit._Training, "epoch", None)
    with pytest.raises(InputError, match=message):
        trained(data, tmp_path / "s-T2", soft(data, *features, names=names))
    assert not (tmp_path / "s-T2").exists()


CONTRAST = "crd(teacher='layer2 | pool', student='layer2 | pool')"


def test_two_views_of_a_row_are_no_contrast(data, tmp_path):
    message = r"features, crd\(.*\): expected one view of each row in a batch.*, found draws 2"
    with pytest.raises(InputError, match=message):
        trained(
            data, tmp_path / "s-T2", soft(data, CONTRAST), recipe=replace(RECIPE, settings=replace(RECIPE.settings, draws=2))
        )


def test_contrast_is_among_the_rows_that_are_learned_from(data):
    ground = Ground.open(data / "transfer", ("transfer", "valid"), data / "work", CPU)
    lesson = Lesson.prepare(
        ground, views=VIEWS, rows="only([0])", soft=soft(data, CONTRAST), weightings=[WEIGHTING], correct=(), recipe=RECIPE
    )
    net = build(parse_model(STUDENT), Images("L", (1, 4, 4)), 3, seed=0)
    (loss,) = lesson._guidance(net, WEIGHTING, seed=0).losses
    assert loss.shapes.rows == int((ground.splits["transfer"].labels() == 0).sum())


def test_features_of_live_teachers_are_refused(data, tmp_path):
    with pytest.raises(InputError, match="features: expected teachers whose features are cached, found --live"):
        trained(data, tmp_path / "s-T2-live", soft(data, HINT, live=True))
