"""Ensembles: the logits of several teachers, combined at a temperature into those of one."""

import math
from collections.abc import Sequence

import torch

from pipeline.base.errors import InputError
from pipeline.models.temperature import require_temperature

RULES = {"probabilities": 1, "logits": 1}  # rule → the version of what it does


def combine(
    members: Sequence[torch.Tensor], temperature: float, rule: str, weights: Sequence[float] | None = None
) -> torch.Tensor:
    """Logits t of an ensemble: softmax(t / T) is its soft target.

    members: one (..., C) tensor of raw logits per teacher. weights: one per teacher, by default equal; scaled to sum 1.
    rule `probabilities`: t = T · log Σ wₘ softmax(zₘ / T), centred per row, the arithmetic mean at T;
    rule `logits`: t = Σ wₘ zₘ, whose softmax is the geometric mean of the members', at any T.
    Both are named in Hinton, Vinyals, Dean 2015, section 2. One member is returned as it is, under either rule. Several
    are combined in float64 and rounded once to float32, so that a row's targets do not depend on which rows are beside it.
    Raises InputError for an unknown rule, for weights that do not fit, and for a temperature that is not above 0.
    """
    check(temperature, rule)
    scaled = normalised(weights, len(members))
    if len(members) == 1:
        return members[0]
    if rule == "logits":
        return sum(weight * logits.double() for weight, logits in zip(scaled, members, strict=True)).float()
    mixture = torch.full_like(members[0], -torch.inf, dtype=torch.float64)
    for weight, logits in zip(scaled, members, strict=True):
        if weight:
            mixture = torch.logaddexp(mixture, torch.log_softmax(logits.double() / temperature, dim=-1) + math.log(weight))
    return (temperature * (mixture - mixture.mean(dim=-1, keepdim=True))).float()


def normalised(weights: Sequence[float] | None, count: int) -> list[float]:
    """Weights that sum to 1, one for each of `count` teachers."""
    given = list(weights) if weights else [1.0] * count
    if len(given) != count or not all(0 <= weight < math.inf for weight in given) or not 0 < sum(given) < math.inf:
        raise InputError(
            "ensemble weights",
            expected=f"{count} finite numbers of at least 0, one per teacher, not all 0",
            found=str(given),
            fix="Correct the setting `weights`.",
        )
    return [weight / sum(given) for weight in given]


def check(temperature: float, rule: str) -> None:
    """Raise InputError for a rule or a temperature that is none."""
    if rule not in RULES:
        raise InputError("ensemble rule", expected=" or ".join(RULES), found=repr(rule), fix="Correct the setting `rule`.")
    require_temperature(temperature)
