"""Weights: those of a trained net, in a file that this project did not write. Nothing is unpickled."""

import io
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from pipeline.base import files
from pipeline.base.errors import InputError, first_line, lacks_memory

Tensors = dict[str, torch.Tensor]
SHOWN = 5  # names in a message
_INSIDE = ("state_dict", "model_state_dict", "model")  # where training scripts keep the weights, beside other things
_BEFORE = "module."  # what torch's DataParallel writes before every name
_PLAIN = "`torch.save(net.state_dict(), file)`, or `safetensors.torch.save_file(net.state_dict(), file)`"


def read(path: Path) -> tuple[Tensors, files.Witness]:
    """The tensors in a file.

    Args:
        path: A safetensors file, or what torch.save wrote of a state_dict, or of a dict that holds one as `state_dict`,
            `model_state_dict` or `model`.

    Returns:
        The tensors by name, on the CPU, and a witness of the file.

    Raises:
        InputError: There is no such file, or it holds anything else; one that only unpickling could read is not read.
    """
    if path.is_dir():
        raise InputError(str(path), expected="a file", found="a folder", fix="Correct `weights`.")
    data = files.read(path, "Correct `weights`.")
    witness = files.Witness.of_file(path, files.sha256(data))
    if path.suffix == ".safetensors" or data[8:9] == b"{":  # its header follows 8 bytes with its size
        try:
            return safetensors.torch.load(data), witness
        except safetensors.SafetensorError as error:
            raise InputError(str(path), expected="a safetensors file", found=first_line(error), fix="Save it again.") from error
    try:
        found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        if lacks_memory(error):
            raise
        raise InputError(
            str(path),
            expected="tensors that load without running code (weights_only)",
            found="a pickle of other objects, or no file of torch.save",
            fix=f"Save its state_dict alone: {_PLAIN}.",
        ) from error
    return _tensors(path, found), witness


def _tensors(path: Path, found: Any) -> Tensors:
    inside = next((found[key] for key in _INSIDE if isinstance(found, Mapping) and isinstance(found.get(key), Mapping)), found)
    if not isinstance(inside, Mapping) or not inside or not all(isinstance(each, torch.Tensor) for each in inside.values()):
        told = (
            f"a dict with {', '.join(map(str, list(inside)[:SHOWN]))}" if isinstance(inside, Mapping) else type(inside).__name__
        )
        raise InputError(str(path), expected="a state_dict: tensors by name", found=told, fix=f"Save that alone: {_PLAIN}.")
    cut = len(_BEFORE) if all(str(name).startswith(_BEFORE) for name in inside) else 0
    return {str(name)[cut:]: tensor for name, tensor in inside.items()}


def outputs_in(net: nn.Module, tensors: Tensors, classes: int) -> int:
    """How many outputs a net was trained for, of which these are the weights.

    net: built for `classes` outputs. Where tensors differ from its own in the first axis alone, and there have one size where
    the net has `classes`, that is the number.
    """
    state = net.state_dict()
    sizes = {
        tensors[name].shape[0]
        for name, own in state.items()
        if name in tensors and own.dim() and tensors[name].dim() == own.dim()
        and own.shape[0] == classes and tensors[name].shape[0] != classes and tensors[name].shape[1:] == own.shape[1:]
    }  # fmt: skip
    return sizes.pop() if len(sizes) == 1 else classes


def load(net: nn.Module, tensors: Tensors, what: str) -> None:
    """Give a net these weights; all of them, and no others.

    what: The net, for messages. Raises InputError that names the first five weights that are missing, unexpected, or of
    another shape. Tied weights need be there under one of their names only, and the step counts of BatchNorm not at all.
    """
    state = net.state_dict()
    held = {(own.data_ptr(), own.shape) for name, own in state.items() if name in tensors and own.numel()}
    missing = [
        name for name, own in state.items()
        if name not in tensors and not name.endswith("num_batches_tracked")
        and not (own.numel() and (own.data_ptr(), own.shape) in held)
    ]  # fmt: skip
    odd = [name for name in tensors if name not in state]
    shapes = [name for name, own in state.items() if name in tensors and tensors[name].shape != own.shape]
    told = [f"{len(names):,} {kind}: {_names(names)}" for kind, names in (("missing", missing), ("unexpected", odd)) if names]
    if shapes:
        each = [f"{name} {tuple(tensors[name].shape)} for {tuple(state[name].shape)}" for name in shapes]
        told.append(f"{len(shapes):,} of another shape: {_names(each)}")
    if told:
        raise InputError(what, expected="the weights of this net", found="; ".join(told), fix="Correct `model` or `weights`.")
    net.load_state_dict(tensors, strict=False)


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
