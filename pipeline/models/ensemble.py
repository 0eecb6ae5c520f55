"""Ensembles: the logits of several teachers, combined at a temperature into those of one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pipeline.base.errors import InputError
from pipeline.models.temperature import require_temperature

RULES = {"probabilities": 1, "logits": 1}  # rule → the version of what it does


@dataclass(frozen=True)
class Ensemble:
    """How teachers are combined, for students at one temperature or at several; make it with `Ensemble.of`.

    rule: see `combine`. weights: one per teacher, summing to 1. temperatures: those at which target logits are made, one layer
    for each.
    """

    rule: str
    weights: tuple[float, ...]
    temperatures: tuple[float, ...]

    @classmethod
    def of(
        cls, teachers: Sequence[str], *, rule: str, temperatures: Sequence[float], weights: Sequence[float] | None = None
    ) -> "Ensemble":
        """temperatures: of all students, one or more; where target logits do not depend on them there is one layer for all.

        Raises InputError for settings that do not fit, and where there is no teacher.
        """
        if not teachers:
            raise InputError("teachers", expected="at least one", found="none", fix="Name them in the setting `teachers`.")
        for each in temperatures:
            _check(each, rule)
        varies = len(teachers) > 1 and rule == "probabilities"
        kept = sorted(set(temperatures)) if varies else temperatures[:1]
        return cls(rule, tuple(normalised(weights, len(teachers))), tuple(kept))

    def layer(self, temperature: float) -> int:
        """Which layer holds the target logits at a temperature."""
        return self.temperatures.index(temperature) if len(self.temperatures) > 1 else 0

    def combine(self, members: Sequence[torch.Tensor], layer: int) -> torch.Tensor:
        """The target logits of one layer, of the logits of every teacher: (..., C) each."""
        return combine(members, self.temperatures[layer], self.rule, self.weights)


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


def _check(temperature: float, rule: str) -> None:
    if rule not in RULES:
        raise InputError("ensemble rule", expected=" or ".join(RULES), found=repr(rule), fix="Correct the setting `rule`.")
    require_temperature(temperature)
