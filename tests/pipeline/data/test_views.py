"""Views replay: a pure function of (image, seed, row, view), with golden pixels."""

import numpy as np
import pytest
import torch

from pipeline.base.errors import InputError
from pipeline.data.views import Policy

PICTURE = torch.arange(1, 10, dtype=torch.uint8).reshape(1, 1, 3, 3)


def batch(count: int, *, channels: int = 2, size: int = 5) -> torch.Tensor:
    generator = np.random.default_rng(0)
    return torch.from_numpy(generator.integers(1, 255, (count, channels, size, size), dtype=np.uint8))


def test_golden_views():
    """Pixels of row 7 under seed 11, worked out from the offsets that the reference hash gives."""
    policy = Policy.parse("shift(1)", 11)
    shown = [policy.apply(PICTURE, np.array([7]), np.array([view]))[0, 0].tolist() for view in range(4)]
    assert shown == [
        [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
        [[5, 6, 0], [8, 9, 0], [0, 0, 0]],
        [[2, 3, 0], [5, 6, 0], [8, 9, 0]],
        [[5, 6, 0], [8, 9, 0], [0, 0, 0]],
    ]


@pytest.mark.parametrize(
    "text",
    [
        "shift(2)",
        "flip()",
        "shift(1) | flip()",
        "flip() | shift(3)",
        "affine(rotate=30, zoom=0.2, shear=0.3)",
        "elastic(2, points=3)",
    ],
)
def test_pixels_do_not_depend_on_the_batch(text):
    """All rows at once, one by one, and in reverse."""
    policy = Policy.parse(text, 3)
    images, rows, views = batch(40), np.arange(100, 140), np.arange(40) % 4
    together = policy.apply(images, rows, views)
    alone = torch.cat([policy.apply(images[i : i + 1], rows[i : i + 1], views[i : i + 1]) for i in range(40)])
    backwards = policy.apply(images.flip(0), rows[::-1].copy(), views[::-1].copy()).flip(0)
    assert torch.equal(together, alone)
    assert torch.equal(together, backwards)
    assert (together != images).any()


@pytest.mark.parametrize("text", ["none", "shift(2)", "shift(1) | flip()", "affine(rotate=9) | elastic(1)"])
def test_view_0_is_the_row_itself(text):
    images = batch(20)
    assert torch.equal(Policy.parse(text, 9).apply(images, np.arange(20), np.zeros(20, int)), images)


def test_seed_row_and_view_all_matter():
    """Twenty copies of one image: at least one moves elsewhere when any part of the address changes."""
    images, rows, views = batch(1, size=9).expand(20, -1, -1, -1), np.arange(20), np.ones(20, int)
    base = Policy.parse("shift(4)", 1).apply(images, rows, views)
    assert not torch.equal(base, Policy.parse("shift(4)", 2).apply(images, rows, views))
    assert not torch.equal(base, Policy.parse("shift(4)", 1).apply(images, rows + 1, views))
    assert not torch.equal(base, Policy.parse("shift(4)", 1).apply(images, rows, views + 1))


def test_canonical_text():
    assert Policy.parse(" shift( 2 )|flip() ", 0).text == "shift(pixels=2) | flip()"


@pytest.mark.parametrize(
    "text",
    [
        "shift",
        "shift(-1)",
        "shift(1.5)",
        "spin(3)",
        "affine(rotate=-1)",
        "affine(zoom='a')",
        "elastic(1.5)",
        "elastic(1, points=1)",
        "shift(1) |",
        "shift(1) || flip()",
    ],
)
def test_bad_policies_are_refused(text):
    with pytest.raises(InputError):
        Policy.parse(text, 0)


def test_settings_of_plug_ins_may_be_anything(tmp_path, monkeypatch):
    (tmp_path / "odd_views.py").write_text("def tint(images, draw, name, shades=()):\n    return images + len(name)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SOFTCACHE_PLUGINS", "odd_views")
    images = batch(3)
    shown = Policy.parse("odd_views:tint(name='red', shades=[1, 2])", 0).apply(images, np.arange(3), np.ones(3, int))
    assert torch.equal(shown, images + 3)
