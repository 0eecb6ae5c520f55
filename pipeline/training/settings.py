"""The settings of soft targets. No torch is needed."""

from dataclasses import dataclass

from pipeline.base.settings import Name, setting


@dataclass(frozen=True)
class Distillation:
    """The soft targets and the loss weights of students; see lesson.Soft, losses.SoftLoss,
    objective.LossWeights, course.Course."""

    teachers: tuple[Name, ...] = setting("Teachers whose caches to learn from; repeatable.", default=())
    weights: tuple[float, ...] = setting("Weight of each teacher; repeatable.  [default: equal]", default=(), repeats=True)
    rule: str = setting("Average probabilities or logits of several teachers.", default="probabilities")
    loss: str = setting("Soft loss: kl, ce, mse, dkd(…), dist(…), js, tv, mlkd(…).", default="kl")
    t_squared: bool = setting("Multiply the soft loss by T².", default=True)
    standardise: bool = setting("Scale logits of each row to mean 0 and std 1.", default=False)
    alpha: float = setting("Weight of the soft loss.", default=0.9)
    label_weight: float | None = setting("Weight of the labels.  [default: 1 − alpha]", default=None)
    temperature_schedule: str | None = setting("Factor on T over a training, such as `linear(end=0.25)`.", default=None)
    alpha_schedule: str | None = setting("Factor on alpha over a training, such as `linear`.", default=None)
    loss_warmup: int = setting("Epochs until the soft loss has its whole weight.", default=0, least=0)
    learn_temperature: str | None = setting("Learn T too, beginning with -T: `ctkd(least, range, epochs)`.", default=None)
    features: tuple[str, ...] = setting("Feature loss, such as hint(teacher=layer3, student=layer3); repeatable.", default=())
