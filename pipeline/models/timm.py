"""timm: a net of that library by name, such as `timm('resnet18')`. The library is imported when one is built."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from pipeline.base.libraries import needed, similar
from pipeline.models.scaled import Scaled, image_size, numbers
from pipeline.models.zoo.requirements import require


def timm(shape: Sequence[int], classes: int, name: str, size: Any = None, mean: Any = None, std: Any = None) -> nn.Module:
    """A net of timm, untrained; its weights come from a file, or from training.

    Args:
        shape: Of an image, (channels, height, width).
        classes: How many logits it returns.
        name: What timm calls it, such as `vit_base_patch16_224`; with the tag of its weights where the configuration of these
            is not the net's usual one, such as `vit_base_patch16_224.dino`.
        size: Height and width that its weights were trained at; None for those in timm's configuration.
        mean, std: What is subtracted from pixels in [0, 1], and what they are divided by then, for each channel; None for the
            values in timm's configuration.

    Raises:
        InputError: timm is not installed, it has no such net, or inputs are no images.
    """
    what = "model timm"
    given = image_size(what, shape, size)
    library = needed("timm", what)
    names = library.list_models()
    known = isinstance(name, str) and (name in names or name in library.list_pretrained())
    require(known, what, "the name of a net in timm", f"{name!r}{similar(str(name), names)}")
    fixed = {"img_size": tuple(shape[1:])} if library.get_pretrained_cfg(name).fixed_input_size else {}
    net = library.create_model(name, pretrained=False, num_classes=classes, **fixed)
    facts = library.data.resolve_data_config({}, pretrained_cfg=net.pretrained_cfg)
    channels, height, width = facts["input_size"]
    return Scaled(
        net, channels, numbers(f"{what} mean", mean, facts["mean"]), numbers(f"{what} std", std, facts["std"], above=0),
        given or (height, width),
    )  # fmt: skip
