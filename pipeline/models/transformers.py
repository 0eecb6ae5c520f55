"""transformers: a model out of a folder that `save_pretrained` wrote. The library is imported when one is built.

Nothing is fetched, and no code of the folder runs. Its weights are read from safetensors alone.
"""

import inspect
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.base.errors import InputError, first_line
from pipeline.base.libraries import needed
from pipeline.models.scaled import Scaled, wrong_size
from pipeline.models.zoo.requirements import require

WHAT = "model transformers"
CONFIG, PREPROCESSOR, MODULES = "config.json", "preprocessor_config.json", "modules.json"
# What a folder may hold besides weights, and what it takes to build the net again: tokenizers have files of many names.
FILES = ("*.json", "*.txt", "*.model", "*.codes", "*.spm", "*.vocab", "*.tokenizer", "*/config.json")
WEIGHTS, INDEX = "*.safetensors", ".index.json"  # an index says which file holds which weight
SENTENCES = "sentence_*_config.json"  # of sentence-transformers, which names it after the kind of encoder
MODE = "pooling_mode_"  # what names of their settings begin with
BARE = "bare.softcache"  # marks the copy that a teacher keeps, whose weights are in a file of the teacher's
MOST_TOKENS = 512  # of a text, where neither tokenizer nor model says less
POOLS = ("mean", "cls", "pooler")
# What image processors do that is done here, or by ingest.
DONE = {"do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb", "do_reduce_labels"}


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
    config = _config(folder)
    if len(shape) == 0:
        tokenizer = _tokenizer(folder)
        padding = _padding(folder, config, tokenizer, head)
        net = _net(folder, config, classes, head, pool, "SequenceClassification")
        if head is not None:
            _require_plain_texts(folder, tokenizer)
        return _OfText(net, tokenizer, padding, _length(folder, config, net, head, length))
    require(length is None, f"{WHAT} length", "none for images", length)
    processor = _processor(folder)
    facts = processor.to_dict()
    native = _native(facts, config)
    if native is not None and native != tuple(shape[1:]):
        raise wrong_size(f"{WHAT}, {folder}, size of images", native, shape[1:])
    channels = getattr(config, "num_channels", 3)
    scaled = Scaled(
        _net(folder, config, classes, head, pool, "ImageClassification"), channels, *_scaling(facts, channels), native
    )
    _require_same_pixels(folder, processor, scaled)
    return scaled


def class_names(path: str) -> tuple[int, tuple[str, ...] | None]:
    """How many classes a classifier in this folder has, and their names; None where they are LABEL_0, LABEL_1, … ."""
    config = _config(Path(path))
    names = tuple(str(config.id2label[index]) for index in sorted(config.id2label))
    return len(names), None if names == tuple(f"LABEL_{index}" for index in range(len(names))) else names


def files(path: str) -> list[Path]:
    """The files of a folder that decide what the net does, its weights too. Raises InputError where it has no weights."""
    folder = Path(path)
    _require_config(folder)
    _require_weights(folder)
    return [folder / name for name in _names(folder)] + sorted(folder.glob(WEIGHTS))


def assets(path: str) -> dict[str, bytes]:
    """What a teacher keeps of a folder: the files that decide what the net does, but for weights, by name, and a mark."""
    folder = Path(path)
    held = {name: (folder / name).read_bytes() for name in _names(folder)}
    return held | {BARE: b"The weights are in a file of the teacher's own.\n"}


def _names(folder: Path) -> list[str]:
    found = {each.relative_to(folder).as_posix() for pattern in FILES for each in folder.glob(pattern) if each.is_file()}
    return sorted(name for name in found if not name.endswith(INDEX))


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


def probe_of(net: nn.Module) -> Probe | None:
    """The frozen encoder with its head in a net; None for any other net."""
    inner = net.net if isinstance(net, _OfText | Scaled) else net
    return inner if isinstance(inner, Probe) else None


def _net(folder: Path, config: Any, classes: int, head: str | None, pool: str | None, kind: str) -> nn.Module:
    """The classifier of a folder, or its encoder with a new head."""
    if head is None:
        return _Classifier(_model(folder, kind, config))
    _require_modules(folder)
    trained = pool != "pooler" or (folder / BARE).is_file() or _has_pooler(folder)
    require(trained, f"{WHAT} pool", "mean or cls, as the folder has no weights of a pooler", pool)
    return Probe(_Encoder(_model(folder, "", config), pool or _pool(folder), _normalised(folder)), _width(config), classes)


