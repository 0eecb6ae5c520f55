"""Ensembles: the logits of several teachers, combined at a temperature into the logits of one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pipeline.base.errors import InputError
from pipeline.models.temperature import require_temperature

RULES = {"probabilities": 1, "logits": 1}  # rule → version of its behaviour


@dataclass(frozen=True)
class Ensemble:
    """How teachers are combined for students at one or several temperatures; make it with `Ensemble.of`.

    rule: see `combine`. weights: one per teacher, with sum 1. temperatures: target logits have one layer for each.
    """

    rule: str
    weights: tuple[float, ...]
    temperatures: tuple[float, ...]

    @classmethod
    def of(
        cls, teachers: Sequence[str], *, rule: str, temperatures: Sequence[float], weights: Sequence[float] | None = None
    ) -> "Ensemble":
        """Combine these teachers for students at these temperatures; one layer serves all where targets do not depend on T.

        Raises InputError for settings out of range, and where there is no teacher.
        """
        if not teachers:
            raise InputError("teachers", expected="at least one", found="none", fix="Name them in the setting `teachers`.")
        for each in temperatures:
            _check(each, rule)
        varies = len(teachers) > 1 and rule == "probabilities"
        kept = sorted(set(temperatures)) if varies else temperatures[:1]
        return cls(rule, tuple(normalised(weights, len(teachers))), tuple(kept))

    def layer(self, temperature: float) -> int:
        """The index of the layer with the target logits for this temperature."""
        return self.temperatures.index(temperature) if len(self.temperatures) > 1 else 0

    def combine(self, members: Sequence[torch.Tensor], layer: int) -> torch.Tensor:
        """The target logits of one layer, from the logits of every teacher, each (..., C)."""
        return combine(members, self.temperatures[layer], self.rule, self.weights)


def combine(
    members: Sequence[torch.Tensor], temperature: float, rule: str, weights: Sequence[float] | None = None
) -> torch.Tensor:
    """Combine the logits of several teachers into target logits t, where softmax(t / T) is the soft target.

    Rule `probabilities`: t = T · log Σ wₘ softmax(zₘ / T), centred per row: the arithmetic mean of probabilities at T.
    Rule `logits`: t = Σ wₘ zₘ: the geometric mean of probabilities, at any T.
    Both are named in Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network" (2015, arXiv 1503.02531),
    section 2.

    Args:
        members: Raw logits of each teacher, (..., C) each, with the classes last.
        temperature: T, from 1e-6 to 1e6.
        rule: `probabilities` or `logits`.
        weights: One per teacher, scaled to sum to 1; None for equal ones.

    Returns:
        (..., C): a single member as it is; several combined in float64 and rounded once to float32, so that the targets of
        a row do not depend on the other rows.

    Raises:
        InputError: For an unknown rule, for weights that are negative, all 0 or not one per teacher, and for a temperature
            out of range.
    """
    _check(temperature, rule)
    scaled = normalised(weights, len(members))
    if len(members) == 1:
        return members[0]
    if rule == "logits":
        mean = torch.zeros_like(members[0], dtype=torch.float64)
        for weight, logits in zip(scaled, members, strict=True):
            mean += weight * logits.double()
        return mean.float()
    mixture = torch.full_like(members[0], -torch.inf, dtype=torch.float64)
    for weight, logits in zip(scaled, members, strict=True):
        if weight:
            mixture = torch.logaddexp(mixture, torch.log_softmax(logits.double() / temperature, dim=-1) + math.log(weight))
    return (temperature * (mixture - mixture.mean(dim=-1, keepdim=True))).float()


def normalised(weights: Sequence[float] | None, count: int) -> list[float]:
    """Scale weights to sum to 1; equal ones for `count` teachers where none are given."""
    given = list(weights) if weights else [1.0] * count
    if len(given) != count or not all(0 <= weight < math.inf for weight in given) or not 0 < sum(given) < math.inf:
        raise InputError(
            "ensemble weights",
            expected=f"{count} finite numbers of at least 0, one per teacher, not all 0",
            found=str(given),
            fix="Correct the setting `weights`.",
        )
    return [weight / sum(given) for weight in given]


def _check(temperature: float, rule: str) -> None:
    if rule not in RULES:
        raise InputError("ensemble rule", expected=" or ".join(RULES), found=repr(rule), fix="Correct the setting `rule`.")
    require_temperature(temperature)
