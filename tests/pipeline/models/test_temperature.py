"""What a temperature may be."""

import math

import pytest

from pipeline.base.errors import InputError
from pipeline.models.temperature import require_temperature


@pytest.mark.parametrize("value", [1e-6, 1, 20.0, 1e6])
def test_numbers_within_reach(value):
    require_temperature(value)


@pytest.mark.parametrize("value", [0, -1, 0.99e-6, 1.01e6, math.inf, -math.inf, math.nan])
def test_others_are_refused(value):
    with pytest.raises(InputError, match="temperature: expected a number from 1e-06 to 1e"):
        require_temperature(value)