def _processor(folder: Path) -> Any:
    """The image processor of a folder, with the library's defaults for what its file does not say."""
    has = (folder / PREPROCESSOR).is_file()
    require(has, f"{WHAT}, {folder}", f"{PREPROCESSOR}, as its image processor's save_pretrained writes it", "none")
    try:
        return needed("transformers", WHAT).AutoImageProcessor.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except InputError:
        raise
    except Exception as error:
        raise _unusable(folder / PREPROCESSOR, "an image processor that transformers can load", error) from error


def _native(facts: Mapping[str, Any], config: Any) -> tuple[int, int] | None:
    """Height and width of the images that a model was made for, if its folder says."""
    crop = facts.get("crop_size") if facts.get("do_center_crop") else None
    size, side = crop or facts.get("size") or {}, getattr(config, "image_size", None)
    if "height" in size and "width" in size:
        return int(size["height"]), int(size["width"])
    side = size.get("shortest_edge") or side
    return (side, side) if isinstance(side, int) else None


def _scaling(facts: Mapping[str, Any], channels: int) -> tuple[list[float], list[float]]:
    """What is subtracted from pixels in [0, 1], and what they are divided by then, for each channel."""
    factor = 255 * facts["rescale_factor"] if facts.get("do_rescale") else 255.0  # of pixels in [0, 1]
    normal = facts.get("do_normalize")
    mean, std = (_each(facts.get(name) if normal else None, channels) for name in ("image_mean", "image_std"))
    return [each / factor for each in mean or [0.0] * channels], [each / factor for each in std or [1.0] * channels]


def _each(value: Any, channels: int) -> list[float]:
    """A number for each channel, of a list of them or of one for all; none of None."""
    return [value] * channels if isinstance(value, int | float) else list(value or ())


def _require_same_pixels(folder: Path, processor: Any, scaled: Scaled) -> None:
    """Raise InputError where the library makes other values of a small image than `scaled` shows its net."""
    pixels = np.random.default_rng(0).integers(0, 256, (7, 9, scaled.channels), dtype=np.uint8)
    kept = {"do_resize": False, "do_center_crop": False, "input_data_format": "channels_last"}
    found: Any
    try:
        (found,) = processor(pixels, return_tensors="np", **kept)["pixel_values"]
    except Exception as error:
        found = first_line(error)
    own = ((torch.from_numpy(pixels).permute(2, 0, 1) / 255 - scaled.mean) / scaled.std).numpy()
    if isinstance(found, np.ndarray) and found.shape == own.shape and np.allclose(found, own, rtol=0, atol=1e-4 * np.ptp(own)):
        return
    more = sorted(name for name, value in processor.to_dict().items() if value is True and name not in DONE)
    told = ", ".join(f"{name}: true" for name in more) or (found if isinstance(found, str) else "another scaling")
    fix = "Import its logits instead: `softcache adopt NAME --logits FILE`."
    expected = "an image processor that resizes, crops and scales, and does nothing else"
    raise InputError(f"{WHAT}, {folder / PREPROCESSOR}", expected=expected, found=told, fix=fix)


def _config(folder: Path) -> Any:
    """The parsed config.json."""
    _require_config(folder)
    try:
        return needed("transformers", WHAT).AutoConfig.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except (ValueError, KeyError, OSError, TypeError, AttributeError) as error:
        raise _unusable(folder / CONFIG, "the configuration of a model that transformers knows", error) from error


def _require_config(folder: Path) -> None:
    if not (folder / CONFIG).is_file():
        fix = "Name a folder that `save_pretrained` wrote."
        raise InputError(WHAT, expected=f"a folder with {CONFIG}", found=str(folder), fix=fix)


def _require_weights(folder: Path) -> None:
    adapter = (folder / "adapter_config.json").is_file()
    if adapter or not any(folder.glob(WEIGHTS)):
        pickles = [path.name for path in sorted(folder.glob("pytorch_model*.bin"))]
        found = "an adapter" if adapter else f"a pickle, {pickles[0]}" if pickles else "none"
        fix = "Merge it, and save the whole" if adapter else "Save it anew"
        fix += ": `model.save_pretrained(folder)` writes safetensors."
        raise InputError(f"{WHAT}, {folder}", expected="weights as safetensors", found=found, fix=fix)


