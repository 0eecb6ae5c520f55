"""What the settings of a net must be."""

from pipeline.base.errors import InputError
from pipeline.models.zoo.layers import Dropout


def require(holds: bool, what: str, expected: str, found: object) -> None:
    """Raise InputError about a model unless `holds`."""
    if not holds:
        shown = found if isinstance(found, str) else repr(found)
        raise InputError(what, expected=expected, found=shown, fix="Correct the model's spec.")


def require_probability(what: str, value: object) -> None:
    """Raise InputError unless `value` is a share that Dropout can drop."""
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else -1.0
    holds = 0 <= number < 1 and Dropout(number).dropped < 65536
    require(holds, what, "a number in [0, 1), to 16 bits", value)


def sizes(value: object) -> bool:
    """Whether `value` is a list of whole numbers above 0."""
    return isinstance(value, list) and all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in value)
