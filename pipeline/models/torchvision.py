"""torchvision: a net of that library by name, such as `torchvision('resnet18')`. It is imported when one is built."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from pipeline.base.libraries import needed, similar
from pipeline.models.scaled import Scaled, image_size, numbers
from pipeline.models.zoo.requirements import require


def torchvision(
    shape: Sequence[int], classes: int, name: str, size: Any = None, mean: Any = None, std: Any = None
) -> nn.Module:
    """A net of torchvision, untrained; its weights come from a file, or from training.

    Args:
        shape: Of an image, (channels, height, width).
        classes: How many logits it returns.
        name: What torchvision calls it.
        size: Height and width that its weights were trained at; None for those of the library's own weights.
        mean, std: What is subtracted from pixels in [0, 1], and what they are divided by then, for each channel; None for the
            values that go with the library's own weights.

    Raises:
        InputError: torchvision is not installed, it has no such net, or inputs are no images.
    """
    what = "model torchvision"
    given = image_size(what, shape, size)
    library = needed("torchvision", what).models
    known = library.list_models(module=library)
    require(name in known, what, "the name of a net that classifies images", f"{name!r}{similar(str(name), known)}")
    facts = library.get_model_weights(name).DEFAULT.transforms()
    [side] = facts.crop_size
    fixed = {"image_size": shape[1]} if "vit_" in name else {}
    plain = name not in ("googlenet", "inception_v3")
    require(plain, what, "a net without more heads for training, and without a scaling of its own", repr(name))
    net = library.get_model(name, weights=None, num_classes=classes, **fixed)
    return Scaled(
        net,
        3,
        numbers(f"{what} mean", mean, facts.mean),
        numbers(f"{what} std", std, facts.std, above=0),
        given or (side, side),
    )
