"""What a capture can be asked to keep."""

import pytest

from pipeline.base.errors import InputError
from pipeline.base.settings import check
from pipeline.cache.settings import Keep


@pytest.mark.parametrize("settings", [{"knowledge": "topk"}, {"dtype": "int4"}, {"tile": 0}])
def test_settings_out_of_range(settings):
    with pytest.raises(InputError):
        check(Keep(**settings))


def test_int8_is_for_hidden_states():
    Keep(dtype="int8").require_dtype("hidden")
    with pytest.raises(InputError, match="dtype: expected float32 or float16, for logits, found int8"):
        Keep(dtype="int8").require_dtype("logits")
