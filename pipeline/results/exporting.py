"""Exporting: the settings of an export, in options and in params.yaml."""

import re
from dataclasses import dataclass

from pipeline.base.errors import InputError
from pipeline.base.settings import setting


@dataclass(frozen=True, kw_only=True)
class Exporting:
    """The settings of an export; see export.py."""

    seed: int | None = setting(
        "Seed of the net to export.  [default: that of the lowest NLL on the validation split]", default=None
    )
    softmax: bool = setting("Let the ONNX models return probabilities, and not logits.", default=False)
    license: str = setting("Licence of the model, as the Hugging Face Hub names it.", default="other")
    calibration: int = setting("Training rows that show the int8 model the ranges of values.", default=256, least=1)

    def __post_init__(self) -> None:
        """Raise InputError for a licence that cannot be one of the Hub's names."""
        if not re.fullmatch(r"[A-Za-z0-9.+-]+", self.license):
            expected, fix = "letters, digits, '.', '+' and '-'", "Name it as the Hub does, such as `apache-2.0`, or `other`."
            raise InputError("license", expected=expected, found=repr(self.license), fix=fix)
