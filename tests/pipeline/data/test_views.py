"""Views replay: a pure function of (image, seed, row, view), with golden pixels."""

import numpy as np
import pytest
import torch

from pipeline.base.errors import InputError
from pipeline.data.settings import Views
from pipeline.data.views import MOST, Policy, open_views

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
        "shift(2, edge='reflect')",
        "resized_crop()",
        "jitter(0.5, 0.5, 0.5)",
        "grey(0.3) | flip()",
        "erase(0.9)",
        "noise(9) | roll(2, axis=2)",
        "mask(2, axis=1)",
    ],
)
def test_pixels_do_not_depend_on_the_batch(text):
    """All rows at once, one by one, and in reverse."""
    policy = Policy.parse(text, 3)
    images, rows, views = batch(40, channels=3), np.arange(100, 140), np.arange(40) % 4
    together = policy.apply(images, rows, views)
    alone = torch.cat([policy.apply(images[i : i + 1], rows[i : i + 1], views[i : i + 1]) for i in range(40)])
    backwards = policy.apply(images.flip(0), rows[::-1].copy(), views[::-1].copy()).flip(0)
    assert torch.equal(together, alone)
    assert torch.equal(together, backwards)
    assert (together != images).any()


@pytest.mark.parametrize(
    "text",
    ["none", "shift(2)", "shift(1) | flip()", "affine(rotate=9) | elastic(1)", "grey() | shift(1)", "grey(1)", "noise(3)"],
)
def test_view_0_is_the_row_itself(text):
    """In a batch of its own, and beside other views."""
    images, views = batch(20, channels=3), np.arange(20) % 3
    policy = Policy.parse(text, 9)
    assert torch.equal(policy.apply(images, np.arange(20), np.zeros(20, int)), images)
    assert torch.equal(policy.apply(images, np.arange(20), views)[::3], images[::3])


def test_seed_row_and_view_all_matter():
    """Twenty copies of one image: at least one moves elsewhere when any part of the address changes."""
    images, rows, views = batch(1, size=9).expand(20, -1, -1, -1), np.arange(20), np.ones(20, int)
    base = Policy.parse("shift(4)", 1).apply(images, rows, views)
    assert not torch.equal(base, Policy.parse("shift(4)", 2).apply(images, rows, views))
    assert not torch.equal(base, Policy.parse("shift(4)", 1).apply(images, rows + 1, views))
    assert not torch.equal(base, Policy.parse("shift(4)", 1).apply(images, rows, views + 1))


def test_canonical_text():
    assert Policy.parse(" shift( 2 )|flip() ", 0).text == "shift(pixels=2) | flip()"
    assert Policy.parse("shift(2, edge='zero')", 0).text == "shift(pixels=2)"
    assert Policy.parse("shift(2, edge='reflect')", 0).text == "shift(pixels=2, edge='reflect')"
    assert Policy.parse("resized_crop()", 0).text == Policy.parse("resized_crop([0.08, 1], (0.75, 1.3333))", 0).text


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
        "shift(1, 'reflect')",
        "shift(1, edge='wrap')",
        "resized_crop([0.5, 0.1])",
        "resized_crop(0.5)",
        "resized_crop(size=5)",
        "jitter(1.5)",
        "grey(2)",
        "erase(ratio=[0, 1])",
        "mixup(0)",
        "noise(-1)",
        "roll(1, axis=-1)",
        "mask(1)",
        "mask(1, axis=0, count=0)",
        "drop(0.5)",
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


# ---------------------------------------------------------------- kinds of input


@pytest.mark.parametrize(
    ("text", "kind"),
    [("none", None), ("flip() | none", "image"), ("none | noise(1)", "array"), ("drop(1)", "text"), ("mixup(1)", "image")],
)
def test_a_policy_is_for_one_kind_of_input(text, kind):
    policy = Policy.parse(text, 0)
    assert policy.kind == kind
    for other in ("image", "array", "text"):
        if kind in (None, other):
            policy.require_kind(other)
        else:
            with pytest.raises(InputError, match="Choose another policy"):
                policy.require_kind(other)


def test_the_wrong_kind_is_named():
    with pytest.raises(InputError) as raised:
        Policy.parse("none | flip()", 0).require_kind("text")
    assert str(raised.value) == (
        "view policy flip(): expected a step for texts: drop, or none, found one for images. Choose another policy."
    )
    with pytest.raises(InputError, match=r"steps for one kind of input, found flip\(\) for images, drop\(words=1\) for texts"):
        Policy.parse("flip() | drop(1)", 0)


