"""Settings: each one is declared once, as a field of a frozen dataclass.

Its command-line option, its key in params.yaml, its check, and what an artifact records of it all follow from that field.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pipeline.base.errors import InputError

T = TypeVar("T")

Name = Annotated[str, "name"]  # the type of a setting that names a folder: safe in paths and in commands
_SAID = "setting"  # the key of a field's metadata that holds its Setting


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a setting has besides its name, type and default; make it with `setting`.

    above, least, most: bounds of a number, which must be finite. choices: the allowed texts, beside numbers where there are
    bounds. key: its name in options and in params.yaml, where the field has another name. repeats: whether a list may hold
    equal values.
    """

    help: str
    above: float | None = None
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    key: str | None = None
    repeats: bool = False

    @property
    def _bounded(self) -> bool:
        return self.above is not None or self.least is not None or self.most is not None

    @property
    def expected(self) -> str:
        """The allowed values, in words."""
        if self.choices and self._bounded:
            return f"{dataclasses.replace(self, choices=()).expected}, or {' or '.join(self.choices)}"
        if self.choices:
            return " or ".join(self.choices)
        if self.least is not None:
            return f"{self.least:g} or more" if self.most is None else f"a number from {self.least:g} to {self.most:g}"
        above = f"a number above {self.above:g}" if self.above is not None else "a finite number"
        return above if self.most is None else f"{above}, {self.most:g} at most"

    def allows(self, value: object) -> bool:
        """Whether a value of the right type is in range."""
        if self.choices and not (self._bounded and isinstance(value, int | float)):
            return value in self.choices
        if not isinstance(value, int | float):
            return True
        return (
            math.isfinite(value)
            and (self.above is None or value > self.above)
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
        )


def setting(help: str, *, default: Any = dataclasses.MISSING, **said: Any) -> Any:
    """A dataclass field for a setting, required if it has no default. said: the fields of Setting."""
    return dataclasses.field(default=default, metadata={_SAID: Setting(help, **said)})


def settings_of(kind: type) -> dict[str, tuple[dataclasses.Field[Any], Setting]]:
    """The settings of a dataclass by their keys, in order."""
    found = {field: field.metadata[_SAID] for field in dataclasses.fields(kind)}
    return {said.key or field.name: (field, said) for field, said in found.items()}


def check(settings: object) -> None:
    """Raise InputError for the first setting that is out of range; None is in every range."""
    for key, (field, said) in settings_of(type(settings)).items():
        value = getattr(settings, field.name)
        for each in value if isinstance(value, tuple) else (value,):
            if each is not None and not said.allows(each):
                raise InputError(key, expected=said.expected, found=repr(each), fix="Correct the setting.")


def gathered(kind: type[T], given: Mapping[str, Any]) -> T:
    """A dataclass of settings from values by key; other keys are ignored."""
    return kind(**{field.name: given[key] for key, (field, _) in settings_of(kind).items()})
