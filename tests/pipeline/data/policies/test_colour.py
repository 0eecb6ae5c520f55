"""Steps for colours, against Pillow, which blends in floating point."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from pipeline.base import randomness
from pipeline.base.randomness import Use
from pipeline.data.policies import colour
from pipeline.data.views import Policy


def batch(count: int, *, channels: int = 3, size: int = 9) -> torch.Tensor:
    generator = np.random.default_rng(0)
    return torch.from_numpy(generator.integers(0, 256, (count, channels, size, size), dtype=np.uint8))


def picture(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def factor(row: int, slot: int, reach: float) -> float:
    """The factor of a view 1 under seed 5, as the draw says."""
    return 1 + reach * (int(randomness.integers(2001, 5, Use.POLICY, row, 1, 0, slot)) / 1000 - 1)


@pytest.mark.parametrize(
    ("text", "enhance", "slot"),
    [
        ("jitter(brightness=0.8)", ImageEnhance.Brightness, 0),
        ("jitter(contrast=0.8)", ImageEnhance.Contrast, 1),
        ("jitter(saturation=0.8)", ImageEnhance.Color, 2),
    ],
)
def test_each_part_of_jitter_is_what_pillow_does(text, enhance, slot):
    """Pillow cuts what is behind the point where this rounds."""
    images = batch(20)
    shown = Policy.parse(text, 5).apply(images, np.arange(20), np.ones(20, int))
    factors = [factor(row, slot, 0.8) for row in range(20)]
    assert min(factors) < 0.5 < 1.5 < max(factors)
    for row in range(20):
        expected = np.asarray(enhance(picture(images[row])).enhance(factors[row])).transpose(2, 0, 1)
        assert np.abs(shown[row].numpy().astype(int) - expected).max() <= 1
        assert not torch.equal(shown[row], images[row])


def blended(middle: np.ndarray, image: np.ndarray, share: float) -> np.ndarray:
    return np.clip(np.floor(middle + share * (image - middle) + 0.5), 0, 255)


def test_parts_of_jitter_follow_each_other():
    """Brightness, contrast, saturation in floating point, (H, W, 3), rounded after each as pixels are."""
    images = batch(12)
    shown = Policy.parse("jitter(0.5, 0.6, 0.7)", 5).apply(images, np.arange(12), np.ones(12, int))
    luma = np.array([0.299, 0.587, 0.114])
    for row in range(12):
        expected = blended(np.zeros(1), images[row].permute(1, 2, 0).double().numpy(), factor(row, 0, 0.5))
        expected = blended(np.round((expected @ luma).round().mean()), expected, factor(row, 1, 0.6))
        expected = blended((expected @ luma).round()[..., None], expected, factor(row, 2, 0.7))
        away = np.abs(shown[row].numpy() - expected.transpose(2, 0, 1))
        assert away.max() <= 3  # where a number is rounded another way, and stretched
        assert away.mean() < 0.2


def test_contrast_of_one_channel_by_hand():
    """Pixels 10, 20, 60: mean 30; three halves of the distances: 0, 15, 75. Saturation is nothing."""

    class Draw:
        def __call__(self, high: int, slot: int) -> np.ndarray:
            return np.array([1500])

    image = torch.tensor([10, 20, 60], dtype=torch.uint8).view(1, 1, 1, 3)
    assert colour.jitter(image, Draw(), contrast=1, saturation=1).flatten().tolist() == [0, 15, 75]


def test_no_jitter_is_none():
    images = batch(3)
    assert torch.equal(Policy.parse("jitter()", 0).apply(images, np.arange(3), np.ones(3, int)), images)


@pytest.mark.parametrize("share", [0.2, 0.5, 1])
def test_grey_is_pillows_in_its_share_of_views(share):
    images = batch(600, size=3)
    shown = Policy.parse(f"grey({share})", 0).apply(images, np.arange(600), np.ones(600, int))
    changed = 0
    for before, after in zip(images, shown, strict=True):
        if torch.equal(before, after):
            continue
        changed += 1
        assert (after.numpy() == np.asarray(picture(before).convert("L"))).all()
    assert abs(changed - 600 * share) <= 4.5 * (600 * share * (1 - share)) ** 0.5


def test_one_channel_is_grey_already():
    images = batch(5, channels=1)
    assert torch.equal(Policy.parse("grey(1)", 0).apply(images, np.arange(5), np.ones(5, int)), images)
