"""Steps for arrays, against numpy: its roll, its moments of the normal distribution, and what SpecAugment says."""

import numpy as np
import pytest
import torch

from pipeline.base import randomness
from pipeline.base.errors import InputError
from pipeline.base.randomness import Use
from pipeline.data.policies import array
from pipeline.data.views import Policy

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


def shown(text: str, arrays: np.ndarray, view: int = 1) -> np.ndarray:
    count = len(arrays)
    return Policy.parse(text, 5).apply(torch.from_numpy(arrays), np.arange(count), np.full(count, view)).numpy()


def frames(count: int = 12, dtype: str = "float32") -> np.ndarray:
    return (np.random.default_rng(0).normal(size=(count, 9, 4)) * 20).astype(dtype)


def test_noise_is_about_normal():
    """Its moments: mean, deviation, and a kurtosis that is 0.15 below that of the normal one."""
    added = shown("noise(2)", np.zeros((200, 50, 20), np.float32)) / 2
    assert abs(added.mean()) < 0.01
    assert abs(added.std() - 1) < 0.01
    assert abs((added**4).mean() - (3 - 1.2 / 8)) < 0.06
    assert np.abs(added).max() < 4.9
    assert len(np.unique(added)) > 1000


def test_noise_is_what_the_hash_says():
    """Eight bytes of the bits at (seed, row, view, step, slot, number), in Python's own arithmetic."""
    arrays = frames(3)
    found = shown("noise(0.5)", arrays)
    for row in range(3):
        bits = [int(randomness.bits(5, Use.POLICY, row, 1, 0, 0, number)) for number in range(36)]
        sums = np.array([sum(each.to_bytes(8)) - 1020 for each in bits]).reshape(9, 4)
        expected = arrays[row] + 0.5 * sums / (8 * (256**2 - 1) / 12) ** 0.5
        assert np.abs(found[row] - expected).max() < 1e-5


def test_noise_of_float16_is_rounded_once():
    arrays = frames(dtype="float16")
    expected = shown("noise(3)", arrays.astype(np.float32)).astype(np.float16)
    assert (shown("noise(3)", arrays) == expected).all()
    assert shown("noise(3)", arrays).dtype == np.float16


@pytest.mark.parametrize(("dtype", "most", "scale"), [("float16", 65504, 5000), ("float32", 2**128 - 2**104, 1e38)])
def test_noise_of_floats_stays_at_the_largest(dtype, most, scale):
    """Not infinity, which nets make NaN of."""
    arrays = np.full((50, 4), most, dtype) * np.array([1, -1, 1, -1], dtype)
    found = shown(f"noise({scale})", arrays)
    at_the_end = np.abs(found) == most
    assert np.isfinite(found).all()
    assert 0.4 < at_the_end.mean() < 0.6  # half of the noise leads outwards
    assert (at_the_end | (np.sign(found - arrays) == -np.sign(arrays))).all()


