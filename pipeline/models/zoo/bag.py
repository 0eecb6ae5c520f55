"""The bag of words: a net for text."""

import re
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from pipeline.models.zoo.requirements import require, sizes


class Bag(nn.Module):
    """The mean of embeddings of a text's words, and a linear layer: fastText (Joulin et al. 2017, arXiv 1607.01759).

    Words, and runs of up to `ngrams` of them, fall into one of `buckets` by their CRC-32; bucket 0 is none.
    """

    def __init__(self, classes: int, width: int, buckets: int, ngrams: int, length: int):
        super().__init__()
        self.buckets, self.ngrams, self.length = buckets, ngrams, length
        self.embeddings = nn.Embedding(buckets + 1, width, padding_idx=0)
        self.logits = nn.Linear(width, classes)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Texts to the buckets of their words.

        Args:
            texts: n texts.

        Returns:
            (n, length) int32, filled up with 0; what does not fit is left out, longer runs of words first.
        """
        encoded = np.zeros((len(texts), self.length), np.int32)
        for row, text in enumerate(texts):
            words = re.findall(r"\w+|[^\w\s]", text.lower())
            runs = [
                " ".join(words[at : at + size]) for size in range(1, self.ngrams + 1) for at in range(len(words) - size + 1)
            ]
            found = [1 + zlib.crc32(run.encode()) % self.buckets for run in runs[: self.length]]
            encoded[row, : len(found)] = found
        return encoded

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
        require(sizes([value]), f"bag {name}", "a whole number of at least 1", value)
    return Bag(classes, width, buckets, ngrams, length)
