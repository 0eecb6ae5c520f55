"""Targets: the cached logits of one teacher or several, combined at a temperature into target logits."""

import math
from collections.abc import Sequence

import torch

from pipeline.errors import InputError

RULES = ("probabilities", "logits")


def combine(
    members: Sequence[torch.Tensor], temperature: float, rule: str, weights: Sequence[float] | None = None
) -> torch.Tensor:
    """Logits t of an ensemble: softmax(t / T) is its soft target.

    members: one (..., C) tensor of raw logits per teacher. weights: one per teacher, by default equal; scaled to sum 1.
    rule `probabilities`: t = T · log Σ wₘ softmax(zₘ / T), centred per row, the arithmetic mean at T;
    rule `logits`: t = Σ wₘ zₘ, whose softmax is the geometric mean of the members', at any T.
    Both are named in Hinton, Vinyals, Dean 2015, section 2. One member is returned as it is, under either rule.
    Raises InputError for an unknown rule, for weights that do not fit, and for a temperature that is not above 0.
    """
    if rule not in RULES:
        raise InputError("ensemble rule", expected=" or ".join(RULES), found=repr(rule), fix="Correct the setting `rule`.")
    if not temperature > 0:
        raise InputError("temperature", expected="a number above 0", found=str(temperature), fix="Correct it.")
    scaled = normalised(weights, len(members))
    if len(members) == 1:
        return members[0]
    if rule == "logits":
        return sum(weight * logits for weight, logits in zip(scaled, members, strict=True))
    mixture = torch.full_like(members[0], -torch.inf)
    for weight, logits in zip(scaled, members, strict=True):
        if weight:
            mixture = torch.logaddexp(mixture, torch.log_softmax(logits / temperature, dim=-1) + math.log(weight))
    return temperature * (mixture - mixture.mean(dim=-1, keepdim=True))


def normalised(weights: Sequence[float] | None, count: int) -> list[float]:
    """Weights that sum to 1, one for each of `count` teachers."""
    given = list(weights) if weights else [1.0] * count
    if len(given) != count or any(weight < 0 for weight in given) or sum(given) <= 0:
        raise InputError(
            "ensemble weights",
            expected=f"{count} numbers of at least 0, one per teacher, not all 0",
            found=str(given),
            fix="Correct the setting `weights`.",
        )
    return [weight / sum(given) for weight in given]
