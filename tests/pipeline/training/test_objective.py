"""Objectives, of one student and of several, against a value worked out by hand and a formula written in numpy."""

import math
from typing import ClassVar

import numpy as np
import pytest
import torch

from pipeline.base.errors import InputError
from pipeline.models.ensemble import Ensemble
from pipeline.training import losses
from pipeline.training.course import STEADY, Course, Progress
from pipeline.training.examples import Batch
from pipeline.training.losses import SoftLoss
from pipeline.training.objective import HARD, LossWeights, Objective
from pipeline.training.recipe import Recipe
from pipeline.training.signal import NoTeacher

ROWS, CLASSES = 6, 4
LABELS = np.array([3, 0, 1, 2, 0, 1, 3, 2, 2])  # of all rows of a split, some of which are in the batch
DRAWN = np.array([8, 2, 0, 5, 7, 1])
GENERATOR = np.random.default_rng(0)
LAYERS = GENERATOR.normal(0, 3, (ROWS, 3, CLASSES))  # target logits at these temperatures
TEMPERATURES = (1.0, 2.0, 5.0)


class Layered(NoTeacher):
    """Three layers of target logits, one for each temperature."""

    ensemble: ClassVar = Ensemble("probabilities", (0.5, 0.5), TEMPERATURES)


def batch(targets: np.ndarray = LAYERS, rows: np.ndarray = DRAWN) -> Batch:
    empty = torch.zeros(len(rows), 0)
    return Batch(torch.from_numpy(rows), empty, empty, torch.from_numpy(targets), empty.long(), empty)


def objective(
    *weightings: LossWeights, loss: str = "kl", labels: np.ndarray = LABELS, course: Course = STEADY, **how
) -> Objective:
    return Objective.of(weightings, torch.from_numpy(labels), SoftLoss.parse(loss, **how), Layered(), course=course)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits)
    return powers / powers.sum(-1, keepdims=True)


def expected(logits: np.ndarray, temperature: float, alpha: float, labels_weight: float, *, squared: bool = True) -> np.ndarray:
    """alpha · T² · KL + w · cross-entropy of one student, row by row."""
    teacher, student = (softmax(z / temperature) for z in (LAYERS[:, TEMPERATURES.index(temperature)], logits))
    soft = (teacher * np.log(teacher / student)).sum(-1) * (temperature**2 if squared else 1)
    return alpha * soft - labels_weight * np.log(softmax(logits)[np.arange(ROWS), LABELS[DRAWN]])


def logits(*nets: int) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 2, (ROWS, *nets, CLASSES))


def test_a_value_by_hand():
    """The student is uniform, the teacher 3/4 and 1/4 at T = 2: KL = 3/4 · ln 3/2 + 1/4 · ln 1/2; cross-entropy = ln 2."""
    targets = np.array([[[2 * math.log(3), 0]]])
    made = Objective.of([LossWeights(2.0, 0.25)], torch.tensor([1]), SoftLoss.parse("kl"), NoTeacher())
    found = made(torch.zeros(1, 2), batch(targets, np.array([0])))
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx([0.25 * 4 * kl + 0.75 * math.log(2)], rel=1e-12)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize(
    ("alpha", "label_weight", "labels"), [(0.7, None, 0.3), (1.0, None, 0), (0.7, 2.0, 2), (3.0, 0.5, 0.5)]
)
def test_one_student(temperature, squared, alpha, label_weight, labels):
    made = objective(LossWeights(temperature, alpha, label_weight), squared=squared)
    found = made(torch.from_numpy(logits()), batch())
    np.testing.assert_allclose(found, expected(logits(), temperature, alpha, labels, squared=squared), rtol=1e-10)


@pytest.mark.parametrize(
    "weightings",
    [
        [LossWeights(5.0, 0.9), LossWeights(1.0, 1.0), LossWeights(2.0, 0.5, 2.0)],  # a layer each, all of them soft
        [LossWeights(2.0, 0.9), LossWeights(2.0, 0.1), LossWeights(2.0, 1.0)],  # one layer for all
        [HARD, LossWeights(5.0, 0.9), LossWeights(1.0, 0.4)],  # the soft ones side by side
        [LossWeights(5.0, 0.9), HARD, LossWeights(1.0, 1.0)],  # and apart
        [LossWeights(5.0, 1.0), LossWeights(2.0, 1.0)],  # no labels at all
        [HARD, HARD],
    ],
)
def test_several_students(weightings):
    several = logits(len(weightings))
    found = objective(*weightings)(torch.from_numpy(several), batch())
    assert found.shape == (ROWS, len(weightings))
    for net, each in enumerate(weightings):
        wanted = expected(several[:, net], each.temperature, each.alpha, each.labels)
        np.testing.assert_allclose(found[:, net], wanted, rtol=1e-10)


