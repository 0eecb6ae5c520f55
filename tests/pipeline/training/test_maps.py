"""Losses of a row's features against the forms in which they were published, in value and gradient."""

import pytest
import torch
from torch.nn import functional

from pipeline.training import maps
from pipeline.training.maps import AttentionTransfer, Flow, Hint, Shapes


def random(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(kind, teacher, student):
    """A loss in float64, as its formula is."""
    torch.manual_seed(0)
    return kind(Shapes([each.shape[1:] for each in teacher], [each.shape[1:] for each in student], 10), "t", "s").double()


def assert_published(kind, teacher, student, published):
    """The mean over examples is the published loss: value, and gradient of student and weights."""
    loss = made(kind, teacher, student)
    leaves = [each.requires_grad_() for each in student] + list(loss.parameters())
    ours, theirs = loss.loss(teacher, student).mean(), published(loss)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)
    gradients = (torch.autograd.grad(each, leaves) for each in (ours, theirs))
    for our, their in zip(*gradients, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-9, atol=1e-14)


def test_a_hint_is_the_squared_error_of_a_projection_that_is_learned():
    teacher, student = random(5, 7, 3, 3, seed=1), random(5, 4, 3, 3, seed=2)

    def published(loss):
        projected = torch.einsum("tc,bchw->bthw", loss.projection.weight[:, :, 0, 0], student)
        return (projected + loss.projection.bias[:, None, None] - teacher).pow(2).mean()

    assert_published(Hint, [teacher], [student], published)


def test_a_hint_of_vectors():
    teacher, student = random(5, 7, seed=1), random(5, 4, seed=2)

    def published(loss):
        return functional.mse_loss(torch.einsum("tc,bc->bt", loss.projection.weight, student) + loss.projection.bias, teacher)

    assert_published(Hint, [teacher], [student], published)


def test_a_hint_averages_the_larger_map():
    """Along each axis by itself."""
    teacher, student = random(5, 3, 4, 2, seed=1), random(5, 3, 2, 6, seed=2)

    def published(loss):
        halved = teacher.view(5, 3, 2, 2, 2).mean(3)
        thirds = student.view(5, 3, 2, 2, 3).mean(4)
        projected = torch.einsum("tc,bchw->bthw", loss.projection.weight[:, :, 0, 0], thirds)
        return (projected + loss.projection.bias[:, None, None] - halved).pow(2).mean()

    assert_published(Hint, [teacher], [student], published)


def at(maps):
    """`at` of the authors' code."""
    return functional.normalize(maps.pow(2).mean(1).view(maps.size(0), -1))


def test_attention_transfer_of_the_authors():
    teacher, student = random(5, 7, 3, 3, seed=1), random(5, 4, 3, 3, seed=2)
    assert_published(AttentionTransfer, [teacher], [student], lambda _: (at(student) - at(teacher)).pow(2).mean())


def test_a_map_of_attention_gives_what_the_features_give():
    """Of other sizes too: what is cached decides nothing."""
    teacher, student = random(5, 7, 6, 4, seed=1), random(5, 4, 3, 2, seed=2)
    cached = teacher.pow(2).mean(1)
    theirs = made(AttentionTransfer, [cached], [student]).loss([cached], [student])
    torch.testing.assert_close(made(AttentionTransfer, [teacher], [student]).loss([teacher], [student]), theirs)
    small = functional.normalize(functional.avg_pool2d(cached, 2).flatten(1))
    assert_published(AttentionTransfer, [teacher], [student], lambda _: (at(student) - small).pow(2).mean())


def fsp(bottom, top):
    """The matrices as Tian et al. compute them: every pair of channels, side by side."""
    if bottom.shape[2] > top.shape[2]:
        bottom = functional.adaptive_avg_pool2d(bottom, (top.shape[2], top.shape[2]))
    bottom, top = bottom.unsqueeze(1).flatten(3), top.unsqueeze(2).flatten(3)
    return (bottom * top).mean(-1)


def test_flow_as_published():
    """Of layers of two sizes; the nets' sizes differ too."""
    teacher, student = (
        [random(5, 3, 8, 8, seed=1), random(5, 4, 4, 4, seed=2)],
        [random(5, 3, 4, 4, seed=3), random(5, 4, 2, 2, seed=4)],
    )
    assert_published(Flow, teacher, student, lambda _: (fsp(*student) - fsp(*teacher)).pow(2).mean())


@pytest.mark.parametrize(("taken", "given"), [((7, 5), (3, 5)), ((8, 8), (4, 2)), ((6, 9), (4, 4))])
def test_maps_are_averaged_as_torch_does(taken, given):
    values = torch.randn(2, 3, *taken, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(maps._averaged(values, given), functional.adaptive_avg_pool2d(values, given))
