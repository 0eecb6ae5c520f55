"""Course: how the temperature and the weight of the soft loss change while a student trains."""

from dataclasses import dataclass
from typing import NamedTuple

from pipeline.base.errors import InputError
from pipeline.base.spec import Spec
from pipeline.models.temperature import LEAST
from pipeline.training.recipe import parse_schedule


class Progress(NamedTuple):
    """Where in a training a step is. epoch: the number of its epoch, from 1. done: the share of all steps before it."""

    epoch: int
    done: float


START = Progress(1, 0.0)


@dataclass(frozen=True)
class Course:
    """Factors on T, on alpha and on the soft loss, each a function of how far a training is; make it with `Course.parse`.

    temperature: a schedule; both distributions are softened by the T of the step, and T² is of that T. Annealing-KD softens
    the teacher alone: Jafari, Rezagholizadeh, Sharma, Ghodsi, "Annealing Knowledge Distillation" (2021, arXiv 2104.07163),
    whose T falls linearly to 1.
    alpha: a schedule; where the weight of the labels is not given, it is 1 − alpha of the step. With `linear` this is teacher
    annealing: Clark, Luong, Khandelwal, Manning, Le, "BAM! Born-Again Multi-Task Networks" (2019, arXiv 1907.04829).
    warmup: epochs; in epoch e, from 1, the soft loss is multiplied by min(e / warmup, 1), and nothing else is, as in the
    published code of DKD (Zhao et al. 2022, arXiv 2203.08679), where it is 20. 0 for none.
    """

    temperature: Spec | None = None
    alpha: Spec | None = None
    warmup: int = 0

    @classmethod
    def parse(cls, *, temperature: str | None = None, alpha: str | None = None, warmup: int = 0) -> "Course":
        """Parse schedules, specs such as `linear(end=0.25)`; None for a factor of 1 throughout.

        Raises InputError for one that does not parse or leaves [0, 1], for a temperature that becomes 0, and for a warm-up
        that is no whole number of at least 0.
        """
        heat = None if temperature is None else parse_schedule(temperature, "temperature_schedule")
        if heat and not all(heat(share) >= LEAST for share in (0.0, 0.25, 0.5, 0.75, 1.0)):
            expected, found = f"factors of at least {LEAST:g} from start to end", "one that is less"
            fix = "Write for example `linear(end=0.25)`."
            raise InputError(f"temperature_schedule {heat.text}", expected=expected, found=found, fix=fix)
        if type(warmup) is not int or warmup < 0:
            expected = "a whole number of epochs, 0 or more"
            raise InputError("loss_warmup", expected=expected, found=repr(warmup), fix="Correct the setting.")
        return cls(heat, None if alpha is None else parse_schedule(alpha, "alpha_schedule"), warmup)

    @property
    def specs(self) -> list[Spec]:
        """The schedules, each of which may name a plug-in."""
        return [each for each in (self.temperature, self.alpha) if each is not None]

    def on_temperature(self, progress: Progress) -> float:
        """The factor on T."""
        return 1.0 if self.temperature is None else float(self.temperature(progress.done))

    def on_alpha(self, progress: Progress) -> float:
        """The factor on alpha."""
        return 1.0 if self.alpha is None else float(self.alpha(progress.done))

    def on_loss(self, progress: Progress) -> float:
        """The factor on the soft loss, beside that on alpha."""
        return min(progress.epoch / self.warmup, 1.0) if self.warmup else 1.0


STEADY = Course()