def test_a_soft_loss_that_overflows_does_not_reach_a_student_without_one():
    """The soft loss of the second student, (1e200)², is infinite: times 0 it would be NaN."""
    large = torch.zeros(ROWS, 2, CLASSES, dtype=torch.float64)
    large[torch.arange(ROWS), 1, torch.from_numpy(LABELS[DRAWN])] = 1e200
    large.requires_grad_()
    found = objective(LossWeights(2.0, 0.5), HARD, loss="mse")(large, batch())
    assert found[:, 1].tolist() == [0] * ROWS
    found.sum().backward()
    assert torch.isfinite(large.grad).all()


def test_soft_targets_alone_read_no_labels():
    found = objective(LossWeights(2.0, 1.0), labels=np.full(len(LABELS), -1))(torch.from_numpy(logits()), batch())
    np.testing.assert_allclose(found, expected(logits(), 2.0, 1.0, 0), rtol=1e-10)


def test_labels_alone_need_no_teacher():
    made = Objective.of([HARD], torch.from_numpy(LABELS))
    np.testing.assert_allclose(made(torch.from_numpy(logits()), batch()), expected(logits(), 1.0, 0, 1), rtol=1e-10)


def test_the_label_term_is_the_mean_over_the_labelled_rows_that_are_chosen():
    """Of four rows the first two have labels, and three are learned from: rows 0, 2 and 3, of which only the first has one."""
    labels, shown = torch.tensor([0, 1, -1, -1]), torch.zeros(3, 2, dtype=torch.float64)
    made = Objective.of([HARD], labels, chosen=torch.tensor([0, 2, 3]))
    found = made(shown, batch(np.zeros((3, 1, 2)), np.array([0, 2, 3])))
    assert found.mean().item() == pytest.approx(math.log(2))


def mixed(partners: list[int], shares: list[float]) -> Batch:
    """The batch, each row mixed with another; shares: of the row itself."""
    columns = torch.tensor(partners)[:, None], torch.tensor(shares, dtype=torch.float32)[:, None]
    return batch()._replace(partners=columns[0], shares=columns[1])


def test_mixed_labels_by_hand():
    """Three quarters of a row of class 1 and a quarter of one of class 0; the student gives them ln 4 / 3 and ln 4 nats."""
    made = Objective.of([HARD], torch.tensor([0, 1]))
    given = batch(np.zeros((1, 1, 2)), np.array([1]))._replace(partners=torch.tensor([[0]]), shares=torch.tensor([[0.75]]))
    found = made(torch.tensor([[0.0, math.log(3)]], dtype=torch.float64), given)
    assert found.tolist() == pytest.approx([0.75 * math.log(4 / 3) + 0.25 * math.log(4)], rel=1e-12)


@pytest.mark.parametrize("weightings", [[HARD], [LossWeights(2.0, 0.5)], [HARD, LossWeights(5.0, 0.9), LossWeights(2.0, 1.0)]])
def test_labels_are_mixed_like_the_rows(weightings):
    """w · (λ · own + (1 - λ) · the partner's): the same as cross-entropy with a distribution; the soft loss stays."""
    partners, shares = [0, 8, 4, 5, 1, 2], [1.0, 0.5, 0.25, 0.125, 0.0, 0.75]
    several = logits(len(weightings)) if len(weightings) > 1 else logits()
    found = objective(*weightings)(torch.from_numpy(several), mixed(partners, shares))
    eye = np.eye(CLASSES)
    wanted = np.array(shares)[:, None] * eye[LABELS[DRAWN]] + (1 - np.array(shares))[:, None] * eye[LABELS[partners]]
    for net, each in enumerate(weightings):
        own = several[:, net] if len(weightings) > 1 else several
        soft = expected(own, each.temperature, each.alpha, 0) if each.alpha else 0
        hard = -(wanted * np.log(softmax(own))).sum(-1)
        np.testing.assert_allclose(found[:, net] if len(weightings) > 1 else found, soft + each.labels * hard, rtol=1e-10)


def test_the_weight_of_the_labels():
    assert LossWeights(4.0, 0.75).to_dict() == {"temperature": 4.0, "alpha": 0.75, "label_weight": 0.25}
    assert LossWeights(4.0, 3.0, 2.0).labels == 2.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((1.0, math.nan), "alpha: expected a number from 0 to 1, found nan"),
        ((1.0, 1.1), "alpha: expected a number from 0 to 1, found 1.1"),
        ((1.0, math.inf, 1.0), "alpha: expected a number of at least 0, found inf"),
        ((1.0, 0.5, math.inf), "label_weight: expected a number of at least 0, found inf"),
        ((1.0, 0.0, 0.0), "alpha and label_weight: expected not both 0"),
        ((0.0, 0.5), "temperature: expected a number from 1e-06"),
    ],
)
def test_numbers_out_of_range_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        LossWeights(*given)


