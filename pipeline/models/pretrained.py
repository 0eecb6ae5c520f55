"""Pretrained: a folder that `save_pretrained` of transformers wrote: its files, what they say, and the model in it.

Nothing is fetched, and no code of the folder runs. Its weights are read from safetensors alone.
"""

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.base.errors import InputError, first_line
from pipeline.base.libraries import needed
from pipeline.models.zoo.requirements import require

WHAT = "model transformers"
CONFIG, MODULES = "config.json", "modules.json"
# What a folder may hold besides weights, and what it takes to build the net again: tokenizers have files of many names.
FILES = ("*.json", "*.txt", "*.model", "*.codes", "*.spm", "*.vocab", "*.tokenizer", "*/config.json")
WEIGHTS, INDEX = "*.safetensors", ".index.json"  # an index says which file holds which weight
MODE = "pooling_mode_"  # what names of their settings begin with
BARE = "bare.softcache"  # marks the copy that a teacher keeps, whose weights are in a file of the teacher's


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


def class_names(path: str) -> tuple[int, tuple[str, ...] | None]:
    """How many classes a classifier in this folder has, and their names; None where they are LABEL_0, LABEL_1, … ."""
    config = config_of(Path(path))
    names = tuple(str(config.id2label[index]) for index in sorted(config.id2label))
    return len(names), None if names == tuple(f"LABEL_{index}" for index in range(len(names))) else names


def config_of(folder: Path) -> Any:
    """The parsed config.json."""
    _require_config(folder)
    try:
        return needed("transformers", WHAT).AutoConfig.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except (ValueError, KeyError, OSError, TypeError, AttributeError) as error:
        raise unusable(folder / CONFIG, "the configuration of a model that transformers knows", error) from error


def model_of(folder: Path, kind: str, config: Any) -> nn.Module:
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
        raise unusable(folder, f"a model for {f'AutoModelFor{kind}' if kind else 'AutoModel'}", error) from error
    _require_mask(model)
    missing = sorted(name for name in said["missing_keys"] if kind or "pooler" not in name)
    odd = missing or sorted(map(str, said["mismatched_keys"]))
    if odd:
        fix = (
            "Name the folder of a trained classifier, or write head='linear' to train a new head." if kind else "Save it again."
        )
        raise InputError(f"{WHAT}, {folder}", expected="weights for all of the model", found=f"none for {_first(odd)}", fix=fix)
    more = [name for name in sorted(said["unexpected_keys"]) if _decides(model, name, bool(kind))]
    if more:
        fix = "Save the whole model again: adapters have to be merged into it."
        raise InputError(f"{WHAT}, {folder}", expected="weights of this model alone", found=f"others: {_first(more)}", fix=fix)
    return model


def has_pooler(folder: Path) -> bool:
    """Whether the weights of the folder hold a trained pooler."""
    import safetensors

    for path in sorted(folder.glob(WEIGHTS)):
        with safetensors.safe_open(path, "pt") as file:
            if any("pooler" in name for name in file.keys()):  # noqa: SIM118  # it is no dict
                return True
    return False


def width_of(config: Any) -> int:
    """The width of the pooled output."""
    sizes = getattr(config, "hidden_sizes", None)
    found = sizes[-1] if sizes else getattr(config, "hidden_size", None) or getattr(config, "dim", None)
    require(isinstance(found, int), f"{WHAT} head", "a model whose configuration has a hidden_size", type(config).__name__)
    return int(found or 0)


def _names(folder: Path) -> list[str]:
    found = {each.relative_to(folder).as_posix() for pattern in FILES for each in folder.glob(pattern) if each.is_file()}
    return sorted(name for name in found if not name.endswith(INDEX))


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


def _first(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


# ---------------------------------------------------------------- what sentence-transformers adds


def _modules(folder: Path) -> list[Mapping[str, Any]]:
    """The modules of a sentence-transformers folder, in their order; none for any other folder."""
    try:
        found = json.loads((folder / MODULES).read_bytes()) if (folder / MODULES).is_file() else []
        return [{"type": str(each["type"]).rpartition(".")[2], "path": str(each["path"])} for each in found]
    except (ValueError, KeyError, TypeError) as error:
        raise unusable(folder / MODULES, "a list of modules, each with type and path", error) from error


def require_modules(folder: Path) -> None:
    """Raise InputError where sentence-transformers would do more than encode, pool and scale to unit length."""
    modules, usual = _modules(folder), ["Transformer", "Pooling", "Normalize"]
    kinds, what = [each["type"] for each in modules], f"{WHAT}, {folder / MODULES}"
    require(kinds in ([], usual[:1], usual[:2], usual), what, f"no modules but {', '.join(usual)}", ", ".join(kinds))
    paths = [each["path"] for each in modules]
    near = paths[:1] in ([], [""], ["."]) and not any("/" in path for path in paths)
    require(near, what, "its Transformer in the folder itself, others in folders right below", ", ".join(paths))


def pool_of(folder: Path) -> str:
    """How a sentence encoder pools; the mean over tokens where its folder does not say.

    Raises InputError for a way that is not done here.
    """
    named = [each["path"] for each in _modules(folder) if each["type"] == "Pooling"]
    path = folder / (named[0] if named else "1_Pooling") / CONFIG
    require(not named or path.is_file(), f"{WHAT}, {path}", "a file that says how to pool", "none")
    facts = facts_of(path)
    ways = {name.removeprefix(MODE).partition("_token")[0] for name, value in facts.items() if name.startswith(MODE) and value}
    said = facts.get("pooling_mode", [])  # as newer versions write it
    ways |= {said} if isinstance(said, str) else set(said)
    require(ways in ({"mean"}, {"cls"}, set()), f"{WHAT}, {path}", "pooling by mean or cls alone", ", ".join(sorted(ways)))
    return ways.pop() if ways else "mean"


def normalised(folder: Path) -> bool:
    """Whether the folder is of a sentence encoder that ends by scaling its outputs to unit length."""
    return any(each["type"] == "Normalize" for each in _modules(folder))


# ---------------------------------------------------------------- what all files of a folder share


def facts_of(path: Path) -> Mapping[str, Any]:
    """The facts in a JSON file; none where there is no such file. Raises InputError for a damaged one."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise unusable(path, "JSON", error) from error
    return found if isinstance(found, dict) else {}


def unusable(path: Path, expected: str, error: BaseException) -> InputError:
    """The InputError for a file or folder of which the library has raised something."""
    fix = "Name a folder that `save_pretrained` wrote, for this kind of input."
    return InputError(f"{WHAT}, {path}", expected=expected, found=f"{type(error).__name__}: {first_line(error)}", fix=fix)
