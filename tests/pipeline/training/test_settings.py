"""What students are set by besides the training: what the settings are called, and what holds where none is given."""

from dataclasses import astuple

import pytest

from pipeline.base.errors import InputError
from pipeline.base.settings import check, settings_of
from pipeline.training.settings import Distillation, Views


def test_names_in_options_and_params():
    assert list(settings_of(Views)) == ["policy", "views", "view_seed"]
    assert list(settings_of(Distillation)) == [
        "teachers", "weights", "rule", "loss", "t_squared", "standardise", "alpha", "label_weight",
    ]  # fmt: skip


def test_what_need_not_be_given():
    """The row itself, and kl on mean probabilities with T², 9 parts to 1. Students of those who leave it out change with it."""
    assert astuple(Views()) == ("none", 1, 0)
    assert astuple(Distillation()) == ((), (), "probabilities", "kl", True, False, 0.9, None)


def test_a_row_has_one_view_at_least():
    check(Views(count=1, seed=-1))
    with pytest.raises(InputError, match="views: expected 1 or more, found 0"):
        check(Views(count=0))


def test_two_teachers_may_weigh_the_same_but_are_two():
    assert [key for key, (_, said) in settings_of(Distillation).items() if said.repeats] == ["weights"]
