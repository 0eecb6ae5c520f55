"""Curriculum: a temperature that is learned beside a student and against it, so that soft targets become harder to match."""

import math

import torch
from torch import nn

from pipeline.base import spec
from pipeline.base.errors import InputError
from pipeline.base.spec import Spec
from pipeline.models.temperature import LEAST, MOST
from pipeline.training.course import Progress


class Heat(nn.Module):
    """T = least + range · sigmoid(p), where p is learned by gradients that are turned round: it climbs, the student descends.

    Li, Li, Yang, Zhao, Song, Luo, Li, Yang, "Curriculum Temperature for Knowledge Distillation" (2023, arXiv 2211.16231), the
    global version: one number for all rows. The gradient of p is multiplied by −λ, and λ grows from 0 to 1 over the first
    `epochs` as half a cosine; epochs count from 1, as in the published code. There p begins at 1, so that T is 15.6; here T
    begins at the temperature of the student. Left out: the version with a T of its own for every row.
    """

    def __init__(self, temperature: float, least: float = 1.0, range: float = 20.0, epochs: int = 10):
        super().__init__()
        share = (temperature - least) / range
        self.position = nn.Parameter(torch.tensor(math.log(share / (1 - share))))
        self.least, self.range, self.epochs = least, range, epochs

    def forward(self, progress: Progress) -> torch.Tensor:
        """T, one float64 number."""
        strength = (1 - math.cos(math.pi * min(progress.epoch / self.epochs, 1))) / 2
        held = self.position.detach()
        turned = held - strength * (self.position - held)  # its value, with a gradient of −λ
        return self.least + self.range * torch.sigmoid(turned.double())


CURRICULA = {"ctkd": Heat}
VERSIONS = {"ctkd": 1}


def parse_curriculum(text: str) -> Spec:
    """Parse how a temperature is learned, such as `ctkd(epochs=10)`; call it with the temperature to begin with.

    Raises InputError for an unknown name and for settings out of range.
    """
    what = f"learn_temperature {text!r}"
    spec.built_in(text, CURRICULA, what)
    parsed = spec.parse(text, CURRICULA, VERSIONS, given=1)
    values = dict(parsed.arguments)
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in values.values())
    if not numbers or type(values["epochs"]) is not int or values["epochs"] < 1:
        expected = "numbers, and a whole number of epochs, 1 or more"
        raise InputError(what, expected=expected, found=str(values), fix="Correct the setting.")
    if not (values["least"] >= LEAST and values["range"] > 0 and values["least"] + values["range"] <= MOST):
        expected = f"temperatures from {LEAST:g} to {MOST:g}, and a range above 0"
        raise InputError(what, expected=expected, found=str(values), fix="Correct the setting.")
    return parsed


def require_start(parsed: Spec, temperature: float) -> None:
    """Raise InputError for a temperature that is not between the least one and the greatest."""
    least, most = parsed.arguments["least"], parsed.arguments["least"] + parsed.arguments["range"]
    if not least < temperature < most:
        expected = f"one between {least:g} and {most:g}, where learn_temperature {parsed.text} begins"
        raise InputError("temperature", expected=expected, found=f"{temperature:g}", fix="Correct one of the two.")