@pytest.mark.parametrize("dtype", INTEGERS)
def test_noise_of_integers_is_whole_and_stays_in_their_range(dtype):
    """The same whole numbers as of a wide dtype, cut at the ends, in Python's integers, which have none."""
    ends = np.iinfo(dtype)
    arrays = np.array([[ends.min, ends.max, (ends.max + ends.min + 1) // 2, ends.max - 1]], dtype).repeat(50, axis=0)
    wide = shown("noise(7)", np.zeros((50, 4), np.int64)).astype(object)
    summed = arrays.astype(object) + wide  # Python's integers
    expected = np.minimum(np.maximum(summed, ends.min), ends.max).tolist()
    found = shown("noise(7)", arrays)
    assert found.dtype == dtype
    assert found.tolist() == expected
    assert np.abs(wide.astype(float)).max() > 10


def test_whole_noise_is_rounded_noise():
    smooth = shown("noise(7)", np.zeros((50, 4), np.float32))
    assert np.abs(shown("noise(7)", np.zeros((50, 4), np.int32)) - smooth).max() <= 0.5 + 1e-5


@pytest.mark.parametrize("dtype", ["float32", "float16", *INTEGERS])
@pytest.mark.parametrize("axis", [0, 1])
def test_roll_is_numpys(dtype, axis):
    arrays = (frames() + 100).astype(dtype)
    found = shown(f"roll(3, axis={axis})", arrays)
    for row in range(12):
        steps = int(randomness.integers(7, 5, Use.POLICY, row, 1, 0, 0)) - 3
        assert (found[row] == np.roll(arrays[row], steps, axis)).all()


@pytest.mark.parametrize("dtype", ["float32", "float16", *INTEGERS])
def test_mask_hides_stretches_of_one_axis(dtype):
    arrays = (frames(400) % 50 + 1).astype(dtype)
    found = shown("mask(4, axis=0, value=99)", arrays)
    hidden = (found == 99).all(axis=2)
    assert (found == np.where(hidden[:, :, None], np.asarray(99, dtype), arrays)).all()
    edges = np.diff(np.pad(hidden, ((0, 0), (1, 1))).astype(int), axis=1)
    assert ((edges == 1).sum(axis=1) <= 1).all()  # one stretch
    lengths = np.bincount(hidden.sum(axis=1), minlength=5)
    assert (np.abs(lengths - 80) < 40).all()  # uniform in 0 to 4: five standard deviations
    assert len(lengths) == 5
    assert hidden[:, 0].any()
    assert hidden[:, -1].any()


def test_several_masks_and_the_other_axis():
    found = shown("mask(2, axis=1, count=2)", np.ones((400, 9, 4), np.float32))
    hidden = (found == 0).all(axis=1)
    assert set(hidden.sum(axis=1)) == {0, 1, 2, 3, 4}
    assert ((found == 0) == hidden[:, None]).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("roll(2, axis=2)", r"view policy roll, axis: expected 0 to 1, as rows have the shape \(9, 4\), found 2"),
        ("roll(5, axis=1)", "view policy roll: expected at most 4, the length of axis 1, found 5"),
        ("mask(10, axis=0)", "view policy mask: expected at most 9, the length of axis 0, found 10"),
        ("mask(1, axis=3)", "view policy mask, axis: expected 0 to 1"),
        ("mask(1, axis=0, value=1e9)", "view policy mask, value: expected a number that float16 holds, found 1000000000.0"),
    ],
)
def test_what_does_not_fit_the_arrays_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        shown(text, frames(dtype="float16"))


@pytest.mark.parametrize(("value", "dtype"), [(0.5, "int16"), (256, "uint8"), (-1, "uint64"), (1e40, "float32")])
def test_values_that_a_dtype_cannot_hold_are_refused(value, dtype):
    with pytest.raises(InputError, match=f"a number that {dtype} holds"):
        shown(f"mask(1, axis=0, value={value})", frames(dtype=dtype))


def test_rows_that_are_one_number_have_no_axis():
    with pytest.raises(InputError, match="axis: expected rows with an axis, found 0"):
        shown("roll(1)", np.zeros(3, np.float32))
    assert shown("noise(1)", np.zeros(3, np.float32)).shape == (3,)


@pytest.mark.parametrize(
    "text", ["noise(2)", "roll(2, axis=1)", "mask(3, axis=0, count=2)", "roll(4) | noise(1) | mask(1, axis=1)"]
)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int16", "uint64"])
def test_numbers_do_not_depend_on_the_batch(text, dtype):
    arrays = (frames() + 50).astype(dtype)
    policy, rows, views = Policy.parse(text, 3), np.arange(12), np.arange(12) % 3
    together = policy.apply(torch.from_numpy(arrays), rows, views).numpy()
    alone = [policy.apply(torch.from_numpy(arrays[i : i + 1]), rows[i : i + 1], views[i : i + 1]).numpy()[0] for i in range(12)]
    assert (together == np.stack(alone)).all()
    assert (together[::3] == arrays[::3]).all()  # view 0
    assert (together != arrays).any()


def test_sums_of_bytes():
    assert array._byte_sums(np.array([0, (1 << 64) - 1, 0x0102030405060708], np.uint64)).tolist() == [0, 2040, 36]
