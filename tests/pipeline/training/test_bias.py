"""Class-bias correction against exhaustive grids, cases whose answer is known by construction, and nets it must refuse."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.base.errors import InputError
from pipeline.data.inputs.image import Images
from pipeline.models.build import build, parse_model
from pipeline.models.predict import predict
from pipeline.models.zoo.layers import Pixels
from pipeline.stats import metrics
from pipeline.training import bias

GRID = np.arange(-60, 61) / 10


def cost(logits, labels, shift) -> tuple[int, float]:
    """Errors, and NLL written another way than in the library."""
    corrected = logits + shift
    chances = np.exp(corrected) / np.exp(corrected).sum(axis=1, keepdims=True)
    right = np.arange(len(labels)), labels
    return int((corrected.argmax(axis=1) != labels).sum()), float(-np.log(chances[right]).mean())


def noisy(seed: int, rows=30, count=4) -> tuple[np.ndarray, np.ndarray]:
    """Logits of which those of classes 1 and 2 are too low, and labels that they explain in part. Every class has rows."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (rows, count))
    labels = np.where(generator.random(rows) < 0.6, logits.argmax(axis=1), generator.integers(0, count, rows))
    labels[:count] = np.arange(count)
    return logits - [0, 2, 1, 0], labels


def separable(biased: dict[int, float], rows=4000) -> tuple[np.ndarray, np.ndarray]:
    """Float32 logits of ten classes that name every label, but for what was added to those of `biased`."""
    logits = np.random.default_rng(0).normal(0, 3, (rows, 10))
    labels = logits.argmax(axis=1)
    for name, amount in biased.items():
        logits[:, name] += amount
    return logits.astype(np.float32), labels


# ---------------------------------------------------------------- choosing


def test_a_class_whose_bias_is_too_low_by_3_5_is_mended():
    """As in the paper. Of 4000 rows some are so near a border that only an offset within 0.02 makes no error."""
    logits, labels = separable({3: -3.5})
    assert metrics.errors(logits, labels) > 200
    found = bias.offsets(logits, labels, [3])
    assert found.dtype == np.float64
    assert found[3] == pytest.approx(3.5, abs=0.02)
    assert (np.delete(found, 3) == 0).all()
    assert metrics.errors(logits + found, labels) == 0


def test_two_classes_too_high_by_7_6_are_mended():
    logits, labels = separable({7: 7.6, 8: 7.6})
    assert metrics.errors(logits, labels) > 2000
    found = bias.offsets(logits, labels, [7, 8])
    np.testing.assert_allclose(found[7:9], -7.6, atol=0.02)
    assert metrics.errors(logits + found, labels) == 0


def test_offsets_of_different_sizes_and_signs_are_found():
    logits, labels = separable({0: 2.0, 5: -4.0, 9: 1.0})
    np.testing.assert_allclose(bias.offsets(logits, labels, [9, 0, 5])[[0, 5, 9]], [-2, 4, -1], atol=0.03)


@pytest.mark.parametrize("seed", range(25))
def test_one_class_against_every_offset_of_a_grid(seed):
    """Never more errors than the best of the grid; as many, never a higher NLL, but for keeping off the borders."""
    logits, labels = noisy(seed)
    unit = np.eye(4)[1]
    errors, nll = cost(logits, labels, bias.offsets(logits, labels, [1]))
    fewest, lowest = min(cost(logits, labels, shift * unit) for shift in GRID)
    assert errors < fewest or (errors == fewest and nll <= lowest + bias.MARGIN)


def test_one_class_against_a_point_in_every_interval_between_borders():
    """By brute force: a prediction can only change where the class draws level with the largest other logit of a row."""
    for seed in range(25):
        logits, labels = noisy(seed)
        borders = np.sort(np.delete(logits, 1, axis=1).max(axis=1) - logits[:, 1])
        points = [borders[0] - 1, *(borders[1:] + borders[:-1]) / 2, borders[-1] + 1]
        expected = min(cost(logits, labels, point * np.eye(4)[1])[0] for point in points)
        assert cost(logits, labels, bias.offsets(logits, labels, [1]))[0] == expected


def test_two_classes_against_every_pair_of_a_grid():
    """A descent can end in a pit: of 60 small cases one misses the best of 14,641 pairs, by one error. Without the common
    move two do."""
    missed = []
    for seed in range(60):
        logits, labels = noisy(seed)
        found = cost(logits, labels, bias.offsets(logits, labels, [1, 2]))[0]
        shifted = logits[:, :, None, None] + np.zeros((len(GRID), len(GRID)))
        shifted[:, 1] += GRID[:, None]
        shifted[:, 2] += GRID
        fewest = (shifted.argmax(axis=1) != labels[:, None, None]).sum(axis=0).min()
        missed.append(max(0, found - fewest))
    assert sum(missed) <= 1


