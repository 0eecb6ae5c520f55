"""Courses: what they multiply by at which moment, and which are refused; see test_objective.py for what comes of it."""

import pytest

from pipeline.base.errors import InputError
from pipeline.training.course import START, STEADY, Course, Progress


def test_factors_by_hand():
    """T falls along a line to a quarter, alpha in two steps of a half; the loss is whole from the fourth epoch on."""
    course = Course.parse(temperature="linear(end=0.25)", alpha="step(milestones=[0.25, 0.5], factor=0.5)", warmup=4)
    moments = [Progress(1, 0.0), Progress(2, 0.25), Progress(4, 0.5), Progress(9, 1.0)]
    assert [course.on_temperature(each) for each in moments] == [1, 0.8125, 0.625, 0.25]
    assert [course.on_alpha(each) for each in moments] == [1, 0.5, 0.25, 0.25]
    assert [course.on_loss(each) for each in moments] == [0.25, 0.5, 1, 1]
    assert [each.text for each in course.specs] == [
        "linear(start=1.0, end=0.25)", "step(milestones=[0.25, 0.5], factor=0.5)",
    ]  # fmt: skip


def test_without_settings_nothing_changes():
    assert Course.parse() == STEADY
    assert STEADY.specs == []
    for progress in (START, Progress(7, 0.9)):
        assert STEADY.on_temperature(progress) == STEADY.on_alpha(progress) == STEADY.on_loss(progress) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": "linear"}, r"temperature_schedule linear.*: expected factors of at least 1e-06 from start to end"),
        ({"temperature": "cosine(warmup=0.5)"}, "temperature_schedule cosine"),
        ({"temperature": "warm"}, "spec warm"),
        ({"alpha": "linear(start=2)"}, "alpha_schedule 'linear.start=2.': expected numbers in"),
        ({"warmup": -1}, "loss_warmup: expected a whole number of epochs, 0 or more, found -1"),
    ],
)
def test_courses_that_leave_the_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Course.parse(**settings)
