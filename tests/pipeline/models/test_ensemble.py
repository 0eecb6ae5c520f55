"""Ensembles: the two rules against probabilities worked out in float64."""

import math

import pytest
import torch

from pipeline.base.errors import InputError
from pipeline.models import ensemble


def members(count=3, rows=4, classes=5):
    return [torch.randn(2, rows, classes, generator=torch.Generator().manual_seed(seed)) * 3 for seed in range(count)]


def soft(logits, temperature):
    return torch.softmax(logits.double() / temperature, -1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("weights", [None, [1, 2, 5], [0, 1, 1]])
def test_probabilities_is_the_arithmetic_mean_at_t(temperature, weights):
    found = ensemble.combine(members(), temperature, "probabilities", weights)
    shares = torch.tensor(weights or [1, 1, 1], dtype=torch.float64)
    expected = sum(share * soft(z, temperature) for share, z in zip(shares / shares.sum(), members(), strict=True))
    torch.testing.assert_close(soft(found, temperature), expected, rtol=1e-5, atol=1e-7)
    assert found.mean(-1).abs().max() < 1e-4


def test_probabilities_depends_on_the_temperature_it_is_taken_at():
    one, four = (ensemble.combine(members(), t, "probabilities") for t in (1.0, 4.0))
    assert (soft(one, 4.0) - soft(four, 4.0)).abs().max() > 0.01


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_logits_is_the_geometric_mean(temperature):
    found = ensemble.combine(members(), temperature, "logits")
    geometric = torch.stack([soft(z, temperature) for z in members()]).log().mean(0).exp()
    torch.testing.assert_close(soft(found, temperature), geometric / geometric.sum(-1, keepdim=True), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("rule", ensemble.RULES)
def test_one_teacher_is_left_as_it_is(rule):
    alone = members(1)
    assert ensemble.combine(alone, 4.0, rule) is alone[0]


@pytest.mark.parametrize("rule", ensemble.RULES)
def test_a_teacher_twice_is_that_teacher(rule):
    (alone,) = members(1)
    torch.testing.assert_close(soft(ensemble.combine([alone, alone], 4.0, rule), 4.0), soft(alone, 4.0), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("temperature", "rule", "weights"),
    [
        (0.0, "logits", None),
        (float("nan"), "logits", None),
        (1.0, "mean", None),
        (1.0, "logits", [1]),
        (1.0, "logits", [-1, 1, 1]),
    ],
)
def test_bad_settings_are_refused(temperature, rule, weights):
    with pytest.raises(InputError):
        ensemble.combine(members(), temperature, rule, weights)


def test_a_mixture_by_hand():
    """At T = 2, (2 ln 3, 0) is ¾ and ¼ and (0, 0) is ½ and ½: their mean is ⅝ and ⅜, whose logits are ± ln(5/3), centred."""
    one, other = torch.tensor([[2 * math.log(3), 0.0]]), torch.zeros(1, 2)
    (row,) = ensemble.combine([one, other], 2.0, "probabilities").tolist()
    assert row == pytest.approx([math.log(5 / 3), -math.log(5 / 3)], rel=1e-6)
    (row,) = ensemble.combine([one, other], 2.0, "logits", [3, 1]).tolist()
    assert row == pytest.approx([1.5 * math.log(3), 0.0], rel=1e-6)


@pytest.mark.parametrize("rule", ensemble.RULES)
def test_a_row_does_not_depend_on_those_beside_it(rule):
    together = ensemble.combine(members(rows=33), 3.0, rule)
    alone = torch.cat([ensemble.combine([z[:, row : row + 1] for z in members(rows=33)], 3.0, rule) for row in range(33)], 1)
    assert torch.equal(together, alone)
    assert together.dtype == torch.float32


def test_weights_are_scaled_to_sum_1():
    assert ensemble.normalised([1, 3], 2) == [0.25, 0.75]
    assert ensemble.normalised(None, 4) == ensemble.normalised([], 4) == [0.25] * 4
    for weights in ([0, 0], [1, float("inf")], [1, float("nan")], [1, 2, 3]):
        with pytest.raises(InputError, match="2 finite numbers of at least 0, one per teacher, not all 0"):
            ensemble.normalised(weights, 2)
