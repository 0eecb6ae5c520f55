"""Stacks: nets trained together are the nets they would be by themselves.

A stack sums in another order than a net alone, and training multiplies such differences, by how much depends on the processor.
So trainings are compared in float64, where they stay far below any bound that a wrong formula would meet; what float32 gives
is compared by the bound on rounding that its sums have.
"""

import copy
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from conftest import write_split
from pipeline.base import runtime
from pipeline.data.inputs.image import Images
from pipeline.data.views import Policy
from pipeline.models.build import build, parse_model
from pipeline.models.predict import predict
from pipeline.models.stack import Stack, side_by_side, stackable
from pipeline.models.zoo.layers import Pixels
from pipeline.training.examples import Examples
from pipeline.training.fit import Validation, fit
from pipeline.training.inputs import Numbers
from pipeline.training.losses import SoftLoss
from pipeline.training.objective import HARD, LossWeights, Objective
from pipeline.training.recipe import Recipe
from pipeline.training.resume import State
from pipeline.training.signal import NoTeacher

CPU = torch.device("cpu")
ROWS, SHAPE, CLASSES = 200, (1, 6, 6), 5
INPUTS = Images("L", SHAPE)
GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (ROWS, *SHAPE), dtype=np.uint8)
LABELS = np.arange(ROWS) % CLASSES
PIXELS[np.arange(ROWS), 0, LABELS] = 255
SHOWN = torch.from_numpy(PIXELS[:2])
TARGETS = torch.from_numpy(GENERATOR.normal(0, 4, (ROWS, CLASSES)).astype(np.float32))
WEIGHTINGS = [LossWeights(t, alpha) for t in (1.0, 2.5, 20.0) for alpha in (0.3, 1.0)] + [HARD, LossWeights(4.0, 2.0, 0.5)]
MODELS = ["mlp(hidden=[30, 30])", "mlp(hidden=[30], dropout=0.3, input_dropout=0.1)", "cnn(channels=[4, 8], dropout=0.2)"]


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    runtime.prepare("cpu", threads=1)
    return write_split(tmp_path_factory.mktemp("stack") / "train.parquet", PIXELS, LABELS, CLASSES)


def nets(model: str, count: int = 1) -> list[nn.Module]:
    return [build(parse_model(model), INPUTS, CLASSES, seed=3) for _ in range(count)]


