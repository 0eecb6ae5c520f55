"""Views: augmented versions of rows that replay. (image, seed, row, view) always gives the same pixels.

A policy is one spec or several in a row, `shift(2) | flip()`. View 0 is the untouched row under every policy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline import randomness, spec
from pipeline.errors import InputError
from pipeline.randomness import Use

# Gives random integers in [0, high) for the rows of a batch; the slot tells apart several draws of one step.
Draw = Callable[[int, int], np.ndarray]


def none(images: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Leave the pixels as they are."""
    return images


def shift(images: torch.Tensor, draw: Draw, pixels: int) -> torch.Tensor:
    """Move the image by up to `pixels` in both directions, uniformly; what moves in is 0."""
    count, _, height, width = images.shape
    if pixels > max(height, width):
        expected = f"at most {max(height, width)} pixels, the size of the images"
        raise InputError("view policy shift", expected=expected, found=str(pixels), fix="Shift by less.")
    device = images.device
    down, right = (torch.from_numpy(draw(2 * pixels + 1, slot)).to(device) for slot in (0, 1))
    padded = torch.nn.functional.pad(images, (pixels,) * 4)
    rows = down[:, None] + torch.arange(height, device=device)  # (B, H)
    columns = right[:, None] + torch.arange(width, device=device)  # (B, W)
    example = torch.arange(count, device=device)[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[example, rows[:, :, None], columns[:, None, :]]  # (B, H, W, C)
    return moved.permute(0, 3, 1, 2)


def flip(images: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Mirror left and right, half of the time."""
    mirrored = torch.from_numpy(draw(2, 0) == 1).to(images.device)
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


POLICIES = {"none": none, "shift": shift, "flip": flip}


@dataclass(frozen=True)
class Policy:
    """A parsed view policy with its seed: the pure function from rows and views to pixels."""

    text: str
    seed: int
    steps: tuple[spec.Spec, ...]

    @classmethod
    def parse(cls, text: str, seed: int) -> "Policy":
        """Raises InputError for an unknown step or bad settings."""
        steps = tuple(spec.parse(step, POLICIES, given=2) for step in text.split("|"))
        for step in steps:
            pixels = step.arguments.get("pixels", 0)
            if not isinstance(pixels, int) or pixels < 0:
                raise InputError(
                    f"view policy {text!r}",
                    expected="a whole number of pixels",
                    found=repr(pixels),
                    fix="Use shift(2).",
                )
        return cls(" | ".join(step.text for step in steps), seed, steps)

    def facts(self) -> dict[str, Any]:
        """What the pixels of a view are a function of, besides image, row and view; of plug-ins the hashes of their files."""
        sources = [step.source_sha256 for step in self.steps if step.source_sha256]
        return {"policy": self.text, "seed": self.seed} | ({"sources": sources} if sources else {})

    @property
    def augments(self) -> bool:
        """Whether views other than 0 differ from the row itself."""
        return any(step.target is not none for step in self.steps)

    def apply(self, images: torch.Tensor, rows: np.ndarray, views: np.ndarray) -> torch.Tensor:
        """images: (B, C, H, W) uint8, the untouched rows; rows, views: (B,) int64. Returns (B, C, H, W) uint8."""
        untouched = torch.from_numpy(np.asarray(views) == 0).to(images.device)[:, None, None, None]
        seen = images
        for number, step in enumerate(self.steps):

            def draw(high: int, slot: int, number: int = number) -> np.ndarray:
                return randomness.integers(high, self.seed, Use.POLICY, rows, views, number, slot)

            seen = step(seen, draw)
        return torch.where(untouched, images, seen) if self.augments else images
