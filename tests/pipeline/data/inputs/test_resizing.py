"""Resizing: each fit by hand on small images, and against Pillow's own ways of doing it."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.base.errors import InputError
from pipeline.data.inputs.resizing import FITS, Resizing
from softcache_export import resized

RAMP = np.arange(16, dtype=np.uint8).reshape(2, 8) * 15  # grey, 2 high and 8 wide


def shown(pixels: np.ndarray, size: tuple[int, int], fit: str) -> np.ndarray:
    return np.asarray(resized(Image.fromarray(pixels), size, fit))


def test_crop_by_hand():
    """The shorter side has its size: three of the eight columns on the left are cut, and three on the right."""
    assert shown(RAMP, (2, 2), "crop").tolist() == RAMP[:, 3:5].tolist()
    assert shown(RAMP.T.copy(), (2, 2), "crop").tolist() == RAMP.T[3:5].tolist()
    assert shown(RAMP, (2, 3), "crop").tolist() == RAMP[:, 2:5].tolist(), "of an odd rest, more is cut on the right"


def test_pad_by_hand():
    """The longer side has its size, and the rest is black, of an odd rest one more line above."""
    assert shown(RAMP, (5, 8), "pad").tolist() == [[0] * 8, [0] * 8, *RAMP.tolist(), [0] * 8]
    assert shown(RAMP, (4, 8), "pad").tolist() == [[0] * 8, *RAMP.tolist(), [0] * 8]
    assert shown(RAMP.T.copy(), (8, 4), "pad")[:, 1:3].tolist() == RAMP.T.tolist()


def test_stretch_by_hand():
    """To a quarter of the width, by a triangle that reaches over two times four columns: the ends weigh less."""
    steps = np.array([[0, 0, 0, 0, 240, 240, 240, 240]], np.uint8)
    weights = np.maximum(0, 1 - np.abs((np.arange(8) + 0.5 - 2) / 4))  # of the left of two columns, centred at 2
    left = (weights * steps[0]).sum() / weights.sum()
    assert shown(steps, (1, 2), "stretch").tolist() == [[round(left), 240 - round(left)]]
    assert shown(RAMP, (2, 8), "stretch").tolist() == RAMP.tolist()


CASES = [
    ((24, 36), (12, 12)), ((36, 24), (12, 12)), ((24, 36), (24, 36)), ((30, 30), (17, 9)), ((7, 100), (32, 32)),
    ((5, 3), (50, 30)), ((640, 480), (224, 224)), ((1, 9), (4, 4)), ((333, 500), (224, 160)),
]  # fmt: skip


@pytest.mark.parametrize(("size", "wanted"), CASES)
def test_each_fit_is_about_what_pillow_does(size, wanted):
    """ImageOps.fit crops first and then resizes, by fractions of pixels; so smooth pixels are the same but for a few."""
    down, right = np.mgrid[0 : size[0], 0 : size[1]]
    smooth = np.stack([down * 200 / size[0], right * 200 / size[1], (down + right) * 100 / sum(size)], 2).astype(np.uint8)
    image = Image.fromarray(smooth)
    turned = wanted[::-1]  # Pillow says width first
    by_pillow = {
        "crop": ImageOps.fit(image, turned, Image.Resampling.BILINEAR),
        "pad": ImageOps.pad(image, turned, Image.Resampling.BILINEAR),
        "stretch": image.resize(turned, Image.Resampling.BILINEAR),
    }
    for fit in FITS:
        found = resized(image, wanted, fit)
        assert found.size == by_pillow[fit].size == turned
        away = np.abs(np.asarray(found).astype(int) - np.asarray(by_pillow[fit]))
        step = 1 if fit == "stretch" else 200 / min(min(size), min(wanted)) + 2
        assert np.median(away) <= (0 if fit == "stretch" else step), fit


@pytest.mark.parametrize(("size", "wanted"), CASES)
def test_sides_are_scaled_alike_and_rounded_half_up(size, wanted):
    """What is cut or padded is what the exact proportions leave, to within a pixel."""
    white = Image.new("L", size[::-1], 255)
    assert (np.asarray(resized(white, wanted, "crop")) == 255).all(), "nothing of it is padded"
    padded = np.asarray(resized(white, wanted, "pad")) == 255
    scale = min(wanted[0] / size[0], wanted[1] / size[1])
    sides = [max(1, int(np.floor(scale * side + 0.5))) for side in size]
    assert [int(padded.any(1).sum()), int(padded.any(0).sum())] == sides
    rows, columns = np.flatnonzero(padded.any(1)), np.flatnonzero(padded.any(0))
    assert abs(rows[0] - (wanted[0] - 1 - rows[-1])) <= 1, "centred"
    assert abs(columns[0] - (wanted[1] - 1 - columns[-1])) <= 1
    assert padded[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()


@pytest.mark.parametrize("size", [(1, 40_000), (40_000, 1)])
@pytest.mark.parametrize("fit", FITS)
def test_no_image_on_the_way_is_much_larger_than_both_ends(monkeypatch, size, fit):
    """With the whole long side resized, a thin image of few bytes took gigabytes: 100 × 4,000,000 pixels here."""
    made, resize = [], Image.Image.resize

    def counted(image: Image.Image, *given) -> Image.Image:
        made.append(resize(image, *given))
        return made[-1]

    monkeypatch.setattr(Image.Image, "resize", counted)
    assert resized(Image.new("L", size, 200), (100, 100), fit).size == (100, 100)
    assert max(image.width * image.height for image in made) <= 100 * 100


def test_of_what_is_cut_only_the_seam_is_seen():
    """A crop is the middle of the whole image resized, to within what rounding the scale makes of it."""
    image = Image.effect_noise((90, 31), 90)
    whole = np.asarray(image.resize((58, 20), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(shown(np.asarray(image), (20, 20), "crop") - whole[:, 19:39]).max() <= 1


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("fit", FITS)
def test_an_image_of_the_size_stays_as_it_is(mode, fit):
    image = Image.effect_noise((9, 5), 90).convert(mode)
    assert (np.asarray(resized(image, (5, 9), fit)) == np.asarray(image)).all()


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("given", "size"), [((), None), ([], None), ((224,), (224, 224)), ([224, 160], (224, 160)), ((1, 1), (1, 1))]
)
def test_a_size_is_one_number_or_two(given, size):
    assert Resizing.of(given, "pad") == Resizing(size, "pad")


@pytest.mark.parametrize("given", [(0,), (-3,), (3, 0), (1, 2, 3)])
def test_other_sizes_are_refused(given):
    with pytest.raises(InputError, match=r"size: expected a number of pixels, or \[height, width\], found \["):
        Resizing.of(given, "crop")


def test_other_fits_are_refused():
    with pytest.raises(InputError, match="fit: expected crop or pad or stretch, found 'cover'"):
        Resizing.of((), "cover")
