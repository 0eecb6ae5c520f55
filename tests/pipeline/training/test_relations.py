"""Losses of relations against the forms in which they were published, in value and gradient."""

import math

import pytest
import torch
from torch.nn import functional

from pipeline.training import relations
from pipeline.training.maps import Shapes

B = 18  # rows: more than one block of angles


def features(spread=1.0):
    """Of teacher and student, of unlike sizes, neither of mean 0."""
    generator = torch.Generator().manual_seed(1)
    teacher = torch.randn(B, 3, 2, 2, generator=generator, dtype=torch.float64) * spread + 1
    return teacher, (torch.randn(B, 5, generator=generator, dtype=torch.float64) + 2).requires_grad_()


def assert_published(name, published, rtol=1e-9, rows=50, **settings):
    """The mean over examples is the published loss: value, and gradient of student and weights."""
    teacher, student = features()
    torch.manual_seed(0)
    loss = getattr(relations, name)(Shapes([(3, 2, 2)], [(5,)], rows), "t", "s", **settings).double()
    leaves = [student, *loss.parameters()]
    ours, theirs = loss.loss([teacher], [student]).mean(), published(teacher.flatten(1), student, loss)
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=1e-14)
    gradients = (torch.autograd.grad(each, leaves) for each in (ours, theirs))
    for our, their in zip(*gradients, strict=True):
        torch.testing.assert_close(our, their, rtol=rtol, atol=1e-12)


def test_similarity_preserving():
    """‖G_s − G_t‖² / B², by the code of Tian et al."""

    def published(teacher, student, _):
        g_s, g_t = (functional.normalize(torch.mm(each, torch.t(each))) for each in (student, teacher))
        return ((g_t - g_s) * (g_t - g_s)).view(-1, 1).sum(0).squeeze() / (B * B)

    assert_published("Similarity", published)


def huber(x):
    return 0.5 * x**2 if abs(x) <= 1 else abs(x) - 0.5


def test_relational_distances():
    """The authors': distances over their mean, Huber's loss of every pair, of B² pairs."""

    def published(teacher, student, _):
        def distances(rows):
            found = [[(one - other).pow(2).sum().sqrt() if one is not other else 0 for other in rows] for one in rows]
            mean = sum(map(sum, found)) / (B * (B - 1))
            return [each / mean for row in found for each in row]

        pairs = zip(distances(list(student)), distances(list(teacher)), strict=True)
        return sum(huber(given - wanted) for given, wanted in pairs) / B**2

    assert_published("Distances", published)


def test_relational_angles():
    """The authors': cosines between the directions to two others, of B³ triples; that to the row itself is 0."""

    def published(teacher, student, _):
        total = torch.zeros((), dtype=torch.float64)
        for row in range(B):
            others = [each for each in range(B) if each != row]
            cosines = []
            for rows in (student, teacher):
                directions = functional.normalize(rows[others] - rows[row])
                cosines.append(directions @ directions.T)
            total = total + functional.smooth_l1_loss(*cosines, reduction="sum")
        return total / B**3

    assert_published("Angles", published)


@pytest.mark.parametrize(("gamma", "order"), [(0.4, 2), (0.7, 3)])
def test_correlation_congruence(gamma, order):
    """As it is written: a matrix of zeros, to which the terms of the series are added."""

    def published(teacher, student, _):
        def matrix(rows):
            products = functional.normalize(rows) @ functional.normalize(rows).T
            found = torch.zeros_like(products)
            for p in range(order + 1):
                found = found + math.exp(-2 * gamma) * (2 * gamma) ** p / math.factorial(p) * torch.pow(products, p)
            return found

        return functional.mse_loss(matrix(student), matrix(teacher))

    assert_published("Congruence", published, gamma=gamma, order=order)


def test_many_terms_of_the_series_are_the_kernel():
    teacher, student = features()
    loss = relations.Congruence(Shapes([(3, 2, 2)], [(5,)], 50), "t", "s", gamma=0.4, order=12)
    kernels = [torch.exp(-0.4 * torch.cdist(*[functional.normalize(rows.flatten(1))] * 2) ** 2) for rows in (student, teacher)]
    torch.testing.assert_close(loss.loss([teacher], [student]).mean(), functional.mse_loss(*kernels), rtol=1e-6, atol=0)


@pytest.mark.parametrize("rows", [B, 5000])
def test_contrast(rows):
    """The authors' noise-contrastive loss from both sides, with the batch as their bank.

    Where the batch is the whole transfer set, the constant is theirs, M times the mean of all.
    """

    def published(teacher, student, loss):
        wanted, given = (functional.normalize(head(each)) for head, each in zip(loss.heads, (teacher, student), strict=True))
        scores = torch.exp(given @ wanted.T / 0.07)
        own, all_of_them = scores.diagonal(), scores.sum(1)
        constant = (own + (rows - 1) * (all_of_them - own) / (B - 1)).mean().item()
        if rows == B:
            assert constant == pytest.approx(scores.mean().item() * B)
        noise, total = (B - 1) / rows, 0
        for out in (scores / constant, scores.T / constant):
            for row in range(B):
                total = total - torch.log(out[row, row] / (out[row, row] + noise))
                for other in range(B):
                    if other != row:
                        total = total - torch.log(noise / (out[row, other] + noise))
        return total / B

    assert_published("Contrast", published, rtol=1e-7, rows=rows)


@pytest.mark.parametrize("name", ["Distances", "Angles"])
def test_features_far_from_zero_lie_to_each_other_as_they_did(name):
    """In float32 too: their mean is taken away before products, of which distances are small differences."""
    loss = getattr(relations, name)(Shapes([(3, 2, 2)], [(5,)], 50), "t", "s")
    teacher, student = (each.detach() for each in features())
    exact = loss.loss([teacher], [student])
    torch.testing.assert_close(loss([teacher.float() + 100], [student.float() + 100]).double(), exact, rtol=2e-4, atol=0)


def test_the_loss_of_a_row_is_its_own_part():
    """Where one row lies elsewhere, it is the one with the greatest loss."""
    for name in ("Similarity", "Distances", "Angles", "Congruence"):
        teacher, student = features()
        student = teacher.flatten(1).clone()
        student[7] = -3 * student[7]
        loss = getattr(relations, name)(Shapes([(3, 2, 2)], [(12,)], 50), "t", "s")
        assert loss.loss([teacher], [student]).argmax() == 7, name


@pytest.mark.parametrize("name", ["Distances", "Angles"])
def test_rows_that_lie_as_near_as_rounding_are_one_place(name):
    """They are not driven apart in whatever direction rounding left between them."""
    teacher, student = features()
    student = student.detach()
    student[1] = student[0] + 1e-5
    student.requires_grad_()
    loss = getattr(relations, name)(Shapes([(3, 2, 2)], [(5,)], 50), "t", "s")
    teacher = teacher.clone()
    teacher[1] = teacher[0] + 1e-2  # so that all else pulls at both alike
    [gradient] = torch.autograd.grad(loss.loss([teacher], [student]).sum(), student)
    assert (gradient[1] - gradient[0]).abs().max() < 0.1 * gradient[0].abs().max()
