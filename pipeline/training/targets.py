"""Targets: the cached logits of one or several teachers, as the signal that students learn from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from pipeline.base import files
from pipeline.base.errors import InputError
from pipeline.cache.reader import Cache
from pipeline.models.ensemble import Ensemble
from pipeline.models.modelfile import Kind


@dataclass(frozen=True)
class Targets:
    """The caches of teachers, by name, combined into target logits: a signal.Signal, made by `Targets.of`."""

    caches: Mapping[str, Cache]
    ensemble: Ensemble
    kind: Kind = "student"
    feature_bytes: int = 0

    @classmethod
    def of(
        cls, caches: Mapping[str, Cache], *, temperatures: Sequence[float], rule: str, weights: Sequence[float] | None = None
    ) -> "Targets":
        """Combine these caches for students at these temperatures. weights: equal by default, scaled to sum to 1.

        Raises InputError for settings out of range, and for caches whose classes or rows differ; it names both.
        """
        ensemble = Ensemble.of(list(caches), rule=rule, temperatures=temperatures, weights=weights)
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
        return cls(caches, ensemble)

    @property
    def shape(self) -> tuple[int, ...]:
        """(layers, classes)."""
        return len(self.ensemble.temperatures), self._first.classes

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of a single cache; float32 for several."""
        return torch.float16 if len(self.caches) == 1 and self._first.dtype == "float16" else torch.float32

    @property
    def digests(self) -> Mapping[str, str]:
        return {name: cache.manifest.digest for name, cache in self.caches.items()}

    @property
    def witnesses(self) -> Sequence[files.Witness]:
        return [cache.witness for cache in self.caches.values()]

    @property
    def rows(self) -> int:
        """Number of rows in the transfer set."""
        return self._first.manifest.extents["transfer"].rows

    @property
    def span(self) -> int:
        """Number of rows in a span."""
        return self._first.layout.span

    def read(self, view: int, span: int, out: torch.Tensor) -> None:
        """Read one span of every cache, combined, into `out`; raises IntegrityError for a damaged cache."""
        if len(self.caches) == 1 and out.device.type == "cpu":
            self._first.span(self._first.record("transfer", view, span), out[:, 0].numpy())
            return
        stored = (torch.from_numpy(cache.span(cache.record("transfer", view, span))) for cache in self.caches.values())
        members = [logits.to(self.dtype) for logits in stored]
        for layer in range(len(self.ensemble.temperatures)):
            out[:, layer].copy_(self.ensemble.combine(members, layer))

    def targets(self, stored: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """The stored logits, which are the targets already."""
        return stored

    def features(self, stored: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """None."""
        return ()

    @property
    def _first(self) -> Cache:
        return next(iter(self.caches.values()))


def _rows(cache: Cache) -> tuple[int, str]:
    extent = cache.manifest.extents["transfer"]
    return extent.rows, extent.inputs_digest
