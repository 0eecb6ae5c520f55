"""The bag of n-grams: a net for text."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

import softcache_export
from pipeline.models.zoo.layers import Dropout
from pipeline.models.zoo.requirements import require, require_probability, sizes

MOST = 1 << 31  # numbers in the embeddings


class Bag(nn.Module):
    """Embeddings of a text's n-grams, summed up, and a perceptron: fastText (Joulin et al. 2017, arXiv 1607.01759).

    The n-grams are the words, runs of up to `ngrams` of them, and parts of words of characters[0] to characters[1] characters,
    `<` and `>` being the ends of a word (Bojanowski et al. 2017, arXiv 1607.04606). They fall into one of `features` by their
    CRC-32; feature 0 is none. The sum is divided by the root of their number, so that short and long texts have values of
    one size.
    """

    def __init__(
        self,
        classes: int,
        features: int,
        ngrams: int,
        characters: Sequence[int],
        hidden: Sequence[int],
        width: int,
        dropout: float,
        length: int,
    ):
        super().__init__()
        self.features, self.ngrams, self.characters, self.length = features, ngrams, tuple(characters), length
        # uniform, because torch's normal numbers are other ones on other processors
        start = torch.empty(features + 1, width).uniform_(-(width**-0.5), width**-0.5)
        start[0] = 0
        self.embeddings = nn.Embedding.from_pretrained(start, freeze=False, padding_idx=0)
        between = [Dropout(dropout)] if dropout else []
        layers: list[nn.Module] = [*between]
        for size in hidden:
            layers += [nn.Linear(width, size), nn.ReLU(), *between]
            width = size
        self.logits = nn.Sequential(*layers, nn.Linear(width, classes))

    @property
    def encoding(self) -> Mapping[str, object]:
        """What `encode` does: the name of a function of softcache_export.ENCODINGS, and its settings."""
        settings = {
            "features": self.features,
            "ngrams": self.ngrams,
            "characters": list(self.characters),
            "length": self.length,
        }
        return {"name": "words", **settings}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Texts to the features of their n-grams; see softcache_export.words.

        Args:
            texts: n texts.

        Returns:
            (n, length) int32, filled up with 0.
        """
        return softcache_export.encoded(self.encoding, texts)

    def forward(self, found: torch.Tensor) -> torch.Tensor:
        """Logits of encoded texts.

        Args:
            found: (B, length) integers.

        Returns:
            (B, classes) float32.
        """
        count = (found > 0).sum(1, keepdim=True).clamp(min=1)
        logits: torch.Tensor = self.logits(self.embeddings(found).sum(1) / count.sqrt())
        return logits


def bag(
    shape: Sequence[int],
    classes: int,
    features: int = 16384,
    ngrams: int = 2,
    characters: Sequence[int] = (3, 5),
    hidden: Sequence[int] = (),
    width: int = 64,
    dropout: float = 0.0,
    length: int = 256,
) -> nn.Module:
    """A net for text, of n-grams of words and of characters; see Bag. characters: from and to, or [] for none."""
    for name, value in {"features": features, "ngrams": ngrams, "width": width, "length": length}.items():
        require(sizes([value]), f"bag {name}", "a whole number of at least 1", value)
    require(features * width <= MOST, "bag features", f"at most {MOST:,} numbers in the embeddings", features * width)
    reach = list(characters) if isinstance(characters, tuple | list) else characters
    holds = sizes(reach) and (not reach or (len(reach) == 2 and reach[0] <= reach[1]))
    require(holds, "bag characters", "the fewest and the most characters, such as [3, 5], or [] for none", reach)
    layers = list(hidden) if isinstance(hidden, tuple | list) else hidden
    require(sizes(layers), "bag hidden", "a list of layer sizes such as [128], or [] for none", layers)
    require_probability("bag dropout", dropout)
    return Bag(classes, features, ngrams, characters, hidden, width, dropout, length)
