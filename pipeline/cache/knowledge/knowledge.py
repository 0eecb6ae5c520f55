"""Knowledge: all that a cache keeps of its teacher, as its manifest says it."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from pipeline.cache.knowledge.features import FeatureArray
from pipeline.cache.knowledge.head import Head
from pipeline.cache.knowledge.hidden import Hidden
from pipeline.cache.knowledge.logits import NAME as LOGITS
from pipeline.cache.knowledge.logits import Logits
from pipeline.cache.layout import Layout, Unholdable, ends, require_finite
from pipeline.stats.metrics import kl_at

TEMPERATURES = (1.0, 4.0, 20.0)  # at which a cache says how far its logits are from the teacher's
COMPARED = 64  # rows of a span, at most, by which it says so


class Kind(Protocol):
    """What gives the logits of every row."""

    @property
    def name(self) -> str:
        """Of the kind, and of its main array."""

    @property
    def arrays(self) -> Mapping[str, Layout]:
        """What is stored, by name, the main one first."""

    @property
    def headed(self) -> bool:
        """Whether the head of the teacher makes logits of what is stored; otherwise logits are what is stored."""

    @property
    def gives(self) -> str:
        """The dtype of the logits that are read: float32 or float16."""

    @property
    def exact(self) -> bool:
        """Whether logits are read as the inference loop gave them, bit for bit."""

    def to_dict(self) -> dict[str, Any]:
        """As a cache's identity has it."""

    def stored(self, logits: np.ndarray, hidden: np.ndarray | None, head: Head | None) -> dict[str, np.ndarray]:
        """What is stored of a span, by array. logits: (rows, classes). hidden: (rows, width). Raises layout.Unholdable."""

    def logits(self, held: Mapping[str, np.ndarray], head: Head | None) -> np.ndarray:
        """(rows, classes) from what is stored: float32, or float16 where logits are stored as such."""

    def rounding(self, held: Mapping[str, np.ndarray], head: Head | None) -> np.ndarray:
        """By how much the logits of each row can be off because numbers were rounded: (rows,) float32."""


@dataclass(frozen=True)
class Stored:
    """An array of a span, to be written. low, high: its smallest and largest number; of the main one, those of the logits.

    kl: of the main array, mean KL of the teacher's distribution to the one that is read, at TEMPERATURES, in nats.
    """

    block: np.ndarray
    low: float
    high: float
    kl: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Knowledge:
    """What is kept: logits, or hidden states that give them, and features by their text."""

    main: Kind
    features: Mapping[str, FeatureArray] = field(default_factory=dict)

    @classmethod
    def of_logits(cls, classes: int, dtype: str, span: int) -> "Knowledge":
        """Logits alone."""
        return cls(Logits.plan(classes, dtype, span))

    @classmethod
    def of(cls, identity: Mapping[str, Any]) -> "Knowledge":
        """That of a cache with this identity, of any format."""
        said, stored = identity.get("knowledge") or {"kind": LOGITS, "features": {}}, identity["layout"]
        span, dtype, chunk = stored["span"], stored["dtype"], stored["chunk"]
        features = {
            text: FeatureArray(text, Layout(tuple(each["shape"]), each["dtype"], span, each["chunk"]))
            for text, each in said["features"].items()
        }
        if said["kind"] == LOGITS:
            return cls(Logits(Layout((len(identity["classes"]),), dtype, span, chunk)), features)
        main = Layout((said["width"],), dtype, span, chunk, ("unit",))
        scale = Layout.plan((1,), "float32", span, ("scale",)) if dtype == "int8" else None
        return cls(Hidden(main, said["layer"], scale, said.get("calibrated")), features)

    @cached_property
    def arrays(self) -> Mapping[str, Layout]:
        """Everything that is stored, by name, the main array first."""
        return dict(self.main.arrays) | {each.name: each.layout for each in self.features.values()}

    @property
    def layout(self) -> Layout:
        """That of the main array."""
        return self.arrays[self.main.name]

    def to_dict(self) -> dict[str, Any]:
        """The part of it that belongs to a cache's identity, beside the layout of the main array."""
        return self.main.to_dict() | {"features": {text: each.to_dict() for text, each in self.features.items()}}

    def shard_bytes(self, rows: int) -> int:
        """Bytes of the files of a span with so many rows."""
        return sum(each.shard_bytes(rows) for each in self.arrays.values())

    def stored(
        self, head: Head | None, logits: np.ndarray, hidden: np.ndarray | None = None, features: Sequence[np.ndarray] = ()
    ) -> dict[str, Stored]:
        """What is written of a span, by array.

        logits: (rows, classes) float32, raw; hidden: (rows, width) float32; features: each (rows, *shape) floats.
        Raises Unholdable, with the array's name, where a dtype cannot hold a number.
        """
        with _of(LOGITS):
            require_finite(logits)
        with _of(self.main.name):
            main = self.main.stored(logits, hidden, head)
        others = {}
        for each, block in zip(self.features.values(), features, strict=True):
            with _of(each.name):
                others[each.name] = each.layout.rounded(block)
        found = {name: Stored(block, *ends(block)) for name, block in (main | others).items()}
        kl = None if self.main.exact else self._distance(main, logits, head)
        found[self.main.name] = Stored(main[self.main.name], *ends(logits), kl)
        return found

    def _distance(self, held: Mapping[str, np.ndarray], logits: np.ndarray, head: Head | None) -> tuple[float, ...]:
        """Mean KL of the teacher to what will be read of some rows, at each temperature; rounded: last bits say nothing."""
        rows = sampled(len(logits))
        read = self.main.logits({name: block[rows] for name, block in held.items()}, head)
        return tuple(float(f"{max(kl_at(read, logits[rows], each), 0.0):.3g}") for each in TEMPERATURES)


def sampled(rows: int) -> np.ndarray:
    """The rows of a span that are compared with the teacher's, spread evenly."""
    return np.unique(np.linspace(0, rows - 1, COMPARED).astype(np.int64))


@contextlib.contextmanager
def _of(array: str) -> Iterator[None]:
    """Let Unholdable say which array its number is of."""
    try:
        yield
    except Unholdable as error:
        error.array = array
        raise
