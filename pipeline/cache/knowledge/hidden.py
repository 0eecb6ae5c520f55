"""Hidden states: the inputs of the teacher's head, which gives every logit from them, at any temperature, while they are read.

With more classes than the head has inputs they take less room than logits, and are as exact: in float32 but for the order of a
sum. float16 rounds each number by up to 2⁻¹¹ of itself. int8 divides a number by the scale of its channel (see head.py), and by
that of its row, so that the largest of a row is 127.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.cache.knowledge.head import Head
from pipeline.cache.layout import Layout, require_finite

NAME, SCALE = "hidden", "hidden_scale"
_MOST = 127


@dataclass(frozen=True)
class Hidden:
    """Hidden states and the head: a knowledge.Kind. layer: the name of the head in the net.

    scale: of the rows; None but for int8. calibrated: which rows the scales of the channels were found on, by their digest;
    likewise.
    """

    layout: Layout
    layer: str
    scale: Layout | None = None
    calibrated: str | None = None
    name: str = NAME

    @classmethod
    def plan(cls, width: int, dtype: str, span: int, layer: str, calibrated: str) -> "Hidden":
        """Choose the layouts. calibrated: matters for int8."""
        layout = Layout.plan((width,), dtype, span, ("unit",))
        if dtype != "int8":
            return cls(layout, layer)
        return cls(layout, layer, Layout.plan((1,), "float32", span, ("scale",)), calibrated)

    @property
    def arrays(self) -> Mapping[str, Layout]:
        return {NAME: self.layout} if self.scale is None else {NAME: self.layout, SCALE: self.scale}

    @property
    def headed(self) -> bool:
        return True

    @property
    def gives(self) -> str:
        return "float32"

    @property
    def exact(self) -> bool:
        return False

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {"kind": NAME, "layer": self.layer, "width": self.layout.shape[0]}
        return found if self.calibrated is None else found | {"calibrated": self.calibrated}

    def stored(self, logits: np.ndarray, hidden: np.ndarray | None, head: Head | None) -> dict[str, np.ndarray]:
        if hidden is None:
            raise ValueError("expected hidden states, found none")
        if self.scale is None:
            return {NAME: self.layout.rounded(hidden)}
        require_finite(hidden)  # int8 has no number for others
        scaled = hidden / _channels(head)
        rows = np.abs(scaled).max(axis=1, keepdims=True) / np.float32(_MOST)
        rows = np.where(rows > 0, rows, np.float32(1)).astype(np.float32)
        return {NAME: np.rint(scaled / rows).clip(-_MOST, _MOST).astype(np.int8), SCALE: rows}

    def logits(self, held: Mapping[str, np.ndarray], head: Head | None) -> np.ndarray:
        return _required(head).logits(self.restored(held, head))

    def rounding(self, held: Mapping[str, np.ndarray], head: Head | None) -> np.ndarray:
        bound: np.ndarray = (self.off(held, head) @ np.abs(_required(head).weight).T).max(axis=1)
        return bound

    def off(self, held: Mapping[str, np.ndarray], head: Head | None) -> np.ndarray:
        """By how much each number of the hidden states can be off because it was rounded: (n, width) float32."""
        if self.scale is None:
            return self.layout.rounding(held[NAME])
        return np.broadcast_to(held[SCALE] / 2 * _channels(head), held[NAME].shape)

    def restored(self, held: Mapping[str, np.ndarray], head: Head | None) -> np.ndarray:
        """Hidden states as float32, (n, width)."""
        hidden = held[NAME].astype(np.float32, copy=False)
        if self.scale is not None:
            hidden = hidden * _channels(head)
            hidden *= held[SCALE]
        return hidden


def _required(head: Head | None) -> Head:
    if head is None:
        raise ValueError("expected the head of the teacher, found none")
    return head


def _channels(head: Head | None) -> np.ndarray:
    if (found := _required(head).channels) is None:
        raise ValueError("expected a scale for each channel, found none")
    return found