def test_a_plug_in_is_of_no_kind(tmp_path, monkeypatch):
    (tmp_path / "any_views.py").write_text("def same(inputs, draw):\n    return inputs\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SOFTCACHE_PLUGINS", "any_views")
    assert Policy.parse("any_views:same()", 0).kind is None
    assert Policy.parse("any_views:same() | drop(1)", 0).kind == "text"
    assert Policy.parse("any_views:same()", 0).outcomes is None
    frames = torch.zeros(3, 4, 2, dtype=torch.float16)
    assert Policy.parse("any_views:same()", 0).apply(frames, np.arange(3), np.ones(3, int)).dtype == torch.float16


# ---------------------------------------------------------------- every outcome


@pytest.mark.parametrize(
    ("text", "outcomes"),
    [
        ("none", 1),
        ("flip()", 2),
        ("shift(4) | flip()", 162),
        ("shift(1, edge='reflect') | none | grey(0.2)", 45),
        ("roll(2)", 5),
        ("grey(1)", None),
        ("flip() | elastic(1)", None),
        ("noise(1)", None),
        ("drop(1)", None),
    ],
)
def test_how_many_outcomes_there_are(text, outcomes):
    assert Policy.parse(text, 0).outcomes == outcomes


@pytest.mark.parametrize("text", ["flip()", "shift(1) | flip()", "grey(0.25) | shift(1, edge='reflect')", "roll(2, axis=1)"])
def test_every_view_is_another_outcome_and_together_they_are_all(text):
    """What a random policy shows of one image in 4,000 views is what all views show, and in the same shares."""
    image = torch.arange(3 * 25, dtype=torch.uint8).view(1, 3, 5, 5)
    policy = Policy.parse(text, 7, every=True)
    count = policy.outcomes
    every = policy.apply(image.expand(count, -1, -1, -1), np.arange(count) * 13, np.arange(count))
    assert torch.equal(every[0], image[0])
    drawn = Policy.parse(text, 7).apply(image.expand(4000, -1, -1, -1), np.zeros(4000, int), np.arange(1, 4001))
    shares = [{}, {}]
    for share, shown in zip(shares, (every, drawn), strict=True):
        for one in shown:
            key = one.numpy().tobytes()
            share[key] = share.get(key, 0) + 1 / len(shown)
    assert shares[0].keys() == shares[1].keys()
    deviation = max((share * (1 - share) / 4000) ** 0.5 for share in shares[0].values())
    assert all(abs(shares[0][key] - shares[1][key]) < 5 * deviation for key in shares[0])
    if "grey" not in text:  # three of four draws leave the colours
        assert len(shares[0]) == count


def test_enumerated_views_by_hand():
    """The last draw changes fastest; each counts on from the one that changes nothing."""
    policy = Policy.parse("shift(1) | flip()", 7, every=True)
    shown = policy.apply(PICTURE.expand(6, 1, 3, 3), np.arange(6), np.arange(6))[:, 0].tolist()
    assert shown == [
        [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
        [[3, 2, 1], [6, 5, 4], [9, 8, 7]],
        [[2, 3, 0], [5, 6, 0], [8, 9, 0]],
        [[0, 3, 2], [0, 6, 5], [0, 9, 8]],
        [[0, 1, 2], [0, 4, 5], [0, 7, 8]],
        [[2, 1, 0], [5, 4, 0], [8, 7, 0]],
    ]


def test_an_enumerated_policy_has_no_seed():
    facts = Policy.parse("flip()", 7, every=True).to_dict()
    assert facts == {"policy": "flip()", "seed": 0, "behaviours": ["version 1"], "outcomes": 2}
    assert Policy.of(facts) == Policy.parse("flip()", 8, every=True)
    plain = Policy.parse("flip()", 7)
    assert plain.to_dict() == {"policy": "flip()", "seed": 7, "behaviours": ["version 1"]}
    assert Policy.of(plain.to_dict()) == plain


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flip() | jitter(0.5)", r"views: all: expected steps with finitely many outcomes.*found jitter\(brightness=0.5"),
        ("grey(1)", r"the row itself among them \(shift, flip, grey, roll\), found grey\(share=1\)"),
        ("shift(100) | flip()", r"views: all: expected at most 65,536 outcomes, found 80,802 of shift\(pixels=100\)"),
    ],
)
def test_what_cannot_be_enumerated_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        Policy.parse(text, 0, every=True)


def test_as_many_as_are_allowed():
    assert Policy.parse("flip()" + " | flip()" * 15, 0, every=True).outcomes == MOST


def test_views_as_they_are_set():
    assert open_views(Views("shift(4) | flip()", "all", 3)) == (Policy.parse("shift(4) | flip()", 3, every=True), 162)
    assert open_views(Views("flip()", 7, 3)) == (Policy.parse("flip()", 3), 7)
    assert open_views(Views("none", "all")) == (Policy.parse("none", 0, every=True), 1)
