"""The settings of an export."""

import pytest

from pipeline.base import settings
from pipeline.base.errors import InputError
from pipeline.results.exporting import Exporting


def test_they_have_defaults():
    settings.check(Exporting())
    assert Exporting() == Exporting(seed=None, softmax=False, license="other", calibration=256)


@pytest.mark.parametrize("name", ["", "mine: #1", "mit\n", "apache 2", "é"])
def test_a_licence_is_a_name_of_the_hub(name):
    with pytest.raises(InputError, match="license: expected letters, digits, '.', '\\+' and '-', found"):
        Exporting(license=name)
    Exporting(license="bigscience-bloom-rail-1.0")


def test_calibration_needs_rows():
    with pytest.raises(InputError, match="calibration: expected 1 or more, found 0"):
        settings.check(Exporting(calibration=0))
