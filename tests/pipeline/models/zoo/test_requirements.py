"""What settings of nets must be: the message names them."""

import pytest

from pipeline.base.errors import InputError
from pipeline.models.zoo.requirements import require, require_probability, sizes


def test_what_does_not_hold_is_told():
    require(True, "mlp hidden", "a list", 3)
    with pytest.raises(InputError, match=r"^mlp hidden: expected a list, found 3\. Correct the model's spec\.$"):
        require(False, "mlp hidden", "a list", 3)
    with pytest.raises(InputError, match="found three"):
        require(False, "mlp hidden", "a list", "three")


@pytest.mark.parametrize("value", [0, 0.5, 0.999])
def test_shares_that_can_be_dropped(value):
    require_probability("dropout", value)


@pytest.mark.parametrize("value", [-0.1, 1, 0.999999, True, "0.5", None])
def test_shares_that_cannot_be_dropped(value):
    with pytest.raises(InputError, match=r"dropout: expected a number in \[0, 1\), to 16 bits"):
        require_probability("dropout", value)


def test_sizes():
    assert sizes([1, 20])
    assert sizes([])
    assert not any(sizes(each) for each in ([0], [1.0], [True], (1,), 3, None))
