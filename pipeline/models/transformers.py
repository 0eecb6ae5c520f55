"""transformers: a model out of a folder that `save_pretrained` wrote. The library is imported when one is built.

Nothing is fetched, and no code of the folder runs. Its weights are read from safetensors alone.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.base.errors import InputError, first_line
from pipeline.models.libraries import needed
from pipeline.models.scaled import Scaled, wrong_size
from pipeline.models.zoo.requirements import require

WHAT = "model transformers"
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
# What a folder may hold besides weights, and what it takes to build the net again.
FILES = (
    CONFIG, PREPROCESSOR, "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt",
    "vocab.json", "merges.txt", "added_tokens.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model",
    "modules.json", "1_Pooling/config.json",
)  # fmt: skip
MOST_TOKENS = 512  # of a text, where neither tokenizer nor model says less
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
        The net. Where the folder has no weights, as the copy that a teacher keeps, it has random ones.

    Raises:
        InputError: The library is not installed, or the folder does not hold such a model.
    """
    require(head in (None, "linear"), f"{WHAT} head", "None or 'linear'", head)
    require(pool in (None, *POOLS), f"{WHAT} pool", " or ".join(POOLS), pool)
    folder = Path(path)
    text = len(shape) == 0
    config = _config(folder)
    if text:
        return _OfText(_net(folder, config, classes, head, pool, "SequenceClassification"), *_reader(folder, config, length))
    facts = _facts(folder / PREPROCESSOR)
    native = _native(facts, config)
    if native is not None and native != tuple(shape[1:]):
        raise wrong_size(f"{WHAT}, {folder}, size of images", native, shape[1:])
    require(bool(facts), f"{WHAT}, {folder}", f"{PREPROCESSOR}, as its image processor's save_pretrained writes it", "none")
    channels = getattr(config, "num_channels", 3)
    mean, std = _scaling(facts, channels)
    return Scaled(_net(folder, config, classes, head, pool, "ImageClassification"), channels, mean, std, native)


def class_names(path: str) -> tuple[int, tuple[str, ...] | None]:
    """How many classes a classifier in this folder has, and their names; None where they are LABEL_0, LABEL_1, … ."""
    config = _config(Path(path))
    names = tuple(str(config.id2label[index]) for index in sorted(config.id2label))
    return len(names), None if names == tuple(f"LABEL_{index}" for index in range(len(names))) else names


def files(path: str) -> list[Path]:
    """The files of a folder that decide what the net does, its weights too."""
    return [Path(path, name) for name in FILES if Path(path, name).is_file()] + sorted(Path(path).glob("*.safetensors"))


def assets(path: str) -> dict[str, bytes]:
    """The files of a folder, but for weights, that decide what the net does, by name."""
    return {name: Path(path, name).read_bytes() for name in FILES if Path(path, name).is_file()}


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


class _OfText(nn.Module):
    """A net for texts, with its tokenizer."""

    def __init__(self, net: nn.Module, tokenizer: Any, length: int):
        super().__init__()
        self.net, self.tokenizer, self.length = net, tokenizer, length

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Texts to the numbers of their tokens.

        Args:
            texts: n texts.

        Returns:
            (n, length) int32, filled up with -1; what does not fit is cut.
        """
        encoded = np.full((len(texts), self.length), -1, np.int32)
        found = self.tokenizer(list(texts), truncation=True, max_length=self.length, return_attention_mask=False)["input_ids"]
        for row, tokens in enumerate(found):
            encoded[row, : len(tokens)] = tokens
        return encoded

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits of encoded texts; columns that no row fills are not computed.

        Args:
            tokens: (B, length) int32.

        Returns:
            (B, classes) float32.
        """
        mask = tokens >= 0
        used = max(1, int(mask.sum(1).max()))
        mask = mask[:, :used]
        logits: torch.Tensor = self.net(tokens[:, :used].long().clamp(min=0), attention_mask=mask.long())
        return logits


def probe_of(net: nn.Module) -> Probe | None:
    """The frozen encoder with its head in a net; None for any other net."""
    inner = net.net if isinstance(net, _OfText | Scaled) else net
    return inner if isinstance(inner, Probe) else None


def _net(folder: Path, config: Any, classes: int, head: str | None, pool: str | None, kind: str) -> nn.Module:
    """The classifier of a folder, or its encoder with a new head."""
    if head is None:
        return _Classifier(_model(folder, kind, config))
    trained = pool != "pooler" or _has_pooler(folder) or not any(folder.glob("*.safetensors"))
    require(trained, f"{WHAT} pool", "mean or cls, as the folder has no weights of a pooler", pool)
    return Probe(_Encoder(_model(folder, "", config), pool or _pool(folder), _normalised(folder)), _width(config), classes)


def _native(facts: Mapping[str, Any], config: Any) -> tuple[int, int] | None:
    """Height and width of the images that a model was made for, if its folder says."""
    size, side = facts.get("crop_size") or facts.get("size"), getattr(config, "image_size", None)
    if isinstance(size, Mapping) and "height" in size:
        return int(size["height"]), int(size["width"])
    return (side, side) if isinstance(side, int) else None