def _model(folder: Path, kind: str, config: Any) -> nn.Module:
    """The model of a folder, with its weights; with random ones in the copy that a teacher keeps."""
    library = needed("transformers", WHAT)
    maker = getattr(library, f"AutoModelFor{kind}" if kind else "AutoModel")
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    bare = (folder / BARE).is_file()
    if not bare:
        _require_weights(folder)
    try:
        if bare:
            model: nn.Module = maker.from_config(config, trust_remote_code=False, dtype=torch.float32)
            return model.float()
        model, said = maker.from_pretrained(
            str(folder), config=config, local_files_only=True, trust_remote_code=False, use_safetensors=True,
            output_loading_info=True, dtype=torch.float32,
        )  # fmt: skip
    except Exception as error:  # the library raises all kinds for folders that do not fit
        raise _unusable(folder, f"a model for {f'AutoModelFor{kind}' if kind else 'AutoModel'}", error) from error
    _require_mask(model)
    missing = sorted(name for name in said["missing_keys"] if kind or "pooler" not in name)
    odd = missing or sorted(map(str, said["mismatched_keys"]))
    if odd:
        fix = (
            "Name the folder of a trained classifier, or write head='linear' to train a new head." if kind else "Save it again."
        )
        raise InputError(f"{WHAT}, {folder}", expected="weights for all of the model", found=f"none for {first(odd)}", fix=fix)
    more = [name for name in sorted(said["unexpected_keys"]) if _decides(model, name, bool(kind))]
    if more:
        fix = "Save the whole model again: adapters have to be merged into it."
        raise InputError(f"{WHAT}, {folder}", expected="weights of this model alone", found=f"others: {first(more)}", fix=fix)
    return model


def _require_mask(model: nn.Module) -> None:
    """Raise InputError for a model of texts that sees padding, such as FNet: its logits depend on the texts beside."""
    takes = inspect.signature(model.forward).parameters
    fits = "pixel_values" in takes or "attention_mask" in takes
    require(fits, WHAT, "a model of images, or one that takes an attention_mask", type(model).__name__)


def _decides(model: Any, name: str, whole: bool) -> bool:
    """Whether a weight that the model does not take may have decided what it did.

    A pooler left from pretraining did not, and under an encoder neither did an old head.
    """
    if whole:
        return "pooler" not in name
    return name.removeprefix(f"{model.base_model_prefix}.").partition(".")[0] in dict(model.named_children())


