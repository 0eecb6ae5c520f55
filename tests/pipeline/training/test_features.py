"""Feature losses by name: specs, what they refuse, and that no features give them a number that is none."""

import pytest
import torch

from pipeline.base.errors import InputError
from pipeline.training.features import FEATURE_LOSSES, FeatureLoss

NAMES = sorted(FEATURE_LOSSES)


def made(name, shape=(4, 3, 3), rows=100):
    """A loss, and how many layers it takes."""
    count = FEATURE_LOSSES[name].count
    layers = "layer3" if count == 1 else "[layer2, layer3]"
    torch.manual_seed(0)
    return FeatureLoss.parse(f"{name}(teacher={layers}, student={layers})").build([shape] * count, [shape] * count, rows), count


def test_a_spec_names_layers_and_a_weight():
    loss = FeatureLoss.parse("hint(teacher=layer3|pool, student='encoder.layer.3 | pool', weight=2)")
    assert (loss.teacher, loss.student, loss.weight) == (("layer3 | pool",), ("encoder.layer.3 | pool",), 2.0)
    assert loss.text == "hint(teacher='layer3 | pool', student='encoder.layer.3 | pool', weight=2)"
    assert FeatureLoss.parse(loss.text) == loss
    flow = FeatureLoss.parse("fsp([a, b.c], (d, e))")
    assert (flow.teacher, flow.student, flow.weight) == (("a", "b.c"), ("d", "e"), 1.0)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("hints(teacher=a, student=a)", "one of at, cc, crd"),
        ("plug:hint(teacher=a, student=a)", "one of at, cc, crd"),
        ("hint(teacher=a)", "teacher, student, weight"),
        ("hint(teacher=encoder.layer.3, student=a)", "'encoder.layer.3'"),
        ("hint(teacher=[a, b], student=a)", "teacher: expected one layer"),
        ("fsp(teacher=[a, b], student=b)", "Name two layers by their modules"),
        ("hint(teacher=3, student=a)", "teacher: expected one layer"),
        ("hint(teacher='', student=a)", "a layer, or one with a step"),
        ("hint(teacher=a, student=a | pol)", "a layer, or one with a step"),
        ("hint(teacher=a, student=a, weight=0)", "weight: expected a finite number above 0"),
        ("hint(teacher=a, student=a, weight=True)", "weight: expected a finite number above 0"),
        ("crd(teacher=a, student=a, temperature=-1)", "temperature: expected a finite number above 0"),
        ("cc(teacher=a, student=a, order=1.5)", "order: expected a whole number above 0"),
        ("cc(teacher=a, student=a, order=171)", "order: expected a whole number above 0, of at most 100"),
        ("cc(teacher=a, student=a, gamma=1e300)", "gamma: expected a finite number above 0, of at most 100"),
    ],
)
def test_bad_specs_say_what_was_expected(text, part):
    with pytest.raises(InputError) as caught:
        FeatureLoss.parse(text)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "teacher", "student", "part"),
    [
        ("hint(a, b)", [(8,)], [(4, 3, 3)], "(8,) of the teacher and (4, 3, 3) of the student"),
        ("hint(a, b)", [(3, 3)], [(3, 3)], "two vectors (C,), or two maps (C, H, W)"),
        ("at(a, b)", [(8,)], [(4, 3, 3)], "maps of attention (H, W)"),
        ("fsp([a, b], [c, d])", [(4, 3, 3), (8, 3, 3)], [(4, 3, 3), (6, 3, 3)], "(4, 3, 3) and (6, 3, 3) of the student"),
        ("fsp([a, b], [c, d])", [(4,), (8,)], [(4,), (8,)], "maps (C, H, W), with as many channels"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_with_the_names_of_layers(text, teacher, student, part):
    with pytest.raises(InputError) as caught:
        FeatureLoss.parse(text).build(teacher, student, 100)
    assert part in str(caught.value)
    assert "of the teacher and" in caught.value.what


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", ["one row", "equal rows", "zeros", "a row of zeros", "large", "tiny"])
def test_no_features_give_a_gradient_that_is_none(name, case):
    """From float16 of a cache, as many losses as rows; and gradients that are not far out of proportion."""
    loss, count = made(name)
    generator = torch.Generator().manual_seed(1)
    features = [torch.randn(1 if case == "one row" else 6, 4, 3, 3, generator=generator) for _ in range(count)]
    student = [each.flip(1).clone() for each in features]
    for each in (*features, *student):
        if case == "equal rows":
            each[:] = each[0].clone()
        if case == "zeros":
            each.zero_()
        each *= {"large": 1e4, "tiny": 1e-7}.get(case, 1)
    if case == "a row of zeros":
        student[0][2] = 0
    student = [each.requires_grad_() for each in student]
    found = loss([each.half() for each in features], student)
    assert found.shape == (len(features[0]),)
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    found.mean().backward()
    gradients = [each.grad for each in (*student, *loss.parameters())]
    assert all(each is None or each.isfinite().all() for each in gradients)
    if case in ("zeros", "equal rows", "a row of zeros"):
        assert all(each is None or each.abs().max() < 1e3 for each in gradients)


def test_the_greatest_settings_are_numbers():
    FeatureLoss.parse("cc(teacher=a, student=a, gamma=100, order=100)").build([(4,)], [(4,)], 9)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_features_cost_nothing_and_others_do(name):
    """But for projections, which have yet to be learned."""
    loss, count = made(name)
    generator = torch.Generator().manual_seed(1)
    features = [torch.randn(6, 4, 3, 3, generator=generator) for _ in range(count)]
    if not list(loss.parameters()):
        assert loss(features, features).abs().max() < 1e-6
    assert loss(features, [torch.randn(6, 4, 3, 3, generator=generator) for _ in features]).min() > 1e-5
