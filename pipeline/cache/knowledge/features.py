"""Features: outputs of named layers of the teacher, in arrays of their own beside what gives logits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.cache.layout import Layout

_PREFIX = "feature."


@dataclass(frozen=True)
class FeatureArray:
    """How a feature is stored. text: the feature, such as `layer3 | pool`."""

    text: str
    layout: Layout

    @classmethod
    def plan(cls, text: str, shape: Sequence[int], dtype: str, span: int) -> "FeatureArray":
        """Choose the layout. shape: of a row."""
        names = {1: ("unit",), 2: ("height", "width"), 3: ("channel", "height", "width")}
        axes: tuple[str | None, ...] = names.get(len(shape), (None,) * len(shape))
        return cls(text, Layout.plan(tuple(shape), dtype, span, axes))

    @property
    def name(self) -> str:
        """The name of the array: `feature.layer3-pool`."""
        return _PREFIX + self.text.replace(" | ", "-")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a row."""
        return self.layout.shape

    @property
    def dtype(self) -> str:
        """float32 or float16."""
        return self.layout.dtype

    def to_dict(self) -> dict[str, Any]:
        """As a cache's identity has it."""
        return {"shape": list(self.shape), "dtype": self.dtype, "chunk": self.layout.chunk}
