"""The head: the teacher's last linear layer, which makes logits of hidden states. A cache of hidden states keeps it."""

from dataclasses import dataclass

import numpy as np
import safetensors
import safetensors.numpy

FILE_NAME = "head.safetensors"


@dataclass(frozen=True)
class Head:
    """logits = hidden · weightᵀ + bias. weight: (classes, width); bias: (classes,); both float32.

    channels: (width,) float32, what each number of a hidden state is divided by before it becomes int8; None where it does not.
    """

    weight: np.ndarray
    bias: np.ndarray
    channels: np.ndarray | None = None

    def to_bytes(self) -> bytes:
        """As a safetensors file."""
        held = {"weight": self.weight, "bias": self.bias}
        return safetensors.numpy.save(held if self.channels is None else held | {"channels": self.channels})

    @classmethod
    def of_bytes(cls, data: bytes) -> "Head":
        """From a safetensors file; raises ValueError for bytes that hold no head."""
        try:
            held = safetensors.numpy.load(data)
            head = cls(held["weight"], held["bias"], held.get("channels"))
        except (safetensors.SafetensorError, KeyError, TypeError) as error:
            raise ValueError(f"no head: {error}") from error
        if odd := {each.dtype.name for each in held.values()} - {"float32"}:
            raise ValueError(f"no head: of {', '.join(sorted(odd))}")
        return head

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Those of all that it has, by name."""
        held = {"weight": self.weight, "bias": self.bias, "channels": self.channels}
        return {name: each.shape for name, each in held.items() if each is not None}

    def logits(self, hidden: np.ndarray) -> np.ndarray:
        """(n, width) float32 to (n, classes) float32."""
        found: np.ndarray = hidden @ self.weight.T
        found += self.bias
        return found

    def apart(self, hidden: np.ndarray, logits: np.ndarray) -> float:
        """How far these logits (n, classes) are from its own, at most, as a share of the sums of what its own are made of."""
        size = np.abs(hidden) @ np.abs(self.weight).T + np.abs(self.bias)
        return float(np.max(np.abs(self.logits(hidden) - logits) / np.where(size > 0, size, np.float32(1))))


def channels_of(hidden: np.ndarray) -> np.ndarray:
    """The scale of every channel: its largest absolute value in these hidden states, (n, width); 1 where all are 0."""
    largest = np.abs(hidden).max(axis=0).astype(np.float32)
    return np.where(largest > 0, largest, np.float32(1))
