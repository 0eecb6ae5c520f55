"""Steps that warp images, against matrices in floating point and numpy's own interpolation."""

import numpy as np
import pytest
import torch

from pipeline.base import randomness
from pipeline.base.randomness import Use
from pipeline.data.policies import warp
from pipeline.data.views import Policy


def batch(count: int, *, channels: int = 2, size: int = 5) -> torch.Tensor:
    generator = np.random.default_rng(0)
    return torch.from_numpy(generator.integers(1, 255, (count, channels, size, size), dtype=np.uint8))


def seen_at(image: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(C, H, W) float64 at places (H, W), bilinear by the formula, pixel by pixel; 0 outside."""
    framed = np.pad(image.astype(float), ((0, 0), (200, 200), (200, 200)))
    top, left = np.floor(down).astype(int), np.floor(right).astype(int)
    low, far = down - top, right - left
    corner = lambda y, x: framed[:, top + y + 200, left + x + 200]  # noqa: E731
    above = corner(0, 0) * (1 - far) + corner(0, 1) * far
    return above * (1 - low) + (corner(1, 0) * (1 - far) + corner(1, 1) * far) * low


def drawn(seed: int, row: int, view: int, slot: int) -> float:
    """A draw of the first step, from -1 to 1."""
    return int(randomness.integers(2001, seed, Use.POLICY, row, view, 0, slot)) / 1000 - 1


@pytest.mark.parametrize(
    ("text", "rotate", "zoom", "shear"),
    [
        ("affine(rotate=40)", 40, 0, 0),
        ("affine(zoom=0.5)", 0, 0.5, 0),
        ("affine(shear=0.5)", 0, 0, 0.5),
        ("affine(rotate=20, zoom=0.3, shear=0.2)", 20, 0.3, 0.2),
    ],
)
def test_affine_by_matrices(text, rotate, zoom, shear):
    """Against matrices multiplied in floating point: where a pixel was: zoomed back, turned, sheared."""
    images = batch(12, size=11)[..., :9]  # 11 high, 9 wide
    shown = Policy.parse(text, 5).apply(images, np.arange(12), np.ones(12, int)).numpy()
    down, right = np.mgrid[:11, :9].astype(float) - np.array([5, 4])[:, None, None]
    for row in range(12):
        turn, grow, lean = (
            drawn(5, row, 1, 0) * np.radians(rotate),
            (1 + zoom) ** drawn(5, row, 1, 1),
            drawn(5, row, 1, 2) * shear,
        )
        turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        back = np.array([[1, lean], [0, 1]]) @ turned @ np.linalg.inv(grow * np.eye(2))
        was = np.einsum("ij,jhw->ihw", back, np.stack([right, down]))  # (right, down)
        expected = seen_at(images[row].numpy(), was[1] + 5, was[0] + 4)
        assert np.abs(shown[row] - expected).max() < 2.5, row
        assert np.abs(shown[row] - images[row].numpy().astype(float)).max() > 10


def test_elastic_by_interpolation():
    """numpy's own interpolation of the moves, along one axis and then the other."""
    images = batch(8, size=10)
    shown = Policy.parse("elastic(2, points=3)", 5).apply(images, np.arange(8), np.full(8, 4)).numpy()
    down, right = np.mgrid[:10, :10].astype(float)
    places, ends = np.arange(10), np.linspace(0, 9, 3)
    for row in range(8):
        moves = 2 * np.array([drawn(5, row, 4, slot) for slot in range(18)]).reshape(2, 3, 3)
        wide = np.array([[np.interp(places, ends, line) for line in each] for each in moves])
        bent = np.array([[np.interp(places, ends, column) for column in each.T] for each in wide]).swapaxes(1, 2)
        expected = seen_at(images[row].numpy(), down + bent[0], right + bent[1])
        assert np.abs(shown[row] - expected).max() < 4, row
        assert np.abs(shown[row] - images[row].numpy().astype(float)).max() > 10


@pytest.mark.parametrize("text", ["affine()", "elastic(0)", "elastic(0, points=2)"])
def test_no_distortion_is_none(text):
    images = batch(5, size=7)
    assert torch.equal(Policy.parse(text, 1).apply(images, np.arange(5), np.ones(5, int)), images)


def test_a_half_turn_mirrors_twice():
    """rotate=180 at the ends of the draw; what is far outside is 0, also where coordinates are clamped."""

    class Ends:
        def __call__(self, high: int, slot: int) -> np.ndarray:
            return np.array([high - 1 if slot == 0 else (high - 1) // 2])

    image = batch(1, size=6)
    assert torch.equal(warp.affine(image, Ends(), rotate=180), image.flip(-1).flip(-2))
    far = torch.full((1, 6, 6), 100 << 16, dtype=torch.int32)
    assert not warp.sampled(image, far, -far).any()