@pytest.mark.parametrize("weightings", [[HARD], [LossWeights(2.0, 0.5)], [HARD, LossWeights(5.0, 0.9), LossWeights(2.0, 1.0)]])
def test_smoothed_labels_are_a_mean_with_all_classes(weightings):
    """w · −Σ q log p with q = 0.8 · label + 0.2 / classes: Szegedy et al. 2016, section 7; the soft loss stays."""
    several = logits(len(weightings)) if len(weightings) > 1 else logits()
    made = Objective.of(weightings, torch.from_numpy(LABELS), SoftLoss.parse("kl"), Layered(), smoothing=0.2)
    found = made(torch.from_numpy(several), batch()).numpy()
    wanted = 0.8 * np.eye(CLASSES)[LABELS[DRAWN]] + 0.2 / CLASSES
    for net, each in enumerate(weightings):
        own = several[:, net] if len(weightings) > 1 else several
        hard = -(wanted * np.log(softmax(own))).sum(-1)
        soft = expected(own, each.temperature, each.alpha, 0) if each.alpha else 0.0
        np.testing.assert_allclose(found[:, net] if len(weightings) > 1 else found, soft + each.labels * hard, rtol=1e-9)


def test_smoothed_labels_are_mixed_like_the_rows():
    """Smoothing a mixture is mixing what is smoothed."""
    partners, shares = [0, 8, 4, 5, 1, 2], np.array([1.0, 0.5, 0.25, 0.125, 0.0, 0.75])
    made = Objective.of([HARD], torch.from_numpy(LABELS), smoothing=0.4)
    found = made(torch.from_numpy(logits()), mixed(partners, shares.tolist()))
    eye = np.eye(CLASSES)
    wanted = shares[:, None] * eye[LABELS[DRAWN]] + (1 - shares)[:, None] * eye[LABELS[partners]]
    wanted = 0.6 * wanted + 0.4 / CLASSES
    np.testing.assert_allclose(found, -(wanted * np.log(softmax(logits()))).sum(-1), rtol=1e-9)


@pytest.mark.parametrize("nets", [(), (2,)])
def test_rows_without_a_label_have_their_soft_targets_alone(nets):
    some = np.where(np.isin(np.arange(len(LABELS)), DRAWN[[1, 4]]), -1, LABELS)
    weightings = [LossWeights(2.0, 0.7)] * (nets[0] if nets else 1)
    found = objective(*weightings, labels=some)(torch.from_numpy(logits(*nets)), batch())
    of_each = np.moveaxis(logits(*nets), 1, 0) if nets else [logits()]
    weights = (0.3 * 9 / 7, 0.0)  # the mean of the second term is that over the seven rows of nine that have a label
    both, soft = (np.stack([expected(each, 2.0, 0.7, weight) for each in of_each], 1) for weight in weights)
    both[[1, 4]] = soft[[1, 4]]
    np.testing.assert_allclose(found.reshape(both.shape), both, rtol=1e-10)


# ---------------------------------------------------------------- courses


MOMENTS = [Progress(1, 0.0), Progress(3, 0.25), Progress(10, 0.75)]  # of ten epochs or so


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("progress", MOMENTS)
def test_a_step_in_a_course_is_that_of_its_own_temperature_and_weights(progress, squared):
    """T falls to a quarter and T² with it; alpha to 0, and 1 − alpha rises; the warm-up scales nothing but the soft loss."""
    course = Course.parse(temperature="linear(end=0.25)", alpha="linear", warmup=4)
    weightings = [LossWeights(5.0, 0.9), HARD, LossWeights(2.0, 0.5, 2.0), LossWeights(1.0, 1.0)]
    several = logits(4)
    together = objective(*weightings, course=course, squared=squared)(torch.from_numpy(several), batch(), progress)
    alpha, heat, warm = 1 - progress.done, 1 - 0.75 * progress.done, min(progress.epoch / 4, 1)
    for net, each in enumerate(weightings):
        T, w = each.temperature * heat, (1 - each.alpha * alpha) if each.label_weight is None else each.label_weight
        teacher, student = (softmax(z / T) for z in (LAYERS[:, TEMPERATURES.index(each.temperature)], several[:, net]))
        soft = (teacher * np.log(teacher / student)).sum(-1) * (T**2 if squared else 1)
        wanted = each.alpha * alpha * warm * soft - w * np.log(softmax(several[:, net])[np.arange(ROWS), LABELS[DRAWN]])
        np.testing.assert_allclose(together[:, net], wanted, rtol=1e-10)
        found = objective(each, course=course, squared=squared)(torch.from_numpy(several[:, net]), batch(), progress)
        np.testing.assert_allclose(found, wanted, rtol=1e-10)


