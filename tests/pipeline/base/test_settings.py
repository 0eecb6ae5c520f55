"""A setting is said in one place."""

import math
from dataclasses import dataclass

import pytest

from pipeline.base.errors import InputError
from pipeline.base.settings import Name, check, gathered, setting, settings_of


@dataclass(frozen=True)
class Odd:
    size: int = setting("How many.", above=0, most=9)
    share: float = setting("Of all.", default=0.5, least=0, most=1)
    more: int = setting("Beside them.", default=1, least=1, key="others")
    way: str = setting("Which.", default="up", choices=("up", "down"))
    count: int | str = setting("Or all.", default=1, least=1, choices=("all",))
    bound: float | None = setting("None for none.", default=None)
    names: tuple[Name, ...] = setting("Of all.", default=())
    weights: tuple[float, ...] = setting("Of all.", default=(), above=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 0}, "size: expected a number above 0, 9 at most, found 0."),
        ({"size": 10}, "size: expected a number above 0, 9 at most, found 10."),
        ({"share": -0.1}, "share: expected a number from 0 to 1, found -0.1."),
        ({"share": 1.1}, "share: expected a number from 0 to 1, found 1.1."),
        ({"more": 0}, "others: expected 1 or more, found 0."),
        ({"way": "left"}, "way: expected up or down, found 'left'."),
        ({"count": 0}, "count: expected 1 or more, or all, found 0."),
        ({"count": "most"}, "count: expected 1 or more, or all, found 'most'."),
        ({"bound": math.inf}, "bound: expected a finite number, found inf."),
        ({"bound": math.nan}, "bound: expected a finite number, found nan."),
        ({"weights": (1.0, 0.0)}, "weights: expected a number above 0, found 0.0."),
    ],
)
def test_a_setting_out_of_range_is_named(changes, message):
    with pytest.raises(InputError, match="Correct the setting") as raised:
        check(Odd(**{"size": 1} | changes))
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    "changes",
    [
        {"size": 9},
        {"share": 0},
        {"share": 1},
        {"more": 1},
        {"way": "down"},
        {"count": "all"},
        {"bound": -1e9},
        {"weights": (1, 1)},
    ],
)
def test_a_setting_in_range_is_fine(changes):
    check(Odd(**{"size": 1} | changes))


def test_settings_are_gathered_by_their_keys():
    assert list(settings_of(Odd)) == ["size", "share", "others", "way", "count", "bound", "names", "weights"]
    given = {
        "size": 2,
        "share": 0.1,
        "others": 3,
        "way": "up",
        "count": "all",
        "bound": None,
        "names": ("a",),
        "weights": (),
        "beside": 1,
    }
    assert gathered(Odd, given) == Odd(2, 0.1, 3, "up", "all", None, ("a",))
