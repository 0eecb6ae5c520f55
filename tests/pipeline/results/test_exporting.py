"""The settings of an export."""

import pytest

from pipeline.base import settings
from pipeline.base.errors import InputError
from pipeline.results.exporting import Exporting


def test_they_have_defaults():
    settings.check(Exporting())
    assert Exporting() == Exporting(seed=None, softmax=False, license="other", calibration=256)


def test_calibration_needs_rows():
    with pytest.raises(InputError, match="calibration: expected 1 or more, found 0"):
        settings.check(Exporting(calibration=0))