def _scaling(facts: Mapping[str, Any], channels: int) -> tuple[list[float], list[float]]:
    """What is subtracted from pixels in [0, 1], and what they are divided by then, for each channel."""
    normal = facts.get("do_normalize", True)
    mean, std = facts.get("image_mean") if normal else None, facts.get("image_std") if normal else None
    factor = 255 * facts.get("rescale_factor", 1 / 255) if facts.get("do_rescale", True) else 255.0  # of pixels in [0, 1]
    return [each / factor for each in mean or [0.0] * channels], [each / factor for each in std or [1.0] * channels]


def _config(folder: Path) -> Any:
    """The parsed config.json."""
    if not (folder / CONFIG).is_file():
        fix = "Name a folder that `save_pretrained` wrote."
        raise InputError(WHAT, expected=f"a folder with {CONFIG}", found=str(folder), fix=fix)
    try:
        return needed("transformers", WHAT).AutoConfig.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except (ValueError, KeyError, OSError, TypeError, AttributeError) as error:
        raise _unusable(folder / CONFIG, "the configuration of a model that transformers knows", error) from error


def _model(folder: Path, kind: str, config: Any) -> nn.Module:
    """The model of a folder, with its weights; with random ones where it has none."""
    library = needed("transformers", WHAT)
    maker = getattr(library, f"AutoModelFor{kind}" if kind else "AutoModel")
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    try:
        if not any(folder.glob("*.safetensors")):
            _require_no_pickle(folder)
            model: nn.Module = maker.from_config(config, trust_remote_code=False, attn_implementation="sdpa")
            return model.float()
        model, said = maker.from_pretrained(
            str(folder), config=config, local_files_only=True, trust_remote_code=False, use_safetensors=True,
            output_loading_info=True, dtype=torch.float32,
        )  # fmt: skip
    except InputError:
        raise
    except Exception as error:  # the library raises all kinds for folders that do not fit
        raise _unusable(folder, f"a model for {f'AutoModelFor{kind}' if kind else 'AutoModel'}", error) from error
    missing = sorted(name for name in said["missing_keys"] if kind or "pooler" not in name)
    odd = missing or sorted(map(str, said["mismatched_keys"]))
    if odd:
        fix = (
            "Name the folder of a trained classifier, or write head='linear' to train a new head." if kind else "Save it again."
        )
        raise InputError(f"{WHAT}, {folder}", expected="weights for all of the model", found=f"none for {first(odd)}", fix=fix)
    return model


def first(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _require_no_pickle(folder: Path) -> None:
    found = [path.name for path in sorted(folder.glob("pytorch_model*.bin"))]
    if found:
        fix = "Save it anew: `model.save_pretrained(folder, safe_serialization=True)`."
        raise InputError(f"{WHAT}, {folder}", expected="weights as safetensors", found=f"a pickle, {found[0]}", fix=fix)


def _reader(folder: Path, config: Any, length: int | None) -> tuple[Any, int]:
    """The tokenizer of a folder, and the most tokens of a text."""
    try:
        tokenizer = needed("transformers", WHAT).AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        raise _unusable(folder, "a tokenizer, as its own save_pretrained writes it", error) from error
    return tokenizer, _length(folder, config, length)


def _length(folder: Path, config: Any, length: int | None) -> int:
    """The most tokens of a text."""
    said = [_facts(folder / "tokenizer_config.json").get("model_max_length"), getattr(config, "max_position_embeddings", None)]
    most: int = min([each for each in said if isinstance(each, int) and each > 2] + [MOST_TOKENS])
    if length is None:
        return most
    fits = isinstance(length, int) and not isinstance(length, bool) and length >= 3
    require(fits, f"{WHAT} length", "a whole number of at least 3", length)
    return length


def _pool(folder: Path) -> str:
    """How a sentence encoder pools; the mean over tokens where its folder does not say."""
    return "cls" if _facts(folder / "1_Pooling" / "config.json").get("pooling_mode_cls_token") else "mean"


def _has_pooler(folder: Path) -> bool:
    """Whether the weights of the folder hold a trained pooler."""
    import safetensors

    for path in sorted(folder.glob("*.safetensors")):
        with safetensors.safe_open(path, "pt") as file:
            if any("pooler" in name for name in file.keys()):  # noqa: SIM118  # it is no dict
                return True
    return False


def _normalised(folder: Path) -> bool:
    """Whether the folder is of a sentence encoder that ends by scaling its outputs to unit length."""
    try:
        modules = json.loads((folder / "modules.json").read_bytes())
        return any(str(module["type"]).endswith("Normalize") for module in modules)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _width(config: Any) -> int:
    """The width of the pooled output."""
    sizes = getattr(config, "hidden_sizes", None)
    found = sizes[-1] if sizes else getattr(config, "hidden_size", None) or getattr(config, "dim", None)
    require(isinstance(found, int), f"{WHAT} head", "a model whose configuration has a hidden_size", type(config).__name__)
    return int(found or 0)


def _facts(path: Path) -> Mapping[str, Any]:
    """The facts in a JSON file; none where there is no such file. Raises InputError for a damaged one."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise _unusable(path, "JSON", error) from error
    return found if isinstance(found, dict) else {}


def _unusable(path: Path, expected: str, error: BaseException) -> InputError:
    fix = "Name a folder that `save_pretrained` wrote, for this kind of input."
    return InputError(f"{WHAT}, {path}", expected=expected, found=f"{type(error).__name__}: {first_line(error)}", fix=fix)
