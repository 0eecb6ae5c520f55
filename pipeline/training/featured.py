"""Featured: target logits and features of teachers, both from their caches, as the signal that students learn from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from pipeline.base import commands, files
from pipeline.base.errors import InputError
from pipeline.cache.reader import Cache
from pipeline.models.ensemble import Ensemble
from pipeline.models.modelfile import Kind
from pipeline.training.packed import Field, Packed
from pipeline.training.targets import Targets


@dataclass(frozen=True)
class Featured:
    """Target logits with features beside them: a signal.Signal, made by `Featured.of`.

    logits: the target logits. texts: the features, as the setting `capture.features` names them; every teacher with a weight
    above 0 gives all of them.
    """

    logits: Targets
    texts: tuple[str, ...]
    kind: Kind = "student"

    @classmethod
    def of(cls, logits: Targets, texts: Sequence[str]) -> "Featured":
        """Add these features. Raises InputError for one that a cache lacks; it says which it has, and how to make it."""
        found = cls(logits, tuple(dict.fromkeys(texts)))
        for cache in found._caches:
            if missing := [text for text in found.texts if text not in cache.features]:
                kept = list(cache.features)
                setting = f"`capture.features: {[*kept, *missing]}`"
                fix = f"Set {setting} and run {commands.capture(cache.path)}, or correct `features`."
                what, held = f"cache {cache.path.name}, features", ", ".join(kept) or "none"
                raise InputError(what, expected=", ".join(missing), found=held, fix=fix)
        return found

    @property
    def caches(self) -> Mapping[str, Cache]:
        """By teacher name."""
        return self.logits.caches

    @property
    def rows(self) -> int:
        """Number of rows in the transfer set."""
        return self.logits.rows

    @property
    def span(self) -> int:
        """Number of rows in a span."""
        return self.logits.span

    @property
    def teachers(self) -> Sequence[tuple[float, Sequence[tuple[int, ...]]]]:
        """Of every teacher that gives features: its weight, and the shape of each feature of a row."""
        weights = [weight for weight in self.ensemble.weights if weight]
        return [
            (weight, [tuple(cache.features[text].shape) for text in self.texts])
            for weight, cache in zip(weights, self._caches, strict=True)
        ]

    @property
    def shape(self) -> tuple[int, ...]:
        """(bytes,): everything of a row side by side."""
        return (self._packed.size,)

    @property
    def dtype(self) -> torch.dtype:
        return torch.uint8

    @property
    def feature_bytes(self) -> int:
        return self._packed.size - Packed(self._packed.fields[:1]).size

    @property
    def ensemble(self) -> Ensemble:
        return self.logits.ensemble

    @property
    def digests(self) -> Mapping[str, str]:
        return self.logits.digests

    @property
    def witnesses(self) -> Sequence[files.Witness]:
        return self.logits.witnesses

    def read(self, view: int, span: int, out: torch.Tensor) -> None:
        """Read one span of every cache into `out`; raises IntegrityError for a damaged cache."""
        held = out if out.device.type == "cpu" else torch.empty(out.shape, dtype=out.dtype)
        targets, *features = self._packed.split(held)
        self.logits.read(view, span, targets)
        wanted = ((cache, text) for cache in self._caches for text in self.texts)
        for feature, (cache, text) in zip(features, wanted, strict=True):
            cache.feature(text, "transfer", view, span, feature.numpy())
        if held is not out:
            out.copy_(held)

    def targets(self, stored: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """The logits among what is stored."""
        return self._packed.split(stored)[0].contiguous()

    def features(self, stored: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The features among what is stored: those of the first teacher in the order of `texts`, those of the next one, …"""
        return tuple(self._packed.split(stored)[1:])

    @cached_property
    def _packed(self) -> Packed:
        own = (Field(tuple(cache.features[text].shape), _dtype(cache, text)) for cache in self._caches for text in self.texts)
        return Packed([Field(self.logits.shape, self.logits.dtype), *own])

    @cached_property
    def _caches(self) -> Sequence[Cache]:
        """Those that features are read from."""
        return [cache for cache, weight in zip(self.caches.values(), self.ensemble.weights, strict=True) if weight]


def _dtype(cache: Cache, text: str) -> torch.dtype:
    found: torch.dtype = getattr(torch, cache.features[text].dtype)
    return found
