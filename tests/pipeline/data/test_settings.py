"""What views are set by: what the settings are called, and what holds where none is given."""

from dataclasses import astuple

import pytest

from pipeline.base.errors import InputError
from pipeline.base.settings import check, settings_of
from pipeline.data.settings import Views


def test_names_in_options_and_params():
    assert list(settings_of(Views)) == ["policy", "views", "view_seed"]


def test_what_need_not_be_given():
    """The row itself."""
    assert astuple(Views()) == ("none", 1, 0)


def test_a_row_has_one_view_at_least():
    check(Views(count=1, seed=-1))
    check(Views(count="all"))
    for count in (0, "every"):
        with pytest.raises(InputError, match=f"views: expected 1 or more, or all, found {count!r}"):
            check(Views(count=count))
