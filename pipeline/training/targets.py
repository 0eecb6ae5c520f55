"""Targets: the cached logits of one teacher or several, combined at a temperature into target logits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from pipeline.base.errors import InputError
from pipeline.cache.reader import Cache
from pipeline.models.ensemble import check, combine, normalised


@dataclass(frozen=True)
class Targets:
    """An ensemble at a temperature: any list of caches as the target logits of one teacher; make it with `Targets.of`.

    caches: by teacher name. temperature: one, or several for targets side by side. weights: one per cache, summing to 1.
    rule: see `ensemble.combine`.
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
            check(each, rule)
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


def _rows(cache: Cache) -> tuple[int, str]:
    extent = cache.manifest.extents["transfer"]
    return extent.rows, extent.inputs_digest
