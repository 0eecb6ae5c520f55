"""Training: the settings of a training, in options, in params.yaml and in model.json. No torch is needed.

To add a setting, add a field here and use it where it matters.
"""

from dataclasses import dataclass

from pipeline.base.settings import setting


@dataclass(frozen=True, kw_only=True)
class Training:
    """The settings of a training. In model.json, what they name is stored as identities; see spec.Spec."""

    optimizer: str = setting("Such as `sgd(lr=0.1, momentum=0.9)` or `adamw(lr=0.001)`.")
    schedule: str = setting("constant, cosine(warmup=…), step(milestones=[…]), one_cycle(…), linear(…).", default="constant")
    epochs: int = setting("Passes over the rows.", above=0)
    batch_size: int = setting("Rows per step.", above=0)
    # the L2 norm, enforced after every step (Hinton et al. 2012, arXiv 1207.0580); None for no limit
    max_norm: float | None = setting("Largest L2 norm of the weights into a unit.", default=None, above=0)
    # the L2 norm of all gradients of a net (Pascanu, Mikolov, Bengio 2013, arXiv 1211.5063); None for no limit
    clip_grad: float | None = setting("Largest L2 norm of a step's gradient.", default=None, above=0)
    # of the cross-entropy with the labels, not of the soft loss (Szegedy et al. 2016, arXiv 1512.00567, section 7)
    label_smoothing: float = setting("Share of a label that all classes have between them.", default=0.0, least=0, most=1)
    # see losses.tf_kd: in place of the cross-entropy with the labels (Yuan et al. 2020, arXiv 1909.11723)
    virtual_teacher: str | None = setting("Labels as a teacher too, such as `tf_kd(weight=0.1)`.", default=None)
    # batch augmentation (Hoffer et al. 2020, arXiv 1901.09335); a step has batch_size rows in so many views
    draws: int = setting("Different views of each row in a batch.", default=1, above=0, most=64)
    # the averaged weights are what is validated, kept and saved; see fit.py
    ema: float | None = setting("Decay of averaged weights, such as 0.999.", default=None, above=0, most=0.999999)
    # see examples.py; float64 holds bytes exactly up to this maximum
    memory: float = setting("GB for inputs and cached logits; more data than that is streamed.", default=4.0, above=0, most=1e9)
    # the best epoch has the lowest validation NLL; patience counts epochs in a row that were not the best
    keep: str = setting(
        "Which weights to keep: of the last epoch, or of the best on valid.", default="last", choices=("last", "best")
    )
    patience: int | None = setting("With keep best: stop after so many epochs without a better one.", default=None, above=0)
    # products of the forward and backward pass (torch.autocast); weights stay float32, losses float64
    precision: str = setting(
        "Precision of products in training: float32 or bfloat16.", default="float32", choices=("float32", "bfloat16")
    )
