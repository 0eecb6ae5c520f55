"""Ranges: what the settings of steps may be."""

import math
from dataclasses import dataclass
from typing import Any, Protocol


class Range(Protocol):
    """The values that a setting may have. expected: these in words, for a message."""

    @property
    def expected(self) -> str: ...

    def allows(self, value: Any) -> bool: ...


@dataclass(frozen=True)
class Number:
    """A number, or a whole number, from `least` to `most`."""

    least: float
    most: float = math.inf
    whole: bool = False

    @property
    def expected(self) -> str:
        what = "whole number" if self.whole else "number"
        if self.least == -math.inf:
            return f"a {what}"
        return f"a {what} from {self.least:g}" + f" to {self.most:g}" * (self.most < math.inf)

    def allows(self, value: Any) -> bool:
        number = isinstance(value, int if self.whole else int | float) and not isinstance(value, bool)
        return number and self.least <= value <= self.most


@dataclass(frozen=True)
class Pair:
    """Two numbers from `least` to `most`, the smaller one first."""

    least: float
    most: float

    @property
    def expected(self) -> str:
        return f"[low, high], numbers from {self.least:g} to {self.most:g}"

    def allows(self, value: Any) -> bool:
        number = Number(self.least, self.most)
        return isinstance(value, list | tuple) and len(value) == 2 and all(map(number.allows, value)) and value[0] <= value[1]


@dataclass(frozen=True)
class Choice:
    """One of some texts."""

    choices: tuple[str, ...]

    @property
    def expected(self) -> str:
        return " or ".join(map(repr, self.choices))

    def allows(self, value: Any) -> bool:
        return value in self.choices
