"""Feature losses by name: what a student learns from a teacher's features, beside its logits and the labels."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.base import spec
from pipeline.base.errors import InputError
from pipeline.base.spec import Spec
from pipeline.models.watched import Feature
from pipeline.training.maps import AttentionTransfer, Between, Flow, Hint, Shape, Shapes
from pipeline.training.relations import Angles, Congruence, Contrast, Distances, Similarity

FEATURE_LOSSES: dict[str, type[Between]] = {
    "hint": Hint,
    "at": AttentionTransfer,
    "fsp": Flow,
    "sp": Similarity,
    "rkd_distance": Distances,
    "rkd_angle": Angles,
    "cc": Congruence,
    "crd": Contrast,
}
VERSIONS = {"hint": 1, "at": 1, "fsp": 1, "sp": 1, "rkd_distance": 1, "rkd_angle": 1, "cc": 1, "crd": 1}

_LIMITS = {"gamma": 100, "order": 100}  # powers and factorials of `cc` stay within float64
_MOST = 2**31 - 1  # of other whole numbers


@dataclass(frozen=True)
class FeatureLoss:
    """A loss between layers of a teacher and of a student; make it with `FeatureLoss.parse`, then `build` it.

    teacher, student: features, see models/watched.py: one each or, for `fsp`, two, such as `layer3` or `layer3 | pool`.
    weight: what the loss is multiplied by, above 0.
    """

    spec: Spec
    teacher: tuple[str, ...]
    student: tuple[str, ...]
    weight: float

    @classmethod
    def parse(cls, text: str) -> "FeatureLoss":
        """Parse the spec of a feature loss.

        Args:
            text: Such as `hint(teacher=layer3, student=layer3, weight=1)` or `fsp(teacher=[a, b], student=[a, b])`; a name
                that is not made of words and dots stands in quotes, as 'encoder.layer.3'.

        Returns:
            The loss.

        Raises:
            InputError: For an unknown name, another number of layers than the loss takes, and settings out of their range.
        """
        name = spec.built_in(text, FEATURE_LOSSES, f"features, {text}")
        parsed = spec.parse(text, FEATURE_LOSSES, VERSIONS, given=1, words=True)
        settings = dict(parsed.arguments)
        count = FEATURE_LOSSES[name].count
        teacher, student = (_layers(text, who, settings.pop(who), count) for who in ("teacher", "student"))
        for setting, value in settings.items():
            whole = setting in ("order", "width")
            most = _LIMITS.get(setting, _MOST if whole else sys.float_info.max)
            _require_number(f"features, {text}, {setting}", value, whole, most)
        return cls(parsed, teacher, student, float(settings["weight"]))

    @property
    def text(self) -> str:
        """The spec in canonical form."""
        return self.spec.text

    @property
    def contrasts(self) -> bool:
        """Whether it sets every example of a batch apart from all others: no two may be views of one row."""
        return self.spec.target is Contrast

    def build(self, teacher: Sequence[Shape], student: Sequence[Shape], rows: int) -> Between:
        """Make the loss for features of these shapes, with weights of its own from torch's generator.

        Args:
            teacher: The shape of one row of each of the teacher's layers, such as (64, 8, 8) or (128,).
            student: Likewise of the student's.
            rows: How many rows are learned from.

        Returns:
            A module that maps features of the teacher's layers and of the student's, (B, …) each, to the loss of each example,
            (B,) float32: not reduced, and without the weight.

        Raises:
            InputError: Where the shapes do not fit.
        """
        built: Between = self.spec(Shapes(teacher, student, rows))
        return built


def _layers(text: str, who: str, named: Any, count: int) -> tuple[str, ...]:
    """The features that a spec names, in canonical form. Raises InputError unless there are so many."""
    names = named if isinstance(named, list) else [named]
    if len(names) != count or not all(isinstance(name, str) for name in names):
        expected, fix = "two layers, such as [layer1, layer2]", "Name two layers by their modules in the net."
        if count == 1:
            expected = "one layer, such as layer3 or `layer3 | pool`"
            fix = "Name the layer by its module in the net; for several layers list the loss several times."
        raise InputError(f"features, {text}, {who}", expected=expected, found=repr(named), fix=fix)
    return tuple(Feature.parse(name).text for name in names)


def _require_number(what: str, value: Any, whole: bool, most: float) -> None:
    """Raise InputError unless a setting is a number above 0, finite, and whole if it must be."""
    number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not number or not 0 < value <= most:
        expected = ("a whole number" if whole else "a finite number") + " above 0"
        expected += "" if most >= _MOST else f", of at most {most:g}"
        raise InputError(what, expected=expected, found=repr(value), fix="Correct the setting.")
