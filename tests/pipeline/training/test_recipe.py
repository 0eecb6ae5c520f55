"""Recipes: schedules at known points and as torch has them, and settings that make no training."""

import math

import pytest
import torch

from conftest import recipe
from pipeline.base.errors import InputError
from pipeline.models.stack import Stacked
from pipeline.training.recipe import OPTIMIZERS, SCHEDULES, constant, cosine, one_cycle


def test_schedules_at_known_points():
    assert [constant(share) for share in (0, 0.5, 1)] == [1, 1, 1]
    assert [cosine(share) for share in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert [cosine(share, warmup=0.2) for share in (0, 0.1, 0.2, 0.6, 1)] == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert [one_cycle(share) for share in (0, 0.15, 0.3, 0.65, 1)] == pytest.approx([0.04, 0.52, 1, 0.500002, 4e-6])


def test_step_is_that_of_torch():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [15, 25], gamma=0.3)
    for at in range(40):
        assert SCHEDULES["step"](at / 40, milestones=[15 / 40, 25 / 40], factor=0.3) == pytest.approx(
            schedule.get_last_lr()[0], rel=1e-12
        )
        optimizer.step()
        schedule.step()
    assert [SCHEDULES["step"](share) for share in (0, 0.49, 0.5, 0.74, 0.75, 1)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_one_cycle_is_that_of_torch():
    """torch's OneCycleLR without momentum, over 100 steps, reaches its ends one step early: compare on its own grid."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=101, cycle_momentum=False)
    for step in range(100):
        peak = 0.3 * 101 - 1
        done = 0.3 * step / peak if step <= peak else 0.3 + 0.7 * (step - peak) / (100 - peak)
        assert one_cycle(done) == pytest.approx(schedule.get_last_lr()[0], rel=1e-6)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0},
        {"memory": 0},
        {"memory": math.inf},
        {"batch_size": 0},
        {"max_norm": -1.0},
        {"patience": 0},
        {"patience": 3},
        {"keep": "first"},
        {"precision": "float16"},
        {"optimizer": "sgd()"},
        {"schedule": "cosine(warmup=1.5)"},
        {"optimizer": "rmsprop(lr=1)"},
        {"optimizer": "adam(lr=-1)"},
        {"optimizer": "sgd(lr=-0.1)"},
        {"optimizer": "sgd(lr='x')"},
        {"optimizer": "sgd(lr=0.1, nesterov=True)"},
        {"optimizer": "adamw(lr=0.1, beta1=2)"},
        {"schedule": "one_cycle(start='x')"},
        {"schedule": "cosine(warmup=1)"},
        {"schedule": "step(milestones=[0.5, 1.5])"},
        {"schedule": "step(milestones=[0])"},
        {"schedule": "step(milestones=0.5)"},
        {"schedule": "step(milestones=['x'])"},
        {"schedule": "step(factor=-0.5)"},
        {"schedule": "step(factor=2)"},
        {"schedule": "linear(end=1.5)"},
        {"virtual_teacher": "kl"},
        {"virtual_teacher": "tf_kd"},
        {"virtual_teacher": "tf_kd(weight=2)"},
        {"virtual_teacher": "tf_kd(weight=True)"},
        {"virtual_teacher": "tf_kd(weight=0.5, probability=1)"},
        {"virtual_teacher": "tf_kd(weight=0.5, temperature=0)"},
        {"virtual_teacher": "tf_kd(weight=0.5)", "label_smoothing": 0.1},
    ],
)
def test_bad_recipes_are_refused(changes):
    with pytest.raises(InputError):
        recipe(**changes)


def test_a_virtual_teacher_is_no_plug_in():
    with pytest.raises(InputError, match="virtual_teacher 'mine:teacher': expected tf_kd, found 'mine:teacher'"):
        recipe(virtual_teacher="mine:teacher")


def test_what_is_told_of_a_recipe():
    """Canonical specs with their versions, for model.json and for what a training goes on from."""
    taught = recipe(virtual_teacher="tf_kd(0.1)").recorded.virtual_teacher
    assert taught == "tf_kd(weight=0.1, probability=0.99, temperature=20.0, multiplier=1.0) of version 1"
    found = recipe(memory=0.5, keep="best", patience=3)
    assert vars(found.recorded) == {
        "optimizer": found.optimizer.identity, "schedule": found.schedule.identity, "epochs": 2, "batch_size": 16,
        "max_norm": None, "clip_grad": None, "label_smoothing": 0.0, "virtual_teacher": None, "draws": 1, "ema": None,
        "memory": 0.5, "keep": "best", "patience": 3, "precision": "float32",
    }  # fmt: skip
    assert "sgd(lr=0.5, momentum=0.9, weight_decay=0.0, nesterov=False)" in found.recorded.optimizer
    assert (found.memory_bytes, found.selects, found.elementwise, recipe().selects) == (500_000_000, True, True, False)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_biases_need_not_decay(name):
    """Without a gradient a weight that decays shrinks, whatever the optimizer; a bias and a scale do not. Also in a stack."""
    shapes = {torch.nn.Parameter: [(3, 2), (3,), ()], Stacked: [(4, 3, 2), (4, 3), (4,)]}
    for kind, each in shapes.items():
        for said, shrinks in (("", [True, True, True]), (", decay_biases=False", [True, False, False])):
            parameters = [kind(torch.ones(shape)) for shape in each]
            made = recipe(optimizer=f"{name}(lr=0.1, weight_decay=0.5{said})").optimizer(parameters)
            for parameter in parameters:
                parameter.grad = torch.zeros_like(parameter)
            made.step()
            assert [bool((parameter < 1).all()) for parameter in parameters] == shrinks
            assert all(bool((parameter == 1).all()) != now for parameter, now in zip(parameters, shrinks, strict=True))


def test_a_setting_at_its_default_leaves_identities_alone():
    assert "decay_biases" not in recipe(optimizer="sgd(lr=0.5, decay_biases=True)").recorded.optimizer
    assert "decay_biases=False" in recipe(optimizer="sgd(lr=0.5, decay_biases=False)").recorded.optimizer