def first(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder. Raises InputError where it knows no words, as one that the library makes of nothing."""
    try:
        tokenizer = needed("transformers", WHAT).AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except InputError:
        raise
    except Exception as error:
        raise _unusable(folder, "a tokenizer, as its own save_pretrained writes it", error) from error
    named, whole = tokenizer.vocab_files_names, "tokenizer.json"  # one of bytes or letters has no vocabulary
    own = named.get("vocab_file", whole)
    there = not named or any((folder / name).is_file() for name in (whole, own))
    if not there or not _knows_words(tokenizer):
        found = "one that knows no word of its own vocabulary" if there else f"no {own}"
        fix = "Save it there: `tokenizer.save_pretrained(folder)`."
        raise InputError(f"{WHAT}, {folder}", expected="a tokenizer with its vocabulary", found=found, fix=fix)
    return tokenizer


def _knows_words(tokenizer: Any) -> bool:
    """Whether a text of words out of the vocabulary gives a token that is not special."""
    bare = (token.strip("▁Ġ#") for token in tokenizer.get_vocab() if token not in tokenizer.all_special_tokens)
    words = itertools.islice((word for word in bare if word.isalnum()), 100)
    return bool(set(tokenizer(" ".join(words))["input_ids"]) - set(tokenizer.all_special_ids))


def _padding(folder: Path, config: Any, tokenizer: Any, head: str | None) -> int:
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


def _length(folder: Path, config: Any, net: nn.Module, head: str | None, length: int | None) -> int:
    """The most tokens of a text."""
    said = getattr(config, "max_position_embeddings", None)
    most = min(_positions(net), said if isinstance(said, int) and said > 2 else math.inf)  # XLNet's says -1
    if length is not None:
        fits = isinstance(length, int) and not isinstance(length, bool) and 3 <= length <= most
        upto = "at least 3" if most == math.inf else f"3 to {most}, the positions that the model has"
        require(fits, f"{WHAT} length", f"a whole number of {upto}", length)
        return length
    bounds = [_facts(folder / "tokenizer_config.json").get("model_max_length"), most, MOST_TOKENS]
    if head is not None:  # of a sentence encoder
        bounds += [_facts(path).get("max_seq_length") for path in sorted(folder.glob(SENTENCES))]
    return min(each for each in bounds if isinstance(each, int) and each > 2)


def _positions(net: nn.Module) -> float:
    """How many places the tables of positions have; those with a row for padding, as RoBERTa's, begin after it."""
    tables = [
        module for name, module in net.named_modules()
        if isinstance(module, nn.Embedding) and name.rpartition(".")[2] in ("position_embeddings", "wpe")
    ]  # fmt: skip
    firsts = [0 if each.padding_idx is None else each.padding_idx + 1 for each in tables]
    return min((each.num_embeddings - first for each, first in zip(tables, firsts, strict=True)), default=math.inf)


def _modules(folder: Path) -> list[Mapping[str, Any]]:
    """The modules of a sentence-transformers folder, in their order; none for any other folder."""
    try:
        found = json.loads((folder / MODULES).read_bytes()) if (folder / MODULES).is_file() else []
        return [{"type": str(each["type"]).rpartition(".")[2], "path": str(each["path"])} for each in found]
    except (ValueError, KeyError, TypeError) as error:
        raise _unusable(folder / MODULES, "a list of modules, each with type and path", error) from error


def _require_modules(folder: Path) -> None:
    """Raise InputError where sentence-transformers would do more than encode, pool and scale to unit length."""
    modules, usual = _modules(folder), ["Transformer", "Pooling", "Normalize"]
    kinds, what = [each["type"] for each in modules], f"{WHAT}, {folder / MODULES}"
    require(kinds in ([], usual[:1], usual[:2], usual), what, f"no modules but {', '.join(usual)}", ", ".join(kinds))
    paths = [each["path"] for each in modules]
    near = paths[:1] in ([], [""], ["."]) and not any("/" in path for path in paths)
    require(near, what, "its Transformer in the folder itself, others in folders right below", ", ".join(paths))


def _require_plain_texts(folder: Path, tokenizer: Any) -> None:
    """Raise InputError where sentence-transformers would change texts before it encodes them."""
    prompt = _facts(folder / "config_sentence_transformers.json").get("default_prompt_name")
    require(prompt is None, f"{WHAT}, {folder}", "no prompt before every text", f"default_prompt_name {prompt!r}")
    lower = any(_facts(path).get("do_lower_case") for path in folder.glob(SENTENCES))
    same = not lower or tokenizer("A Word")["input_ids"] == tokenizer("a word")["input_ids"]
    require(same, f"{WHAT}, {folder}", "a tokenizer that makes letters small, as do_lower_case says", "one that does not")


def _pool(folder: Path) -> str:
    """How a sentence encoder pools; the mean over tokens where its folder does not say.

    Raises InputError for a way that is not done here.
    """
    named = [each["path"] for each in _modules(folder) if each["type"] == "Pooling"]
    path = folder / (named[0] if named else "1_Pooling") / CONFIG
    require(not named or path.is_file(), f"{WHAT}, {path}", "a file that says how to pool", "none")
    facts = _facts(path)
    ways = {name.removeprefix(MODE).partition("_token")[0] for name, value in facts.items() if name.startswith(MODE) and value}
    said = facts.get("pooling_mode", [])  # as newer versions write it
    ways |= {said} if isinstance(said, str) else set(said)
    require(ways in ({"mean"}, {"cls"}, set()), f"{WHAT}, {path}", "pooling by mean or cls alone", ", ".join(sorted(ways)))
    return ways.pop() if ways else "mean"


def _has_pooler(folder: Path) -> bool:
    """Whether the weights of the folder hold a trained pooler."""
    import safetensors

    for path in sorted(folder.glob(WEIGHTS)):
        with safetensors.safe_open(path, "pt") as file:
            if any("pooler" in name for name in file.keys()):  # noqa: SIM118  # it is no dict
                return True
    return False


def _normalised(folder: Path) -> bool:
    """Whether the folder is of a sentence encoder that ends by scaling its outputs to unit length."""
    return any(each["type"] == "Normalize" for each in _modules(folder))


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
