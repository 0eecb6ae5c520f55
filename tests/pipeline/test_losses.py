"""Losses against formulas written another way, in float64."""

import math

import pytest
import torch

from pipeline import losses


def logits(rows=6, classes=5, seed=0):
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed)) * 3


def test_kl_by_hand():
    """Student uniform over two classes, teacher 3/4 and 1/4 at T = 2 (logits 2·log p): 4 · KL."""
    teacher = 2 * torch.log(torch.tensor([[0.75, 0.25]]))
    expected = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert losses.kl(torch.zeros(1, 2), teacher, 2.0).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_kl_against_torch_in_float64(temperature):
    student, teacher = logits(seed=1), logits(seed=2)
    expected = temperature**2 * torch.nn.functional.kl_div(
        torch.log_softmax(student.double() / temperature, 1),
        torch.softmax(teacher.double() / temperature, 1),
        reduction="none",
    ).sum(1)
    torch.testing.assert_close(losses.kl(student, teacher, temperature), expected, rtol=1e-4, atol=1e-6)


def test_kl_keeps_its_digits_at_high_temperatures():
    """A student near its teacher at T = 1000; for small d, T² · KL is the variance of d under uniform, halved."""
    teacher = logits(seed=2)
    nudge = logits(seed=3) * 0.01
    found = losses.kl(teacher + nudge, teacher, 1000.0)
    expected = ((teacher + nudge).double() - teacher.double()).var(dim=1, correction=0) / 2
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_gradient_of_kl_is_that_of_hinton_equation_2(temperature):
    """dC/dz = (softmax(z/T) − softmax(v/T)) / T, times T²."""
    student, teacher = logits(seed=1).requires_grad_(), logits(seed=2)
    losses.kl(student, teacher, temperature).sum().backward()
    expected = temperature * (
        torch.softmax(student.double() / temperature, 1) - torch.softmax(teacher.double() / temperature, 1)
    )
    torch.testing.assert_close(student.grad.double(), expected, rtol=1e-4, atol=1e-5)


def test_kl_of_equals_is_zero_and_shifts_do_not_matter():
    teacher = logits()
    assert losses.kl(teacher + 7, teacher, 3.0).abs().max() < 1e-5


def test_cross_entropy_by_hand():
    values = losses.cross_entropy(torch.log(torch.tensor([[0.2, 0.8], [0.5, 0.5]])), torch.tensor([1, 0]))
    torch.testing.assert_close(values, -torch.log(torch.tensor([0.8, 0.5], dtype=torch.float64)), rtol=1e-6, atol=0)


def test_one_value_per_example():
    assert losses.kl(logits(), logits(), 2.0).shape == (6,)
    assert losses.cross_entropy(logits(), torch.zeros(6, dtype=torch.long)).shape == (6,)
