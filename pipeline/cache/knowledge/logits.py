"""Logits: kept as the teacher gave them, float32, or rounded to float16."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.cache.knowledge.head import Head
from pipeline.cache.layout import Layout

NAME = "logits"


@dataclass(frozen=True)
class Logits:
    """Raw logits as they are: a knowledge.Kind."""

    layout: Layout
    name: str = NAME

    @classmethod
    def plan(cls, classes: int, dtype: str, span: int) -> "Logits":
        """Choose the layout."""
        return cls(Layout.plan((classes,), dtype, span))

    @property
    def arrays(self) -> Mapping[str, Layout]:
        return {NAME: self.layout}

    @property
    def headed(self) -> bool:
        return False

    @property
    def gives(self) -> str:
        return self.layout.dtype

    @property
    def exact(self) -> bool:
        return self.layout.dtype == "float32"

    def to_dict(self) -> dict[str, Any]:
        return {"kind": NAME}

    def stored(self, logits: np.ndarray, hidden: np.ndarray | None, head: Head | None) -> dict[str, np.ndarray]:
        return {NAME: self.layout.rounded(logits)}

    def logits(self, held: Mapping[str, np.ndarray], head: Head | None) -> np.ndarray:
        return held[NAME]

    def rounding(self, held: Mapping[str, np.ndarray], head: Head | None) -> np.ndarray:
        bound: np.ndarray = self.layout.rounding(held[NAME]).max(axis=1)
        return bound
