"""transformers: a net out of a folder that `save_pretrained` wrote. The library is imported when one is built."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.models import pretrained
from pipeline.models.pretrained import WHAT
from pipeline.models.processor import native_size, processor_of, require_same_pixels, scaling
from pipeline.models.scaled import Scaled, wrong_size
from pipeline.models.tokenizer import OfText, length_of, padding_of, require_plain_texts, tokenizer_of
from pipeline.models.zoo.requirements import require

POOLS = ("mean", "cls", "pooler")


def transformers(
    shape: Sequence[int], classes: int, path: str, head: str | None = None, pool: str | None = None, length: int | None = None
) -> nn.Module:
    """A classifier of images or texts, or a frozen encoder with a new head.

    Args:
        shape: Of an image, (channels, height, width); () for texts.
        classes: How many logits a new head returns; a classifier has its own number.
        path: The folder, with config.json, weights as safetensors, and for texts a tokenizer.
        head: None for a classifier as it is; "linear" for a new linear layer on the pooled output of an encoder, which stays
            as it is: training computes its outputs once (a linear probe; Alain & Bengio 2016, arXiv 1610.01644).
        pool: What of the encoder's output the head sees: the `mean` over tokens, that of the first token (`cls`), or the
            model's own `pooler`. None for what the folder's 1_Pooling/config.json says, else the mean.
        length: The most tokens of a text; what is longer is cut. None for the most that tokenizer and model take, up to 512.

    Returns:
        The net. The copy of a folder that a teacher keeps has no weights: from it comes a net with random ones.

    Raises:
        InputError: The library is not installed, or the folder does not hold such a model, or wants more done to images or
            texts than is done here.
    """
    require(head in (None, "linear"), f"{WHAT} head", "None or 'linear'", head)
    require(pool in (None, *POOLS), f"{WHAT} pool", " or ".join(POOLS), pool)
    require(pool is None or head is not None, f"{WHAT} pool", "none without head='linear'", pool)
    folder = Path(path)
    config = pretrained.config_of(folder)
    if len(shape) == 0:
        tokenizer = tokenizer_of(folder)
        padding = padding_of(folder, config, tokenizer, head)
        net = _net(folder, config, classes, head, pool, "SequenceClassification")
        if head is not None:
            require_plain_texts(folder, tokenizer)
        return OfText(net, tokenizer, padding, length_of(folder, config, net, head, length))
    require(length is None, f"{WHAT} length", "none for images", length)
    processor = processor_of(folder)
    facts = processor.to_dict()
    native = native_size(facts, config)
    if native is not None and native != tuple(shape[1:]):
        raise wrong_size(f"{WHAT}, {folder}, size of images", native, shape[1:])
    channels = getattr(config, "num_channels", 3)
    scaled = Scaled(
        _net(folder, config, classes, head, pool, "ImageClassification"), channels, *scaling(facts, channels), native
    )
    require_same_pixels(folder, processor, scaled)
    return scaled


class _Classifier(nn.Module):
    """The logits of a classifier."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, inputs: torch.Tensor, **more: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(inputs, **more).logits
        return logits


class _Encoder(nn.Module):
    """The pooled output of a pretrained encoder, (B, width); of unit length where `normalised`."""

    def __init__(self, model: nn.Module, pool: str, normalised: bool):
        super().__init__()
        self.model, self.pool, self.normalised = model, pool, normalised

    def forward(self, inputs: torch.Tensor, **more: torch.Tensor) -> torch.Tensor:
        output = self.model(inputs, **more)
        if self.pool == "pooler":
            pooled = output.pooler_output
            require(pooled is not None, f"{WHAT} pool", "mean or cls, as this model has no pooler", self.pool)
            pooled = pooled.flatten(1)
        else:
            states = output.last_hidden_state.flatten(2)
            states = states.transpose(1, 2) if output.last_hidden_state.dim() == 4 else states  # of a convolutional model
            mask = more["attention_mask"][:, :, None].to(states.dtype) if more else torch.ones_like(states[:, :, :1])
            pooled = states[:, 0] if self.pool == "cls" else (states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return nn.functional.normalize(pooled, dim=1) if self.normalised else pooled


class Probe(nn.Module):
    """A frozen encoder and a linear layer on its outputs. The encoder stays in evaluation mode."""

    def __init__(self, encoder: nn.Module, width: int, classes: int):
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        self.head: nn.Module = nn.Linear(width, classes)

    def train(self, mode: bool = True) -> "Probe":
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, inputs: torch.Tensor, **more: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            outputs = self.encoder(inputs, **more)
        logits: torch.Tensor = self.head(outputs)
        return logits


def probe_of(net: nn.Module) -> Probe | None:
    """The frozen encoder with its head in a net; None for any other net."""
    inner = net.net if isinstance(net, OfText | Scaled) else net
    return inner if isinstance(inner, Probe) else None


def _net(folder: Path, config: Any, classes: int, head: str | None, pool: str | None, kind: str) -> nn.Module:
    """The classifier of a folder, or its encoder with a new head."""
    if head is None:
        return _Classifier(pretrained.model_of(folder, kind, config))
    pretrained.require_modules(folder)
    trained = pool != "pooler" or (folder / pretrained.BARE).is_file() or pretrained.has_pooler(folder)
    require(trained, f"{WHAT} pool", "mean or cls, as the folder has no weights of a pooler", pool)
    model, way = pretrained.model_of(folder, "", config), pool or pretrained.pool_of(folder)
    return Probe(_Encoder(model, way, pretrained.normalised(folder)), pretrained.width_of(config), classes)
