"""Steps that mix rows, against formulas in floating point; the draws of λ against scipy's distribution."""

import numpy as np
import pytest
import torch
from scipy import stats

from pipeline.base.errors import InputError
from pipeline.data.policies import mixing
from pipeline.data.views import Policy

SHAPE = (3, 8, 6)


def batch(count: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, *SHAPE), dtype=np.uint8))


def mixed(text: str, images: torch.Tensor, view: int, *, span: int = 100) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    """Partners, weights and pixels of all rows in one view."""
    policy, rows = Policy.parse(text, 4), np.arange(len(images))
    views = np.full(len(rows), view)
    partners, weights = policy.partners(rows, views, span, len(rows), SHAPE)
    return partners, weights, policy.apply(images, rows, views, (partners, images[partners]))


def test_mixup_is_the_weighted_mean():
    images = batch(200)
    partners, weights, shown = mixed("mixup(1)", images, 1)
    share = weights[:, None, None, None]
    expected = share * images.numpy() + (1 - share) * images[partners].numpy()
    assert np.abs(shown.numpy() - expected).max() <= 0.5
    assert ((weights * 256) == (weights * 256).astype(int)).all()


@pytest.mark.parametrize("strength", [0.2, 1, 3])
def test_weights_are_of_a_beta_distribution(strength):
    """Kolmogorov and Smirnov; values are in 256ths, so the distance may be as large as half a step more."""
    policy, count = Policy.parse(f"mixup({strength})", 4), 20_000
    _, weights = policy.partners(np.arange(count), np.ones(count, int), 100, count, SHAPE)
    places = (np.arange(256) + 0.5) / 256  # between the values
    found = np.searchsorted(np.sort(weights), places) / count
    assert np.abs(found - stats.beta(strength, strength).cdf(places)).max() < 1.95 / count**0.5  # exceeded once in 1,000


def test_cutmix_puts_a_rectangle_in_and_weighs_its_area():
    images = batch(300)
    images[::2] //= 2  # half are below 128, half above: which row a pixel is of shows
    images[1::2] = 128 + images[1::2] // 2
    partners, weights, shown = mixed("cutmix(1)", images, 1)
    seen = 0
    for row, partner in enumerate(partners):
        from_partner = (shown[row] == images[partner]).all(dim=0)
        from_own = (shown[row] == images[row]).all(dim=0)
        assert (from_partner | from_own).all()
        if (row - partner) % 2:
            seen += 1
            assert weights[row] == np.float32(from_own.double().mean())
            tall, wide = from_partner.any(dim=1).sum(), from_partner.any(dim=0).sum()
            assert from_partner.sum() == tall * wide
    assert seen > 100
    assert weights.min() < 0.4 < 0.95 < weights.max()


def test_the_box_of_cutmix_by_hand():
    """λ = 3/4: half the height and half the width, around its center, cut at the edges."""

    class Draw:
        def __init__(self, down: float, right: float):
            self.shares = {mixing._LAMBDA: 0.75, mixing._DOWN: down, mixing._RIGHT: right}

        def __call__(self, high: int, slot: int) -> np.ndarray:
            return np.array([int(self.shares[slot] * high)])

    for draw, box in ((Draw(0.5, 0.5), (2, 4, 2, 3)), (Draw(0, 0), (0, 2, 0, 2)), (Draw(0.99, 0.99), (5, 3, 4, 2))):
        found = mixing._box(draw, SHAPE, 1)
        assert tuple(int(side[0]) for side in found) == box
        assert mixing.cutmix_weights(draw, SHAPE, 1) == np.float32(1 - box[1] * box[3] / 48)


@pytest.mark.parametrize("text", ["mixup(1)", "cutmix(1)"])
def test_partners_are_of_the_same_span_and_each_is_drawn(text):
    """23 rows in spans of 10: the last has three."""
    policy, rows = Policy.parse(text, 0), np.arange(23)
    pairs = set()
    for view in range(1, 200):
        partners, _ = policy.partners(rows, np.full(23, view), 10, 23, SHAPE)
        pairs |= set(zip(rows.tolist(), partners.tolist(), strict=True))
    assert pairs == {(row, other) for row in range(23) for other in range(23) if row // 10 == other // 10}


@pytest.mark.parametrize("text", ["mixup(1)", "shift(1) | cutmix(1) | flip()"])
def test_view_0_is_the_row_alone(text):
    images = batch(20)
    partners, weights, shown = mixed(text, images, 0)
    assert (partners == np.arange(20)).all()
    assert (weights == 1).all()
    assert weights.dtype == np.float32
    assert torch.equal(shown, images)


@pytest.mark.parametrize("text", ["mixup(1)", "shift(1) | cutmix(1) | flip()"])
def test_a_mixed_view_does_not_depend_on_the_batch(text):
    images = batch(30)
    partners, weights, together = mixed(text, images, 2, span=7)
    policy = Policy.parse(text, 4)
    for row in range(30):
        one, view = np.array([row]), np.array([2])
        partner, weight = policy.partners(one, view, 7, 30, SHAPE)
        assert (partner[0], weight[0]) == (partners[row], weights[row])
        assert torch.equal(policy.apply(images[one], one, view, (partner, images[partner]))[0], together[row])


def test_steps_before_and_behind():
    """Before: to each of both as that row's own view. Behind: once, as of the row."""
    images, rows, views = batch(40), np.arange(40), np.full(40, 3)
    partners, weights, shown = mixed("shift(2) | mixup(1) | flip()", images, 3)
    moved = Policy.parse("shift(2)", 4).apply(images, rows, views).numpy()
    share = weights[:, None, None, None]
    expected = share * moved + (1 - share) * moved[partners]
    from_hash = Policy.parse("none | none | flip()", 4).apply(torch.from_numpy(expected), rows, views)
    assert np.abs(shown.numpy() - from_hash.numpy()).max() <= 0.5


def test_what_is_missing_or_too_much_is_refused():
    images = batch(3)
    with pytest.raises(InputError, match=r"view policy mixup\(strength=1\): expected the partners of the rows, found none"):
        Policy.parse("mixup(1)", 0).apply(images, np.arange(3), np.ones(3, int))
    with pytest.raises(InputError, match="at most one step that mixes rows"):
        Policy.parse("mixup(1) | cutmix(1)", 0)


def test_a_policy_that_mixes_nothing_has_the_row_for_its_partner():
    policy = Policy.parse("flip()", 0)
    assert not policy.mixes
    assert Policy.parse("flip() | mixup(1)", 0).mixes
    partners, weights = policy.partners(np.arange(3), np.ones(3, int), 10, 3, SHAPE)
    assert partners.tolist() == [0, 1, 2]
    assert weights.tolist() == [1, 1, 1]