def test_dkd_warms_up_as_in_the_code_of_its_authors():
    """min(epoch / 20, 1) · loss, epochs counted from 1, beside a whole cross-entropy."""
    made = objective(LossWeights(2.0, 1.0, 1.0), loss="dkd", course=Course.parse(warmup=20))
    given, hard = torch.from_numpy(logits()), objective(HARD)(torch.from_numpy(logits()), batch())
    dkd = objective(LossWeights(2.0, 1.0), loss="dkd")(given, batch())
    for epoch in (1, 7, 20, 33):
        torch.testing.assert_close(made(given, batch(), Progress(epoch, 0.5)), hard + min(epoch / 20, 1.0) * dkd)


def test_without_a_course_every_moment_is_the_same():
    weightings = [LossWeights(2.0, 0.7), HARD]
    found = [objective(*weightings)(torch.from_numpy(logits(2)), batch(), each) for each in MOMENTS]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_a_virtual_teacher_stands_beside_soft_targets_and_mixes_like_labels():
    """alpha · soft loss + w · what tf_kd gives; of a mixed row the shares of both labels."""
    virtual = Recipe.parse(optimizer="sgd(lr=1)", epochs=1, batch_size=1, virtual_teacher="tf_kd(0.3, temperature=2)").virtual
    given, labels, weighting = torch.from_numpy(logits()), torch.from_numpy(LABELS), LossWeights(2.0, 0.7)
    made = Objective.of([weighting], labels, SoftLoss.parse("kl"), Layered(), virtual=virtual)
    soft = expected(logits(), 2.0, 0.7, 0)
    own = losses.tf_kd(given, labels[DRAWN], 0.3, temperature=2)
    np.testing.assert_allclose(made(given, batch()), soft + weighting.labels * own.numpy(), rtol=1e-10)
    partners, shares = [0, 8, 4, 5, 1, 2], [1.0, 0.5, 0.25, 0.125, 0.0, 0.75]
    other, share = losses.tf_kd(given, labels[partners], 0.3, temperature=2), torch.tensor(shares, dtype=torch.float64)
    wanted = soft + weighting.labels * (share * own + (1 - share) * other).numpy()
    np.testing.assert_allclose(made(given, mixed(partners, shares)), wanted, rtol=1e-10)


def published(logits: np.ndarray, weighting: LossWeights, net: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of each row and its gradient of one net of three, as Zhang et al. 2018 have it: equations 2, 3, 7 and 8.

    With the loss of a student alone in the place of their cross-entropy; the predictions of its peers are constants.
    """
    own = torch.from_numpy(logits[:, net]).requires_grad_()
    peers = [torch.from_numpy(softmax(logits[:, other])) for other in range(3) if other != net]
    apart = [torch.nn.functional.kl_div(own.log_softmax(-1), peer, reduction="none").sum(-1) for peer in peers]
    alone = objective(LossWeights(weighting.temperature, weighting.alpha))(own, batch())
    loss = alone + weighting.mutual * (apart[0] + apart[1]) / 2
    (gradient,) = torch.autograd.grad(loss.sum(), own)
    return loss.detach(), gradient


@pytest.mark.parametrize("weighting", [LossWeights(1.0, 0.0, mutual=1.0), LossWeights(2.0, 0.9, mutual=0.4)])
def test_mutual_learning_is_the_published_formula(weighting):
    stacked = torch.from_numpy(logits(3)).requires_grad_()
    found = objective(*[weighting] * 3)(stacked, batch())
    found.sum().backward()
    for net in range(3):
        loss, gradient = published(logits(3), weighting, net)
        torch.testing.assert_close(found[:, net].detach(), loss)
        torch.testing.assert_close(stacked.grad[:, net], gradient)


def test_one_net_has_no_peers():
    with pytest.raises(InputError, match="mutual: expected nets that learn from each other, found one net"):
        objective(LossWeights(2.0, 0.9, mutual=0.4))


def test_a_net_without_finite_logits_teaches_none_of_its_peers():
    wild = logits(3)
    wild[2:, 1, 0] = np.inf
    stacked = torch.from_numpy(wild).requires_grad_()
    found = objective(*[LossWeights(1.0, 0.0, mutual=1.0)] * 3)(stacked, batch())
    (gradient,) = torch.autograd.grad(found[:, [0, 2]].sum(), stacked)
    labels = [expected(wild[:, net], 1.0, 0.0, 1.0) for net in range(3)]
    first, last = (torch.from_numpy(wild[2:, net]).log_softmax(-1) for net in (0, 2))
    torch.testing.assert_close(found[2:, 0], torch.from_numpy(labels[0][2:]) + (last.exp() * (last - first)).sum(-1))
    assert torch.isfinite(found[:, [0, 2]]).all()
    assert torch.isfinite(gradient[:, [0, 2]]).all()
    assert not torch.isfinite(found[2:, 1]).any()
