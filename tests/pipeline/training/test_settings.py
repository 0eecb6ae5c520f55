"""What students are set by besides the training: what the settings are called, and what holds where none is given."""

from dataclasses import astuple

from pipeline.base.settings import settings_of
from pipeline.training.settings import Distillation


def test_names_in_options_and_params():
    assert list(settings_of(Distillation)) == [
        "teachers", "weights", "rule", "loss", "t_squared", "standardise", "alpha", "label_weight",
        "temperature_schedule", "alpha_schedule", "loss_warmup", "learn_temperature", "features",
    ]  # fmt: skip


def test_what_need_not_be_given():
    """kl on mean probabilities with T², 9 parts to 1. Students of those who leave it out change with it."""
    assert astuple(Distillation()) == ((), (), "probabilities", "kl", True, False, 0.9, None, None, None, 0, None, ())


def test_two_teachers_may_weigh_the_same_but_are_two():
    assert [key for key, (_, said) in settings_of(Distillation).items() if said.repeats] == ["weights"]
