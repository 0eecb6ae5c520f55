"""The built-in nets by name, and their versions."""

from collections.abc import Callable

from torch import nn

from pipeline.models.zoo.bag import bag
from pipeline.models.zoo.cnn import cnn
from pipeline.models.zoo.mlp import mlp
from pipeline.models.zoo.resnet import resnet
from pipeline.models.zoo.wide_resnet import wide_resnet

MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp, "cnn": cnn, "resnet": resnet, "wide_resnet": wide_resnet, "bag": bag,
}  # fmt: skip
VERSIONS = {"mlp": 1, "cnn": 1, "resnet": 1, "wide_resnet": 1, "bag": 2}