class Table(NoTeacher):
    """Target logits by what a net is shown."""

    shown: ClassVar = {PIXELS[row].tobytes(): row for row in range(ROWS)}

    def targets(self, stored: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        return TARGETS[[self.shown[one.numpy().tobytes()] for one in pixels]][:, None]


SIGNAL = Table()


def objective(weightings: list[LossWeights], loss: str = "kl") -> Objective:
    return Objective.of(weightings, torch.from_numpy(LABELS), SoftLoss.parse(loss), SIGNAL)


def recipe(**changes) -> Recipe:
    settings = {"optimizer": "sgd(lr=0.1, momentum=0.9)", "schedule": "constant", "epochs": 20, "batch_size": 40}
    return Recipe.parse(**settings | changes)


def train(split, folder: Path, model: nn.Module, weightings: list[LossWeights], *, loss="kl", **changes):
    examples = Examples(Numbers(split), Policy.parse("none", 0), 1, SIGNAL, 10**9, CPU)
    validation = Validation(torch.from_numpy(PIXELS[:50]), LABELS[:50])
    state = State(folder, [{}])
    fitted = fit(model, examples, objective(weightings, loss), recipe(**changes), validation, seed=3, name="s", state=state)
    state.path.unlink()
    return [each.history for each in fitted]


def farthest(stack: Stack, singles: list[nn.Module]) -> float:
    """The largest difference between any two weights of the same net."""
    found = zip(stack.nets(), singles, strict=True)
    return max(
        float((here - there).detach().abs().max())
        for net, single in found
        for here, there in zip(net.parameters(), single.parameters(), strict=True)
    )


class Doubles(nn.Module):
    """What Pixels gives, in float64."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.double() / 255


def doubled(net: nn.Module) -> nn.Module:
    net[0] = Doubles()
    return net.double()


def rounding(net: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """How far apart two float32 evaluations of a net may be, whatever the order of their sums: (rows, classes) float64.

    Of a sum of n products the error is at most n · 2⁻²⁴ · Σ |w| |x|, to first order (Higham 2002, section 3.1), on either side.
    Layer by layer: with |w| and the bound of its input, for rectifiers and pooling move values by no more than their inputs.
    """
    size, error = pixels.double() / 255, torch.zeros((), dtype=torch.float64)
    for layer in net:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            [weight, bias] = layer.double().parameters()
            absolute = copy.deepcopy(layer)
            absolute.weight.data, absolute.bias.data = weight.abs(), bias.abs()
            terms = weight[0].numel() + 1
            own = absolute(size.abs()) * terms * 2.0**-24
            absolute.bias.data.zero_()
            error = own + absolute(error.expand(size.shape))
            size = layer(size).abs() + error
        elif isinstance(layer, nn.Flatten | nn.MaxPool2d):
            size, error = layer(size), layer(error.expand(size.shape))
    return 2 * error


@pytest.mark.parametrize("model", MODELS)
def test_logits_are_those_of_each_net(model):
    several = [build(parse_model(model), INPUTS, CLASSES, seed=seed) for seed in range(4)]
    together = predict(Stack(several), torch.from_numpy(PIXELS))
    assert together.shape == (ROWS, 4, CLASSES)
    for place, net in enumerate(several):
        alone = predict(net, torch.from_numpy(PIXELS))
        with torch.no_grad():
            bound = rounding(copy.deepcopy(net), torch.from_numpy(PIXELS)).numpy()
        assert (np.abs(together[:, place] - alone) <= bound).all()
        assert bound.max() < 1e-3  # far less than nets of two seeds differ by
        assert np.abs(together[:, place - 1] - alone).max() > 1e-2


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("loss", ["kl", "mse", "dkd", "dist"])
def test_gradients_of_one_step_are_those_of_each_net(split, model, loss):
    examples = Examples(Numbers(split), Policy.parse("none", 0), 1, SIGNAL, 10**9, CPU)
    batch = next(examples.epoch(0, 0, 40))
    stack = Stack([doubled(net) for net in nets(model, len(WEIGHTINGS))]).train()
    torch.manual_seed(5)
    objective(WEIGHTINGS, loss)(stack(batch.inputs), batch).mean(0).sum().backward()
    for place, weighting in enumerate(WEIGHTINGS):
        [net] = map(doubled, nets(model))
        torch.manual_seed(5)  # the same dropout
        objective([weighting], loss)(net.train()(batch.inputs), batch).mean().backward()
        for column, parameter in zip(stack.stacked, net.parameters(), strict=True):
            torch.testing.assert_close(column.grad[place], parameter.grad, atol=1e-11, rtol=1e-9)
    grads = [column.grad.flatten(1) for column in stack.stacked]
    assert min(float((grad[0] - grad[1]).abs().max()) for grad in grads) > 1e-4  # alpha does matter


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("optimizer", ["sgd(lr=0.1, momentum=0.9, weight_decay=0.001)", "adamw(lr=0.001, weight_decay=0.1)"])
def test_weights_after_100_steps_are_those_of_each_net(split, tmp_path, model, optimizer):
    """20 epochs of 5 steps, with a bound on norms; of T 1 and 20, of labels alone, and of weights that sum to more than 1."""
    settings = {"optimizer": optimizer, "max_norm": 1.5}
    weightings = [WEIGHTINGS[0], *WEIGHTINGS[5:]]
    stack = Stack([doubled(net) for net in nets(model, len(weightings))])
    together = train(split, tmp_path, stack, weightings, **settings)
    singles = [doubled(nets(model)[0]) for _ in weightings]
    alone = [train(split, tmp_path, net, [one], **settings)[0] for net, one in zip(singles, weightings, strict=True)]
    assert farthest(stack, singles) <= 1e-8
    assert farthest(stack, singles[1:] + singles[:1]) > 1e-2
    for here, there in zip(together, alone, strict=True):
        assert [each.epoch for each in here] == [each.epoch for each in there]
        assert [each.train_loss for each in here] == pytest.approx([each.train_loss for each in there], rel=1e-8)


@pytest.mark.parametrize(("model", "keep"), [(MODELS[1], "best"), (MODELS[2], "last")])
def test_clipped_averaged_and_partly_decayed_weights_are_those_of_each_net(split, tmp_path, model, keep):
    """Gradients of a net in a stack are clipped by their own norm, and its biases are told from weights."""
    settings = {
        "optimizer": "sgd(lr=0.3, momentum=0.9, weight_decay=0.05, decay_biases=False)", "clip_grad": 0.1, "ema": 0.9,
        "keep": keep, "epochs": 5,
    }  # fmt: skip
    weightings = [WEIGHTINGS[0], HARD, LossWeights(20.0, 1.0)]
    stack = Stack([doubled(net) for net in nets(model, len(weightings))])
    together = train(split, tmp_path, stack, weightings, **settings)
    singles = [doubled(nets(model)[0]) for _ in weightings]
    alone = [train(split, tmp_path, net, [one], **settings)[0] for net, one in zip(singles, weightings, strict=True)]
    assert farthest(stack, singles) <= 1e-8
    for here, there in zip(together, alone, strict=True):
        assert [each.valid_nll for each in here] == pytest.approx([each.valid_nll for each in there], rel=1e-6)
    for name, other in {"clip_grad": None, "ema": None, "optimizer": settings["optimizer"].replace("False", "True")}.items():
        [changed] = map(doubled, nets(model))
        train(split, tmp_path, changed, weightings[:1], **settings | {name: other})
        assert farthest(Stack([changed]), singles[:1]) > 1e-3, name


def test_each_net_keeps_its_own_best_epoch_and_patience(split, tmp_path):
    """At a learning rate that is too high nets get worse at different epochs; each stops and keeps as it would alone."""
    settings = {"keep": "best", "patience": 2, "optimizer": "sgd(lr=0.6, momentum=0.5)", "epochs": 12}
    weightings = [LossWeights(1.0, 0.9), HARD, LossWeights(8.0, 0.1)]
    stack = Stack([doubled(net) for net in nets(MODELS[0], 3)])
    together = train(split, tmp_path, stack, weightings, **settings)
    singles = [doubled(nets(MODELS[0])[0]) for _ in weightings]
    alone = [train(split, tmp_path, net, [one], **settings)[0] for net, one in zip(singles, weightings, strict=True)]
    assert [len(history) for history in together] == [len(history) for history in alone]
    assert len({len(history) for history in together}) > 1
    assert farthest(stack, singles) <= 1e-7


def test_what_cannot_be_stacked_is_told(split):
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(36, CLASSES)

        def forward(self, pixels):
            logits = self.layer(pixels.flatten(1).float())
            return logits if logits.sum() > 0 else -logits

    class Known(nn.Module):
        """Scales by a mean and a deviation that stay."""

        def __init__(self, mean=0.4):
            super().__init__()
            self.register_buffer("mean", torch.tensor(mean))

        def forward(self, values):
            return values - self.mean

    def net(*layers):
        return nn.Sequential(Pixels(), nn.Flatten(), *layers, nn.Linear(36, CLASSES))

    assert all(stackable(nets(model, 2), SHOWN) for model in MODELS)
    assert stackable([net(Known()), net(Known())], SHOWN)
    assert not stackable([net(Known()), net(Known(0.5))], SHOWN)
    assert not stackable([net(nn.BatchNorm1d(36)), net(nn.BatchNorm1d(36))], SHOWN)
    assert not stackable([Branching(), Branching()], SHOWN)


def test_buffers_that_stay_are_in_every_net(tmp_path):
    class Known(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.tensor(0.4))

        def forward(self, values):
            return values - self.mean

    torch.manual_seed(0)
    several = [nn.Sequential(Pixels(), nn.Flatten(), Known(), nn.Linear(36, CLASSES)) for _ in range(3)]
    stack = Stack(several)
    for place, net in enumerate(stack.nets()):
        assert net.state_dict().keys() == several[0].state_dict().keys()
        assert (predict(net, torch.from_numpy(PIXELS)) == predict(several[place], torch.from_numpy(PIXELS))).all()


def test_weights_are_shared_side_by_side():
    [net] = nets(MODELS[0])
    for tensor in side_by_side(net).values():
        tensor.fill_(1.0)
    assert all(bool((parameter == 1).all()) for parameter in net.parameters())


def test_bfloat16_trains_near_float32(split, tmp_path):
    """Mixed precision differs, and ends nearly where float32 does, alone and in a stack."""
    for weightings in ([HARD], [HARD, HARD]):
        last = {}
        for precision in ("float32", "bfloat16"):
            model = Stack(nets(MODELS[0], 2)) if len(weightings) > 1 else nets(MODELS[0])[0]
            last[precision] = train(split, tmp_path, model, weightings, precision=precision, epochs=3)[-1][-1].train_loss
        assert last["bfloat16"] != last["float32"]
        assert last["bfloat16"] == pytest.approx(last["float32"], rel=0.1)