def test_no_single_move_and_no_common_one_would_do_better():
    for seed in range(10):
        logits, labels = noisy(seed)
        found = bias.offsets(logits, labels, [1, 2])
        errors, nll = cost(logits, labels, found)
        for move, shift in itertools.product(([0, 1, 0, 0], [0, 0, 1, 0], [0, 1, 1, 0]), GRID):
            fewer, lower = cost(logits, labels, found + shift * np.array(move))
            assert fewer > errors or (fewer == errors and lower > nll - bias.MARGIN)


def test_among_equally_few_errors_nll_decides():
    """Offsets between −4 and 4 make no error. Of one sure row a class NLL wants 0; of two of class 1, more than that."""
    logits, labels = np.array([[4.0, 0.0], [0.0, 4.0], [0.0, 4.0]]), np.array([0, 1, 1])
    assert bias.offsets(logits[:2], labels[:2], [1])[1] == pytest.approx(0, abs=1e-9)
    best = min(np.arange(-3999, 4000) / 1000, key=lambda shift: cost(logits, labels, np.array([0, shift]))[1])
    assert best > 0.3
    assert bias.offsets(logits, labels, [1])[1] == pytest.approx(best, abs=2e-3)


def test_a_class_gets_the_chance_that_is_its_share():
    """Where logits say nothing, the lowest NLL is at the odds of the labels: two of class 1 against one of class 0."""
    assert bias.offsets(np.zeros((3, 2)), np.array([0, 1, 1]), [1])[1] == pytest.approx(np.log(2), abs=1e-9)


@pytest.mark.parametrize("far", [0.0, 1e-30, 1.0, 1e4, 1e37])
def test_logits_of_any_size_have_a_lowest_nll(far):
    """Where its slope is nought: the chances of class 1 add up to its two rows of five."""
    gap = far * np.array([1.0, -1.0, 1.0, 0.0, 0.3])
    shift = bias._lowest_nll(gap, 0.4)
    assert ((1 + np.tanh((gap + shift) / 2)) / 2).sum() == pytest.approx(2, abs=1e-9)


def test_between_close_borders_the_middle_is_taken():
    """Only an offset between 1 and 1.0001, closer than two MARGINs, makes no error."""
    logits, labels = np.array([[1.0, 0.0], [1.0001, 0.0]]), np.array([1, 0])
    assert bias.offsets(logits, labels, [1])[1] == pytest.approx(1.00005, abs=1e-9)


def test_errors_come_before_nll():
    """Two rows are wrong below 30, so NLL asks for a high offset; errors forbid 1, and MARGIN is kept from it."""
    logits = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 5.0], [30.0, 0.0], [30.0, 0.0]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    assert cost(logits, labels, np.array([0, 1.69]))[1] < cost(logits, labels, np.array([0, 0.999]))[1]
    assert bias.offsets(logits, labels, [1])[1] == pytest.approx(1 - bias.MARGIN, abs=1e-12)


def test_no_prediction_hangs_on_the_last_bits():
    """Rounded to float32, as in a net's bias, the offsets give the same predictions in float32 arithmetic."""
    for seed in range(10):
        logits, labels = noisy(seed, rows=300)
        logits = logits.astype(np.float32)
        found = bias.offsets(logits, labels, [1, 2])
        rounded = logits + found.astype(np.float32)
        assert metrics.errors(rounded, labels) == metrics.errors(logits + found, labels)


def test_ties_between_rows_and_classes():
    """Logits of whole numbers, where borders coincide and others tie: halves are enough, or no offset if ties favour that."""
    kept = 0
    for seed in range(25):
        generator = np.random.default_rng(seed)
        logits, labels = generator.integers(0, 4, (40, 4)).astype(float), generator.integers(0, 4, 40)
        expected = min(cost(logits, labels, shift * np.eye(4)[2])[0] for shift in np.arange(-5.5, 6))
        without = cost(logits, labels, 0)[0]
        assert cost(logits, labels, bias.offsets(logits, labels, [2]))[0] == min(expected, without)
        kept += without < expected
    assert 0 < kept < 25


