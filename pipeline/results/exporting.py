"""Exporting: the settings of an export, in options and in params.yaml."""

from dataclasses import dataclass

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
