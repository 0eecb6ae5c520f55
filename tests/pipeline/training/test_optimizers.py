"""Optimizers: the steps of torch.optim, with its state, and without its compiler."""

import subprocess
import sys

import pytest
import torch

from pipeline.training import optimizers

SETTINGS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.99), "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.01, "betas": (0.8, 0.99), "weight_decay": 0.1}),
]


def weights(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Of several sizes and orders in memory; one with gaps."""
    generator = torch.Generator().manual_seed(0)
    made = [
        torch.randn(shape, generator=generator, dtype=dtype) for shape in ((), (33,), (7, 20), (20, 9), (4, 3, 3, 3), (6, 8))
    ]
    made[3], made[4], made[5] = made[3].t(), made[4].contiguous(memory_format=torch.channels_last), made[5][:, ::2]
    return [each.requires_grad_() for each in made]


def learn(optimizer: torch.optim.Optimizer, held: list[torch.Tensor], steps: range) -> None:
    """Steps with the same gradients for every optimizer, which autograd computes; the second weight has none at times."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        optimizer.zero_grad()
        values = [(torch.randn(each.shape, generator=generator, dtype=each.dtype) * each).sum() for each in held]
        torch.autograd.backward([value for place, value in enumerate(values) if place != 1 or step % 3])
        optimizer.step()


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_steps_are_those_of_torch(name, settings):
    held, expected = weights(torch.float64), weights(torch.float64)
    learn(getattr(optimizers, name)(held, **settings), held, range(20))
    learn(getattr(torch.optim, name)(expected, foreach=False, **settings), expected, range(20))
    for one, other in zip(held, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert float((held[2] - weights(torch.float64)[2]).detach().abs().max()) > 0.1


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_state_goes_round_to_the_same_bits(name, settings):
    """Also where it comes back in another order in memory than the weight's own."""
    held, expected = weights(), weights()
    learn(getattr(optimizers, name)(expected, **settings), expected, range(10))
    first = getattr(optimizers, name)(held, **settings)
    learn(first, held, range(5))
    state = first.state_dict()
    state["state"] = {n: {key: each.clone().contiguous() for key, each in kept.items()} for n, kept in state["state"].items()}
    second = getattr(optimizers, name)(held, lr=1.0)
    second.load_state_dict(state)
    learn(second, held, range(5, 10))
    assert all(torch.equal(one, other) for one, other in zip(held, expected, strict=True))


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_weights_of_two_dtypes_are_updated(name, settings):
    held = [*weights(), *weights(torch.float64)]
    learn(getattr(optimizers, name)(held, **settings), held, range(3))
    changed = [
        float((one - other).detach().abs().max())
        for one, other in zip(held, [*weights(), *weights(torch.float64)], strict=True)
    ]
    assert min(changed) > 1e-3


def test_a_step_leaves_the_compiler_alone():
    code = (
        "import sys, torch; from pipeline.training.recipe import Recipe\n"
        "for text in ('sgd(lr=0.1, momentum=0.9)', 'adam(lr=0.1)', 'adamw(lr=0.1)'):\n"
        "    recipe = Recipe.parse(optimizer=text, schedule='constant', epochs=1, batch_size=1)\n"
        "    optimizer = recipe.optimizer([torch.zeros(1)])\n"
        "    optimizer.load_state_dict(optimizer.state_dict())\n"
        "assert not {'torch._dynamo', 'torch._inductor', 'sympy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
