"""Settings: one field of a frozen dataclass says all there is to say of one.

From it follow the option of the commands, the key in params.yaml, the check, and what an artifact says of it.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pipeline.base.errors import InputError

T = TypeVar("T")

Name = Annotated[str, "name"]  # the type of a setting that names a folder: safe in paths and in commands
_SAID = "setting"  # where a field has its Setting


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is said of a setting besides its name, type and default; make it with `setting`.

    above, least, most: bounds of a number, which is finite. choices: the texts that it may be. key: what it is called in
    options and in params.yaml, where its field is called otherwise. repeats: whether values of a list may be equal.
    """

    help: str
    above: float | None = None
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    key: str | None = None
    repeats: bool = False

    @property
    def expected(self) -> str:
        """What it may be, in words."""
        if self.choices:
            return " or ".join(self.choices)
        if self.least is not None:
            return f"{self.least:g} or more" if self.most is None else f"a number from {self.least:g} to {self.most:g}"
        above = f"a number above {self.above:g}" if self.above is not None else "a finite number"
        return above if self.most is None else f"{above}, {self.most:g} at most"

    def allows(self, value: object) -> bool:
        """Whether a value of its type is in its range."""
        if self.choices:
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
    """The field of a setting; without a default it has to be given. said: see Setting."""
    return dataclasses.field(default=default, metadata={_SAID: Setting(help, **said)})


def settings_of(kind: type) -> dict[str, tuple[dataclasses.Field[Any], Setting]]:
    """The settings of a dataclass by their keys, in order."""
    found = {field: field.metadata[_SAID] for field in dataclasses.fields(kind)}
    return {said.key or field.name: (field, said) for field, said in found.items()}


def check(settings: object) -> None:
    """Raise InputError for the first setting that is out of its range; None is in every range."""
    for key, (field, said) in settings_of(type(settings)).items():
        value = getattr(settings, field.name)
        for each in value if isinstance(value, tuple) else (value,):
            if each is not None and not said.allows(each):
                raise InputError(key, expected=said.expected, found=repr(each), fix="Correct the setting.")


def gathered(kind: type[T], given: Mapping[str, Any]) -> T:
    """A dataclass of settings out of values by key, among which there may be others."""
    return kind(**{field.name: given[key] for key, (field, _) in settings_of(kind).items()})
