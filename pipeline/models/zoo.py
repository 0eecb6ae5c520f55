"""Small built-in nets. A net takes the inputs of a batch, scales or encodes them itself, and returns logits (B, classes)."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from pipeline.base.errors import InputError
from softcache_export import encoded


class Pixels(nn.Module):
    """The first layer of a net: uint8 pixels to float32 in [0, 1], so that pixels are stored and moved as bytes.

    All other numbers stay as they are: what they range over, their dtype does not say.
    """

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Scale inputs.

        Args:
            inputs: Numbers of any shape.

        Returns:
            float32, of the same shape.
        """
        values = inputs.to(torch.float32)
        return values / 255 if inputs.dtype == torch.uint8 else values


class Dropout(nn.Module):
    """Zeroes each value with probability p while training and divides the others by 1 - p (Hinton et al. 2012).

    Like torch.nn.Dropout, with p rounded to a multiple of 1/65536: a mask takes 16 random bits per value. On a CPU that is
    five times as fast as torch's Bernoulli draws, which take half of the time of a step.
    """

    def __init__(self, p: float):
        super().__init__()
        self.dropped = round(p * 65536)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values * self.factors(values.shape, values) if self.training else values

    def factors(self, shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        """What values of this shape are multiplied by in training, 0 or 1 / (1 - p); dtype and device are those of `like`."""
        count = math.prod(shape)
        words = torch.randint(-(2**63), 2**63 - 1, (-(-count // 4),), device=like.device)  # 64 bits each
        kept = words.view(torch.int16)[:count].view(*shape) >= self.dropped - 32768
        return kept.to(like.dtype) * (65536 / (65536 - self.dropped))


def mlp(
    shape: Sequence[int], classes: int, hidden: Sequence[int], dropout: float = 0.0, input_dropout: float = 0.0
) -> nn.Module:
    """Rectified-linear layers of the sizes in `hidden`; dropout as in Hinton et al. 2012 (arXiv 1207.0580)."""
    require(_sizes(hidden), "mlp hidden", "a list of layer sizes such as [1200, 1200]", hidden)
    _require_probability("mlp dropout", dropout)
    _require_probability("mlp input_dropout", input_dropout)
    layers: list[nn.Module] = [Pixels(), nn.Flatten()]
    if input_dropout:
        layers.append(Dropout(input_dropout))
    width = math.prod(shape)
    for size in hidden:
        layers += [nn.Linear(width, size), nn.ReLU()]
        if dropout:
            layers.append(Dropout(dropout))
        width = size
    return nn.Sequential(*layers, nn.Linear(width, classes))


def cnn(shape: Sequence[int], classes: int, channels: Sequence[int], dropout: float = 0.0) -> nn.Module:
    """3×3 convolutions, each with a rectifier and 2×2 max pooling while the image is large enough; one linear layer."""
    require(len(shape) == 3, "model cnn", "images, or arrays (channels, height, width)", f"inputs of shape {tuple(shape)}")
    require(_sizes(channels), "cnn channels", "a list of channel counts such as [32, 64]", channels)
    _require_probability("cnn dropout", dropout)
    width, height, breadth = shape
    layers: list[nn.Module] = [Pixels()]
    for size in channels:
        layers += [nn.Conv2d(width, size, 3, padding=1), nn.ReLU()]
        if min(height, breadth) >= 2:
            layers.append(nn.MaxPool2d(2))
            height, breadth = height // 2, breadth // 2
        width = size
    layers.append(nn.Flatten())
    if dropout:
        layers.append(Dropout(dropout))
    return nn.Sequential(*layers, nn.Linear(width * height * breadth, classes))


class Bag(nn.Module):
    """The mean of embeddings of a text's words, and a linear layer: fastText (Joulin et al. 2017, arXiv 1607.01759).

    Words, and runs of up to `ngrams` of them, fall into one of `buckets` by their CRC-32; bucket 0 is none.
    """

    def __init__(self, classes: int, width: int, buckets: int, ngrams: int, length: int):
        super().__init__()
        self.buckets, self.ngrams, self.length = buckets, ngrams, length
        self.embeddings = nn.Embedding(buckets + 1, width, padding_idx=0)
        self.logits = nn.Linear(width, classes)

    @property
    def encoding(self) -> Mapping[str, object]:
        """What `encode` does, in plain values, so that an export can do it without torch."""
        return {"name": "words", "buckets": self.buckets, "ngrams": self.ngrams, "length": self.length}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Texts to the buckets of their words.

        Args:
            texts: n texts.

        Returns:
            (n, length) int32, filled up with 0; what does not fit is left out, longer runs of words first.
        """
        return encoded(self.encoding, texts)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        """Logits of encoded texts.

        Args:
            words: (B, length) integers.

        Returns:
            (B, classes) float32.
        """
        count = (words > 0).sum(1, keepdim=True).clamp(min=1)
        logits: torch.Tensor = self.logits(self.embeddings(words).sum(1) / count)
        return logits


def bag(
    shape: Sequence[int], classes: int, width: int = 64, buckets: int = 16384, ngrams: int = 2, length: int = 64
) -> nn.Module:
    """A net for text: the mean of the embeddings of words and of runs of words, then a linear layer; see Bag."""
    for name, value in {"width": width, "buckets": buckets, "ngrams": ngrams, "length": length}.items():
        require(_sizes([value]), f"bag {name}", "a whole number of at least 1", value)
    return Bag(classes, width, buckets, ngrams, length)


MODELS: dict[str, Callable[..., nn.Module]] = {"mlp": mlp, "cnn": cnn, "bag": bag}
VERSIONS = {"mlp": 1, "cnn": 1, "bag": 1}


def _sizes(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in value)


def _require_probability(what: str, value: object) -> None:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else -1.0
    holds = 0 <= number < 1 and Dropout(number).dropped < 65536
    require(holds, what, "a number in [0, 1), to 16 bits", value)


def require(holds: bool, what: str, expected: str, found: object) -> None:
    """Raise InputError about a model unless `holds`."""
    if not holds:
        shown = found if isinstance(found, str) else repr(found)
        raise InputError(what, expected=expected, found=shown, fix="Correct the model's spec.")
