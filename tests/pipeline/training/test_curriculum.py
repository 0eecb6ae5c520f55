"""A learned temperature, against the formula and the code of its authors."""

import logging
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from conftest import run_capture, write_stage_one
from pipeline.base import runtime
from pipeline.base.errors import InputError
from pipeline.cache.reader import Cache
from pipeline.data.inputs.image import Images
from pipeline.data.settings import Views
from pipeline.data.splits import open_splits
from pipeline.data.views import Policy
from pipeline.models.build import build, parse_model
from pipeline.training.course import Course, Progress
from pipeline.training.curriculum import parse_curriculum
from pipeline.training.distill import distill
from pipeline.training.examples import Examples
from pipeline.training.inputs import Numbers
from pipeline.training.lesson import Ground, Lesson, Soft
from pipeline.training.losses import SoftLoss
from pipeline.training.objective import LossWeights
from pipeline.training.recipe import Recipe
from pipeline.training.targets import Targets

CPU = torch.device("cpu")
MODEL, VIEWS = "mlp(hidden=[4])", Views("shift(1)", 3, 5)
RECIPE = Recipe.parse(
    optimizer="sgd(lr=0.5, momentum=0.9, weight_decay=0.01)", schedule="constant", epochs=4, batch_size=8
)  # fmt: skip
START = 1 + 20 / (1 + math.exp(-1))  # of the published code: p = 1


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    runtime.prepare("cpu", threads=1)
    folder = write_stage_one(tmp_path_factory.mktemp("curriculum"), teachers="ab")
    for name in "ab":
        run_capture(folder, name)
    return folder


def soft(data: Path, text: str, *, loss="kl", rule="logits", names="a", **changes) -> Soft:
    folders = {name: data / "caches" / name for name in names}
    return Soft(folders, rule, SoftLoss.parse(loss), heat=parse_curriculum(text), **changes)


class Reversal(torch.autograd.Function):
    """As the authors have it: the gradient times λ, which they let fall from 0 to −1."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return ctx.factor * gradient, None


def published_decay(epoch: int, loops: int, most=0.0, least=-1.0) -> float:
    value = (math.cos(min(epoch, loops) * math.pi / loops) + 1.0) * 0.5
    return value * (most - least) + least


def test_a_training_goes_as_the_published_code_does(data, tmp_path, caplog):
    """Weights and temperature after four epochs, of which the first three let the gradient grow."""
    with caplog.at_level(logging.INFO):
        distill(
            model=MODEL, recipe=RECIPE, views=VIEWS, rows="all", soft=soft(data, "ctkd(epochs=3)"),
            weighting=LossWeights(START, 0.6, 0.4), correct=(), seeds=[2], splits=data / "transfer", work=tmp_path / "work",
            out=tmp_path / "s-T15", device=CPU,
        )  # fmt: skip
    found = load_file(tmp_path / "s-T15/seed-2.safetensors")
    split = open_splits(data / "transfer", ["transfer"])["transfer"]
    labels = torch.from_numpy(split.labels())
    net = build(parse_model(MODEL), Images("L", (1, 4, 4)), 3, seed=2)
    position = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([*net.parameters(), position], lr=0.5, momentum=0.9, weight_decay=0.01)
    targets = Targets.of({"a": Cache.open(data / "caches/a")}, temperatures=[2.0], rule="logits")
    temperatures = []
    for epoch in range(1, 5):
        for batch in Examples(Numbers(split), Policy.parse("shift(1)", 5), 3, targets, 10**9, CPU).epoch(2, epoch - 1, 8):
            heat = 1 + 20 * torch.sigmoid(Reversal.apply(position, published_decay(epoch, 3)))
            logits = net(batch.inputs)
            kl = functional.kl_div(
                (logits / heat).log_softmax(1), (batch.targets[:, 0] / heat).softmax(1), reduction="batchmean"
            )
            loss = 0.6 * heat**2 * kl + 0.4 * functional.cross_entropy(logits, labels[batch.rows])
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
            temperatures.append(heat.item())
    assert found.keys() == net.state_dict().keys()
    for name, wanted in net.state_dict().items():
        torch.testing.assert_close(found[name], wanted, rtol=0, atol=2e-5)
    ended = 1 + 20 * torch.sigmoid(position).item()
    assert abs(ended - START) > 0.05
    assert f"s-T15, seed 2: the temperature began at {START:g} and ended at {ended:.3g}" in caplog.text


def test_it_climbs_what_the_student_descends():
    """The gradient by finite differences, times −λ: in epoch 1 of 4, λ = (1 − cos(π/4)) / 2."""
    heat = parse_curriculum("ctkd(least=2, range=6, epochs=4)")(3.5)
    loss = SoftLoss.parse("kl")
    logits, targets = torch.tensor([[1.0, -2.0, 0.5]]).double(), torch.tensor([[3.0, 1.0, -4.0]]).double()

    def at(position: float) -> float:
        return float(loss(logits, targets, None, 2 + 6 / (1 + math.exp(-position))))

    found = heat(Progress(1, 0.0))
    assert found.item() == pytest.approx(3.5, abs=1e-6)
    loss(logits, targets, None, found).sum().backward()
    here = heat.position.item()
    slope = (at(here + 1e-5) - at(here - 1e-5)) / 2e-5
    assert heat.position.grad.item() == pytest.approx(-(1 - math.cos(math.pi / 4)) / 2 * slope, rel=1e-4)


@pytest.mark.parametrize(
    ("text", "changes", "temperature", "message"),
    [
        ("ctkd()", {}, 1.0, "temperature: expected one between 1 and 21, where learn_temperature"),
        ("ctkd(range=2)", {}, 3.0, "temperature: expected one between 1 and 3"),
        ("ctkd()", {"names": "ab", "rule": "probabilities"}, 4.0, "expected one teacher, or `rule: logits`"),
        ("ctkd()", {"loss": "mse"}, 4.0, "expected a loss with a T, found loss mse"),
        ("ctkd()", {"course": Course.parse(temperature="linear(end=0.5)")}, 4.0, "expected no schedule of T beside it"),
        ("warm()", {}, 4.0, "learn_temperature 'warm\\(\\)': expected ctkd, found 'warm'"),
        ("ctkd(epochs=0)", {}, 4.0, "a whole number of epochs, 1 or more"),
        ("ctkd(range=-1)", {}, 4.0, "a range above 0"),
    ],
)
def test_what_cannot_be_learned_is_refused(data, tmp_path, text, changes, temperature, message):
    ground = Ground.open(data / "transfer", ("transfer", "train", "valid"), tmp_path, CPU)
    with pytest.raises(InputError, match=message):
        Lesson.prepare(
            ground, views=VIEWS, rows="all", soft=soft(data, text, **changes), weightings=[LossWeights(temperature, 0.5)],
            correct=(), recipe=RECIPE,
        )  # fmt: skip