def test_the_order_of_rows_and_of_classes_is_nothing():
    for seed in range(5):
        logits, labels = noisy(seed, rows=200)
        order = np.random.default_rng(0).permutation(200)
        expected = bias.offsets(logits, labels, [0, 1, 2])
        np.testing.assert_allclose(bias.offsets(logits[order], labels[order], [0, 1, 2]), expected, atol=1e-6)
        np.testing.assert_array_equal(bias.offsets(logits, labels, [1, 0, 2]), expected)


def test_no_classes_no_offsets_and_all_classes_are_allowed():
    logits, labels = noisy(0)
    assert (bias.offsets(logits, labels, []) == 0).all()
    with np.errstate(all="raise"):
        found = bias.offsets(logits, labels, range(4))
    assert cost(logits, labels, found) < cost(logits, labels, 0)


@pytest.mark.parametrize("classes", [[4], [-1], [1, 1]])
def test_classes_that_are_not_there_or_named_twice_are_refused(classes):
    with pytest.raises(InputError, match="different classes from 0 to 3"):
        bias.offsets(*noisy(0), classes)


@pytest.mark.parametrize(("labels", "found"), [([0, 1, 1], "0 rows of it among 3"), ([2, 2, 2], "3 rows of it among 3")])
def test_a_class_without_rows_or_with_all_of_them_is_refused(labels, found):
    with pytest.raises(InputError, match=f"class 2: expected rows of it and of others, found {found}"):
        bias.offsets(np.zeros((3, 4)), np.array(labels), [2])


# ---------------------------------------------------------------- folding

PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (37, 1, 5, 4), dtype=np.uint8))
SHIFT = np.array([0.0, 3.5, -7.6])


def net(text="mlp(hidden=[6])") -> nn.Module:
    return build(parse_model(text), Images("L", (1, 5, 4)), 3)


@pytest.mark.parametrize("text", ["mlp(hidden=[6], dropout=0.5)", "mlp(hidden=[])", "cnn(channels=[4, 5])"])
def test_a_folded_net_predicts_what_was_chosen(text):
    model = net(text)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    logits = predict(model, PIXELS)
    after = bias.fold_into(model, SHIFT, PIXELS, logits)
    np.testing.assert_allclose(after, logits + SHIFT, atol=1e-5)
    np.testing.assert_array_equal(predict(model, PIXELS), after)
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == [list(before)[-1]]
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


class Doubled(nn.Linear):
    """Its last parameter has the shape of a bias of its logits, and counts twice."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(inputs)


@pytest.mark.parametrize(
    "last",
    [
        [nn.Linear(20, 3, bias=False)],
        [nn.Linear(20, 3), nn.LogSoftmax(dim=1)],
        [nn.Linear(20, 6), nn.AvgPool1d(2)],
        [Doubled(20, 3)],
    ],
    ids=["no bias", "a bias too early", "a bias of another size", "a bias that counts twice"],
)
def test_a_net_without_a_bias_of_its_logits_is_left_as_it_was(last):
    model = nn.Sequential(Pixels(), nn.Flatten(), *last)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    logits = predict(model, PIXELS)
    with pytest.raises(InputError, match="a net whose last parameter is the bias of its logits"):
        bias.fold_into(model, SHIFT, PIXELS, logits)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    np.testing.assert_array_equal(predict(model, PIXELS), logits)


def test_a_net_that_fails_to_predict_is_left_as_it_was():
    model = net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(RuntimeError):
        bias.fold_into(model, SHIFT, PIXELS[:, :, :4], predict(model, PIXELS))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_chosen_on_one_split_and_folded_it_helps_on_another():
    """The whole of it: a net whose bias of class 1 is lowered by 3.5 gets it back from 500 rows, and others gain."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 1000)
    pixels = generator.integers(0, 60, (1000, 1, 1, 3))
    pixels[np.arange(1000), 0, 0, labels] += 60
    pixels = torch.from_numpy(pixels.astype(np.uint8))
    model = build(parse_model("mlp(hidden=[])"), Images("L", (1, 1, 3)), 3)
    with torch.no_grad():
        model[-1].weight.copy_(torch.eye(3) * 30)
        model[-1].bias.copy_(torch.tensor([0.0, -3.5, 0.0]))
    valid, test = pixels[:500], pixels[500:]
    before = metrics.errors(predict(model, test), labels[500:])
    logits = predict(model, valid)
    bias.fold_into(model, bias.offsets(logits, labels[:500], [1]), valid, logits)
    assert model[-1].bias[1].item() == pytest.approx(0, abs=0.5)
    assert metrics.errors(predict(model, test), labels[500:]) < before / 4
