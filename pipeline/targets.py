"""Targets: the cached logits of one teacher or several, combined at a temperature into target logits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from pipeline import temperature as temperatures
from pipeline.base.errors import InputError
from pipeline.cache import Cache

RULES = {"probabilities": 1, "logits": 1}  # rule → the version of what it does


@dataclass(frozen=True)
class Targets:
    """An ensemble at a temperature: any list of caches as the target logits of one teacher; make it with `Targets.of`.

    caches: by teacher name. temperature: one, or several for targets side by side. weights: one per cache, summing to 1.
    rule: see `combine`.
    """

    caches: Mapping[str, Cache]
    temperature: float | tuple[float, ...]
    rule: str
    weights: Sequence[float]

    @classmethod
    def of(
        cls,
        caches: Mapping[str, Cache],
        temperature: float | tuple[float, ...],
        rule: str,
        weights: Sequence[float] | None = None,
    ) -> "Targets":
        """weights: by default equal; scaled to sum 1.

        Raises InputError for settings that do not fit, and for caches whose classes or rows differ: both are named.
        """
        if not caches:
            raise InputError("teachers", expected="at least one", found="none", fix="Name them in the setting `teachers`.")
        for each in temperature if isinstance(temperature, tuple) else (temperature,):
            _check(each, rule)
        (first, reference), *others = caches.items()
        for name, cache in others:
            for what, expected, found in (
                ("classes", reference.manifest.identity["classes"], cache.manifest.identity["classes"]),
                ("rows", _rows(reference), _rows(cache)),
                ("rows of a span", reference.layout.span, cache.layout.span),
            ):
                if expected != found:
                    wanted, fix = f"{expected} as in cache {first}", "Capture both over the same data."
                    raise InputError(f"ensemble, {what} of cache {name}", expected=wanted, found=str(found), fix=fix)
        return cls(caches, temperature, rule, normalised(weights, len(caches)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a row's target logits: (classes,), or (temperatures, classes) where there are several."""
        several = (len(self.temperature),) if isinstance(self.temperature, tuple) else ()
        return (*several, self._first.layout.classes)

    @property
    def rows(self) -> int:
        """Rows of the transfer set."""
        return self._first.manifest.extents["transfer"].rows

    @property
    def span_rows(self) -> int:
        """Rows of a span."""
        return self._first.layout.span

    @property
    def dtype(self) -> torch.dtype:
        """Of target logits: that of the cache where it is one, else float32."""
        return torch.float16 if len(self.caches) == 1 and self._first.layout.dtype == "float16" else torch.float32

    def read(self, split: str, view: int, span: int, out: torch.Tensor) -> None:
        """Put the target logits of one span into `out`: (rows, *shape) of this dtype, on any device.

        Raises IntegrityError for a damaged cache.
        """
        several = isinstance(self.temperature, tuple)
        if len(self.caches) == 1 and not several and out.device.type == "cpu":
            self._first.span(self._first.record(split, view, span), out.numpy())
            return
        stored = (torch.from_numpy(cache.span(cache.record(split, view, span))) for cache in self.caches.values())
        members = [logits.to(self.dtype) for logits in stored]
        if not several:
            out.copy_(combine(members, self.temperature, self.rule, self.weights))
            return
        for place, temperature in enumerate(self.temperature):
            out[:, place].copy_(combine(members, temperature, self.rule, self.weights))

    @property
    def _first(self) -> Cache:
        return next(iter(self.caches.values()))


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


def _check(temperature: float, rule: str) -> None:
    if rule not in RULES:
        raise InputError("ensemble rule", expected=" or ".join(RULES), found=repr(rule), fix="Correct the setting `rule`.")
    temperatures.require(temperature)


def _rows(cache: Cache) -> tuple[int, str]:
    extent = cache.manifest.extents["transfer"]
    return extent.rows, extent.inputs_digest
