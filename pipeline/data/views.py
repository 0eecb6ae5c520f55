"""Views: augmented versions of rows that replay: (image, seed, row, view) always gives the same pixels.

A policy is one spec, or several such as `shift(2) | flip()`. View 0 is the row's own image under every policy.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline.base import randomness, spec
from pipeline.base.errors import InputError
from pipeline.base.randomness import Use
from pipeline.data.policies import POLICIES, RANGES, VERSIONS, none


@dataclass(frozen=True)
class Policy:
    """A parsed view policy with its seed: a pure function from images, rows and views to pixels."""

    text: str
    seed: int
    steps: tuple[spec.Spec, ...]

    @classmethod
    def parse(cls, text: str, seed: int) -> "Policy":
        """Parse a view policy.

        Args:
            text: One spec or several joined by `|`, such as `shift(2) | flip()`; each names a built-in step or a plug-in.
            seed: The seed of all random draws.

        Returns:
            The policy.

        Raises:
            InputError: A step is unknown, or a setting is wrong.
        """
        steps = tuple(spec.parse(step, POLICIES, VERSIONS, given=2) for step in text.split("|"))
        for step in steps:
            for name, value in step.arguments.items():
                if name not in RANGES:  # a plug-in's own setting
                    continue
                whole, least, most = RANGES[name]
                number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
                if not number or not least <= value <= most:
                    expected = f"a {'whole ' if whole else ''}number from {least:g}" + f" to {most:g}" * (most < math.inf)
                    what = f"view policy {text!r}, {name}"
                    raise InputError(what, expected=expected, found=repr(value), fix="Correct the setting.")
        return cls(" | ".join(step.text for step in steps), seed, steps)

    def to_dict(self) -> dict[str, Any]:
        """The facts that the pixels of a view depend on, besides image, row and view."""
        return {"policy": self.text, "seed": self.seed, "behaviours": list(self.behaviours)}

    @property
    def behaviours(self) -> tuple[str, ...]:
        """The behaviour of every step, see spec.Spec."""
        return tuple(step.behaviour for step in self.steps)

    @property
    def augments(self) -> bool:
        """Whether views other than 0 can differ from the row's own image."""
        return any(step.target is not none for step in self.steps)

    def apply(self, images: torch.Tensor, rows: np.ndarray, views: np.ndarray) -> torch.Tensor:
        """The pixels of views of a batch of rows.

        Args:
            images: (B, C, H, W) uint8, the rows' own images, on any device.
            rows: (B,) int64, the row numbers of the images in their split.
            views: (B,) int64, which view of each row.

        Returns:
            (B, C, H, W) uint8, on the device of `images`. It is `images` itself if the policy is `none`.

        Raises:
            InputError: A plug-in fails, or returns something other than uint8 pixels of this shape.
        """
        if not self.augments:
            return images
        untouched = torch.from_numpy(np.asarray(views) == 0).to(images.device)[:, None, None, None]
        seen = images
        for number, step in enumerate(self.steps):

            def draw(high: int, slot: int, number: int = number) -> np.ndarray:
                return randomness.integers(high, self.seed, Use.POLICY, rows, views, number, slot)

            seen = self._whole(step, step(seen, draw), images)
        return torch.where(untouched, images, seen)

    def _whole(self, step: spec.Spec, seen: object, images: torch.Tensor) -> torch.Tensor:
        """Raise InputError unless a step, which may be a plug-in, returned pixels of the shape and dtype that it got."""
        if isinstance(seen, torch.Tensor) and seen.shape == images.shape and seen.dtype == torch.uint8:
            return seen
        found = f"{seen.dtype} of shape {tuple(seen.shape)}" if isinstance(seen, torch.Tensor) else type(seen).__name__
        expected = f"uint8 pixels of shape {tuple(images.shape)}"
        raise InputError(f"view policy {step.text}", expected=expected, found=found, fix="Correct the plug-in.")
