"""The built-in nets by name, and their versions."""

from collections.abc import Callable

from torch import nn

from pipeline.models.zoo.bag import bag
from pipeline.models.zoo.cnn import cnn
from pipeline.models.zoo.mlp import mlp

MODELS: dict[str, Callable[..., nn.Module]] = {"mlp": mlp, "cnn": cnn, "bag": bag}
VERSIONS = {"mlp": 1, "cnn": 1, "bag": 1}
