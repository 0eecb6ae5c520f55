"""The subject of a capture: a teacher, the rows and views that it is shown, and what is kept. Any process can open it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.base import files, spec
from pipeline.base.places import Place
from pipeline.base.settings import check
from pipeline.cache.identity import identity
from pipeline.cache.layout import SPLITS
from pipeline.cache.manifest import Extent
from pipeline.cache.running import Running
from pipeline.cache.settings import Keep
from pipeline.cache.tabled import Tabled
from pipeline.data.settings import Views
from pipeline.data.splits import Split, open_splits
from pipeline.data.views import open_views
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.lookup import Lookup


@dataclass(frozen=True)
class Request:
    """What a capture is asked for, see `capture`; it can be pickled."""

    teacher: Place
    splits: Place
    views: Views
    keep: Keep
    work: Place


@dataclass(frozen=True)
class Subject:
    """What a request names, opened. name: of the teacher. witnesses: of all that the cache is made of, once it is loaded."""

    name: str
    splits: Mapping[str, Split]
    source: Running | Tabled
    identity: Mapping[str, Any]
    extents: Mapping[str, Extent]
    _witnesses: tuple[files.Witness, ...]

    @classmethod
    def open(cls, request: Request, device: torch.device) -> "Subject":
        """Open splits and teacher. device: where the teacher runs. Raises what `capture` raises for them."""
        check(request.views)
        check(request.keep)
        splits = open_splits(request.splits, SPLITS)
        policy, count = open_views(request.views)
        policy.require_kind(splits["transfer"].inputs.kind)
        checkpoint = Checkpoint.teacher(request.teacher)
        source: Running | Tabled
        if checkpoint.kind == "imported":
            source = Tabled.of(Lookup.open(checkpoint, splits, policy, count), request.keep, splits["transfer"])
        else:
            source = Running(checkpoint, policy, splits, request.keep, device)
        extents = {
            split: Extent(found.rows, count if split == "transfer" else 1, found.inputs_digest)
            for split, found in splits.items()
        }
        found = identity(checkpoint, splits["transfer"], policy, request.keep.tile, source.knowledge)
        witnesses = (checkpoint.witness, splits["transfer"].witness, *spec.witnesses(*policy.steps))
        return cls(checkpoint.name, splits, source, found, extents, witnesses)

    @property
    def witnesses(self) -> list[files.Witness]:
        """They tell later whether what the cache is made of has changed."""
        return [*self._witnesses, *self.source.witnesses]
