"""Tokenizer: texts as the tokens of a pretrained model, from the folder that has both."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.base.errors import InputError
from pipeline.base.libraries import needed
from pipeline.models.pretrained import CONFIG, WHAT, facts_of, unusable
from pipeline.models.zoo.requirements import require

MOST_TOKENS = 512  # of a text, where neither tokenizer nor model says less
SENTENCES = "sentence_*_config.json"  # of sentence-transformers, which names it after the kind of encoder


class OfText(nn.Module):
    """A net for texts, with its tokenizer. padding: the token that fills rows up; some models find a text's end by it."""

    def __init__(self, net: nn.Module, tokenizer: Any, padding: int, length: int):
        super().__init__()
        self.net, self.tokenizer, self.padding, self.length = net, tokenizer, padding, length

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Texts to the numbers of their tokens.

        Args:
            texts: n texts.

        Returns:
            (n, length) int32: each token's number plus one, filled up with zeros; what does not fit is cut. A row of zeros, as
            tiles are filled up with, is an empty text, which costs little.
        """
        encoded = np.zeros((len(texts), self.length), np.int32)
        found = self.tokenizer(list(texts), truncation=True, max_length=self.length, return_attention_mask=False)["input_ids"]
        for row, tokens in enumerate(found):
            encoded[row, : len(tokens)] = np.asarray(tokens, np.int32) + 1
        return encoded

    def forward(self, encoded: torch.Tensor) -> torch.Tensor:
        """Logits of encoded texts; columns that no row fills are not computed.

        Args:
            encoded: (B, length) int32.

        Returns:
            (B, classes) float32.
        """
        mask = encoded > 0
        used = max(1, int(mask.sum(1).max()))
        mask = mask[:, :used]
        tokens = (encoded[:, :used].long() - 1).masked_fill(~mask, self.padding)
        logits: torch.Tensor = self.net(tokens, attention_mask=mask.long())
        return logits


def tokenizer_of(folder: Path) -> Any:
    """The tokenizer of a folder. Raises InputError where it knows no words, as one that the library makes of nothing."""
    try:
        tokenizer = needed("transformers", WHAT).AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except InputError:
        raise
    except Exception as error:
        raise unusable(folder, "a tokenizer, as its own save_pretrained writes it", error) from error
    named, whole = tokenizer.vocab_files_names, "tokenizer.json"  # one of bytes or letters has no vocabulary
    own = named.get("vocab_file", whole)
    there = not named or any((folder / name).is_file() for name in (whole, own))
    if not there or not _knows_words(tokenizer):
        found = "one that knows no word of its own vocabulary" if there else f"no {own}"
        fix = "Save it there: `tokenizer.save_pretrained(folder)`."
        raise InputError(f"{WHAT}, {folder}", expected="a tokenizer with its vocabulary", found=found, fix=fix)
    return tokenizer


def padding_of(folder: Path, config: Any, tokenizer: Any, head: str | None) -> int:
    """The token that fills texts up, which the configuration names from now on.

    A decoder takes the last token that is another one for the end of a text.
    """
    words = getattr(config, "vocab_size", None) or math.inf
    said = [getattr(config, "pad_token_id", None), tokenizer.pad_token_id]
    found = next((each for each in said if isinstance(each, int) and 0 <= each < words), None)
    if found is None:
        expected, fix = f"a padding token: pad_token_id in {CONFIG}", "Name the one that it was trained with there."
        if head is None:
            raise InputError(f"{WHAT}, {folder}", expected=expected, found=f"none below {words}", fix=fix)
        return 0  # an encoder sees its mask
    config.pad_token_id = found
    return found


def length_of(folder: Path, config: Any, net: nn.Module, head: str | None, length: int | None) -> int:
    """The most tokens of a text."""
    said = getattr(config, "max_position_embeddings", None)
    most = min(_positions(net), said if isinstance(said, int) and said > 2 else math.inf)  # XLNet's says -1
    if length is not None:
        fits = isinstance(length, int) and not isinstance(length, bool) and 3 <= length <= most
        upto = "at least 3" if most == math.inf else f"3 to {most}, the positions that the model has"
        require(fits, f"{WHAT} length", f"a whole number of {upto}", length)
        return length
    bounds = [facts_of(folder / "tokenizer_config.json").get("model_max_length"), most, MOST_TOKENS]
    if head is not None:  # of a sentence encoder
        bounds += [facts_of(path).get("max_seq_length") for path in sorted(folder.glob(SENTENCES))]
    return min(each for each in bounds if isinstance(each, int) and each > 2)


def require_plain_texts(folder: Path, tokenizer: Any) -> None:
    """Raise InputError where sentence-transformers would change texts before it encodes them."""
    prompt = facts_of(folder / "config_sentence_transformers.json").get("default_prompt_name")
    require(prompt is None, f"{WHAT}, {folder}", "no prompt before every text", f"default_prompt_name {prompt!r}")
    lower = any(facts_of(path).get("do_lower_case") for path in folder.glob(SENTENCES))
    same = not lower or tokenizer("A Word")["input_ids"] == tokenizer("a word")["input_ids"]
    require(same, f"{WHAT}, {folder}", "a tokenizer that makes letters small, as do_lower_case says", "one that does not")


def _knows_words(tokenizer: Any) -> bool:
    """Whether a text of words out of the vocabulary gives a token that is not special."""
    bare = (token.strip("▁Ġ#") for token in tokenizer.get_vocab() if token not in tokenizer.all_special_tokens)
    words = itertools.islice((word for word in bare if word.isalnum()), 100)
    return bool(set(tokenizer(" ".join(words))["input_ids"]) - set(tokenizer.all_special_ids))


def _positions(net: nn.Module) -> float:
    """How many places the tables of positions have; those with a row for padding, as RoBERTa's, begin after it."""
    tables = [
        module for name, module in net.named_modules()
        if isinstance(module, nn.Embedding) and name.rpartition(".")[2] in ("position_embeddings", "wpe")
    ]  # fmt: skip
    firsts = [0 if each.padding_idx is None else each.padding_idx + 1 for each in tables]
    return min((each.num_embeddings - first for each, first in zip(tables, firsts, strict=True)), default=math.inf)
