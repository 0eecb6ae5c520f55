"""Steps that move, mirror, crop and erase images, against slicing and numpy's own padding and interpolation."""

import numpy as np
import pytest
import torch

from pipeline.base import randomness
from pipeline.base.errors import InputError
from pipeline.base.randomness import Use
from pipeline.data.policies import image as steps
from pipeline.data.views import Policy

PICTURE = torch.arange(1, 10, dtype=torch.uint8).reshape(1, 1, 3, 3)


def batch(count: int, *, channels: int = 2, size: int = 5) -> torch.Tensor:
    generator = np.random.default_rng(0)
    return torch.from_numpy(generator.integers(1, 255, (count, channels, size, size), dtype=np.uint8))


def moved(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """Shift by slicing into a padded copy: what moves in is 0."""
    pixels = max(abs(down), abs(right))
    padded = np.pad(image, ((0, 0), (pixels, pixels), (pixels, pixels)))
    height, width = image.shape[1:]
    return padded[:, pixels + down : pixels + down + height, pixels + right : pixels + right + width]


def test_shift_moves_by_what_the_hash_says():
    images, rows, views = batch(30), np.arange(30), np.full(30, 2)
    shown = Policy.parse("shift(2)", 5).apply(images, rows, views).numpy()
    for row in range(30):
        down, right = (int(randomness.integers(5, 5, Use.POLICY, row, 2, 0, slot)) - 2 for slot in (0, 1))
        assert (shown[row] == moved(images[row].numpy(), down, right)).all()


def test_shift_reaches_every_offset():
    shown = Policy.parse("shift(1)", 0).apply(PICTURE.expand(500, 1, 3, 3), np.arange(500), np.ones(500, int))
    assert len({tuple(image.flatten().tolist()) for image in shown}) == 9


def test_flip_mirrors_about_half():
    images = batch(1000, size=3)
    shown = Policy.parse("flip()", 0).apply(images, np.arange(1000), np.ones(1000, int))
    mirrored = sum(torch.equal(now, before.flip(-1)) for now, before in zip(shown, images, strict=True))
    untouched = sum(torch.equal(now, before) for now, before in zip(shown, images, strict=True))
    assert mirrored + untouched == 1000
    assert 430 < mirrored < 570  # more than four standard deviations wide


def test_shift_reflected_is_a_crop_of_numpys_reflection():
    """Also of images that are no squares, channels-last, and seen through a view of others."""
    images = batch(30, channels=3, size=7)[..., 1:6]
    for given in (images, images.contiguous(), images.contiguous(memory_format=torch.channels_last)):
        shown = Policy.parse("shift(4, edge='reflect')", 5).apply(given, np.arange(30), np.full(30, 2)).numpy()
        for row in range(30):
            down, right = (int(randomness.integers(9, 5, Use.POLICY, row, 2, 0, slot)) for slot in (0, 1))
            padded = np.pad(images[row].numpy(), ((0, 0), (4, 4), (4, 4)), mode="reflect")
            assert (shown[row] == padded[:, down : down + 7, right : right + 5]).all()


def test_a_reflection_needs_pixels_to_reflect():
    with pytest.raises(InputError, match="at most 4 pixels, which the images have beyond their edge, found 5"):
        Policy.parse("shift(5, edge='reflect')", 0).apply(batch(2), np.arange(2), np.ones(2, int))


@pytest.mark.parametrize("text", ["shift(2)", "shift(2, edge='reflect')", "flip()", "shift(1) | flip()", "grey(0.5)"])
def test_channels_last_images_give_the_same_pixels_and_stay_so(text):
    images = batch(20, channels=3)
    rows, views = np.arange(20), np.arange(20) % 3
    last = Policy.parse(text, 4).apply(images.contiguous(memory_format=torch.channels_last), rows, views)
    assert torch.equal(last, Policy.parse(text, 4).apply(images, rows, views))
    assert last.is_contiguous(memory_format=torch.channels_last)


class Fixed:
    """Draws that are given: for each slot a share of what could be drawn; the middle where none is."""

    def __init__(self, **shares: float):
        self.shares = {int(slot[1:]): share for slot, share in shares.items()}

    def __call__(self, high: int, slot: int) -> np.ndarray:
        return np.array([min(int(self.shares.get(slot, 0.5) * high), high - 1)])


def enlarged(image: np.ndarray, top: int, left: int, tall: int, wide: int) -> np.ndarray:
    """A part of (C, H, W), bilinear: numpy's interpolation between the centers of pixels, along one axis and the other."""
    height, width = image.shape[1:]
    part = image[:, top : top + tall, left : left + wide].astype(float)
    down, right = ((np.arange(size) + 0.5) * few / size - 0.5 for size, few in ((height, tall), (width, wide)))
    lines = np.array([[np.interp(right, np.arange(wide), line) for line in channel] for channel in part])
    return np.array([[np.interp(down, np.arange(tall), column) for column in channel.T] for channel in lines]).swapaxes(1, 2)


def test_resized_crop_by_hand():
    """A quarter of the area of 12×8, twice as wide as high in pixels of its own, is no square: sqrt(24 / 2) by sqrt(24 · 2)."""
    image = batch(1, channels=3, size=12)[..., :8]
    shown = steps.resized_crop(image, Fixed(_0=0.25, _1=0.99), scale=[0.25, 0.25], ratio=[2, 2])
    tall, wide = 3, 7  # of 3.46 and 6.93
    top, left = int(0.25 * (12 - 3 + 1)), 1
    assert np.abs(shown[0].numpy() - enlarged(image[0].numpy(), top, left, tall, wide)).max() < 2.5


@pytest.mark.parametrize(
    ("ratio", "tall", "wide"), [([4, 4], 2, 8), ([0.01, 0.05], 12, 1), ([0.1, 2], 12, 8)], ids=["too wide", "too high", "whole"]
)
def test_where_no_crop_fits_the_middle_is_shown(ratio, tall, wide):
    """As torchvision falls back: the largest part of a ratio in the range, here of images of 12×8 that are shown whole."""
    image = batch(1, channels=1, size=12)[..., :8]
    never = steps.resized_crop(image, Fixed(_3=0.999 if ratio[1] == 2 else 0.5), scale=[1, 1], ratio=ratio)
    expected = enlarged(image[0].numpy(), (12 - tall) // 2, (8 - wide) // 2, tall, wide)
    if ratio[1] == 2:  # twenty draws at the ends of both ranges: none fits, as 12×8 has a ratio of 2/3

        class Ends(Fixed):
            def __call__(self, high: int, slot: int) -> np.ndarray:
                return np.array([high - 1])

        never = steps.resized_crop(image, Ends(), scale=[1, 1], ratio=ratio)
    assert np.abs(never[0].numpy() - expected).max() < 2.5


def test_crops_have_the_areas_and_ratios_that_are_asked_for():
    """Seen from outside, by the smallest and largest of two ramps: they tell which pixels a crop shows."""
    ramp = torch.arange(64, dtype=torch.uint8) * 4
    images = torch.stack([ramp[:, None].expand(64, 64), ramp.expand(64, 64)])[None].expand(400, 2, 64, 64)
    shown = Policy.parse("resized_crop(scale=[0.2, 0.8])", 1).apply(images, np.arange(400), np.ones(400, int)).double() / 4
    down, right = (shown[:, axis].flatten(1) for axis in (0, 1))
    tall, wide = (axis.max(1).values - axis.min(1).values + 1 for axis in (down, right))
    share, shape = tall * wide / 64**2, wide / tall
    assert 0.18 < share.min() < 0.25 < 0.75 < share.max() < 0.83
    assert 0.72 < shape.min() < 0.8 < 1.25 < shape.max() < 1.39
    assert abs(float(share.mean()) - 0.5) < 0.04  # uniform: its deviation over 400 is 0.009; crops that do not fit are large
    assert abs(float(shape.log().mean())) < 0.05


def test_erase_makes_one_rectangle_black_in_its_share_of_views():
    images = torch.full((2000, 2, 20, 16), 9, dtype=torch.uint8)
    shown = Policy.parse("erase(share=0.25, area=[0.1, 0.3], ratio=[0.5, 2])", 3).apply(
        images, np.arange(2000), np.ones(2000, int)
    )
    erased = (shown == 0).numpy()
    assert ((shown == 9).numpy() | erased).all()
    assert (erased[:, 0] == erased[:, 1]).all()
    changed = erased[:, 0][erased[:, 0].any(axis=(1, 2))]
    assert 420 < len(changed) < 580  # 500, more than four standard deviations wide
    tall, wide = changed.any(axis=2).sum(axis=1), changed.any(axis=1).sum(axis=1)
    assert (changed.sum(axis=(1, 2)) == tall * wide).all()  # a rectangle
    assert 0.08 < (tall * wide / 320).min() < 0.12 < 0.28 < (tall * wide / 320).max() < 0.33
    assert changed.any(axis=0).all()  # everywhere, up to the corners


def test_erase_by_hand():
    image = torch.full((1, 1, 10, 10), 7, dtype=torch.uint8)
    erased = steps.erase(image, Fixed(_0=0, _1=0, _2=0.999), share=0.5, area=[0.2, 0.2], ratio=[0.8, 0.8])
    expected = torch.full((10, 10), 7, dtype=torch.uint8)
    expected[:5, 6:] = 0  # sqrt(20 / 0.8) = 5 high, sqrt(20 · 0.8) = 4 wide
    assert torch.equal(erased[0, 0], expected)
    assert torch.equal(steps.erase(image, Fixed(_0=0.5), share=0.5), image)
    assert torch.equal(steps.erase(image, Fixed(_0=0), share=0.5, area=[0.9, 0.9], ratio=[3, 3]), image)  # it does not fit


@pytest.mark.parametrize(("share", "parts"), [(0.5, (1, 2)), (0.2, (1, 5)), (1, (1, 1)), (0, (0, 1)), (0.333, (333, 1000))])
def test_shares_as_parts_of_a_whole(share, parts):
    assert steps.share_of(share) == parts


@pytest.mark.parametrize("text", ["shift(6)", "elastic(6)"])
def test_moves_beyond_the_image_are_refused(text):
    with pytest.raises(InputError, match="at most 5 pixels, the size of the images, found 6"):
        Policy.parse(text, 0).apply(batch(2), np.arange(2), np.ones(2, int))


@pytest.mark.parametrize(
    "text",
    ["shift(2)", "flip()", "affine(rotate=30, zoom=0.2, shear=0.3)", "elastic(2)", "resized_crop()", "jitter(1, 1, 1)",
     "grey(1)", "erase(1)", "noise(3)", "roll(2)", "mask(2, axis=1)"],
)  # fmt: skip
def test_steps_leave_what_they_were_given(text):
    """Pixels are shared: those of a split are shown again in another view."""
    images = batch(9, channels=3)
    before = images.clone()
    shown = Policy.parse(text, 3).apply(images, np.arange(9), np.ones(9, int))
    assert torch.equal(images, before)
    assert shown.dtype == torch.uint8
    assert shown.shape == images.shape
