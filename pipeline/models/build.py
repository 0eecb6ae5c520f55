"""Building models: from a spec to a net that takes numbers, or texts that it encodes, and returns logits (B, classes)."""

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from pipeline.base import plugins, randomness, runtime, spec
from pipeline.base.errors import SoftcacheError, lacks_memory
from pipeline.base.randomness import Use
from pipeline.base.spec import Spec
from pipeline.data.inputs.kinds import Inputs
from pipeline.models import elsewhere
from pipeline.models.encoding import example, reads_text
from pipeline.models.onnx import Onnx
from pipeline.models.zoo.requirements import require
from pipeline.models.zoo.table import MODELS, VERSIONS


def parse_model(text: str) -> Spec:
    """Parse a model spec.

    Args:
        text: A name and its settings, such as `mlp(hidden=[30])`, or a plug-in such as `my_nets:build(width=8)`. A plug-in
            is called with (shape, classes) before its settings.

    Returns:
        The spec, for `build`.

    Raises:
        InputError: For bad syntax, an unknown name, and settings that do not fit.
    """
    found = spec.parse(text, MODELS | elsewhere.MODELS, VERSIONS | elsewhere.VERSIONS, given=2)
    return replace(found, behaviour=elsewhere.behaviour(found))


def build(model: Spec, inputs: Inputs, classes: int, *, seed: int = 0) -> nn.Module:
    """Build a net, to be trained, with the initial weights of a seed; torch's own random state stays as it was.

    Args and errors are those of `assemble`; a net that cannot be trained is refused too.
    """
    net, what = assemble(model, inputs, classes, seed=seed), f"model {model.text}"
    trained = sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
    require(trained > 0, what, "parameters to train", "none: such a teacher is adopted, with `softcache adopt`")
    return net.train()


def assemble(model: Spec, inputs: Inputs, classes: int, *, seed: int = 0) -> nn.Module:
    """Build a net, of which not every weight need be trained.

    Args:
        model: From `parse_model`.
        inputs: What it takes, as a split says.
        classes: How many logits the net returns.
        seed: Decides the initial weights.

    Returns:
        The net in evaluation mode: numbers (B, *shape) to float logits (B, classes). A net for text has a method `encode`.

    Raises:
        InputError: For settings that make no net, and for a net for another kind of input, or one that does not return one
            logit per class, or cannot be saved.
    """
    what = f"model {model.text}"
    with runtime.own_randomness():
        torch.manual_seed(randomness.torch_seed(seed, Use.INIT))
        try:
            built: nn.Module = model(tuple(inputs.shape), classes)
            require(isinstance(built, nn.Module), what, "a torch.nn.Module", type(built).__name__)
            takes = "a net for text" if reads_text(built) else "a net for numbers, without a method `encode`"
            require(reads_text(built) == (inputs.kind == "text"), what, f"a net for inputs of kind {inputs.kind}", takes)
            with torch.no_grad():
                logits = built.eval()(example(built, inputs))
            state = built.state_dict()
        except SoftcacheError:
            raise
        except Exception as error:
            if lacks_memory(error):
                raise
            require(
                False,
                what,
                f"a net for {inputs.dtype} {inputs.kind} inputs of shape {tuple(inputs.shape)}",
                plugins.reason(error),
            )
    found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    require(found == (2, classes), what, f"logits of shape (2, {classes}) for two rows", found)
    require(logits.is_floating_point(), what, "logits of a float dtype", logits.dtype)
    odd = [name for name, tensor in state.items() if not isinstance(tensor, torch.Tensor)]
    require(not odd, what, "a state of tensors", ", ".join(odd))
    if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values() if tensor.is_floating_point()):
        require(False, what, "finite initial weights", "others")
    return built


def placed(net: nn.Module, device: torch.device) -> nn.Module:
    """Move a net to a device; on a CPU its convolutions of colour images get weights with the channels last in memory.

    torch's convolutions then keep all values in that order, which makes a step 1.2 to 1.8 times as fast. With a single input
    channel it is no faster.
    """
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    if device.type == "cpu" and convolutions and convolutions[0].in_channels > 1:
        for each in convolutions:
            each.weight.data = each.weight.data.contiguous(memory_format=torch.channels_last)
    return net.to(device)


def parameter_count(model: nn.Module) -> int:
    """Number of values in all parameters, and in the weights of an ONNX model."""
    inside = sum(module.weights for module in model.modules() if isinstance(module, Onnx))
    return inside + sum(parameter.numel() for parameter in model.parameters())


def flops(model: nn.Module, inputs: torch.Tensor) -> float:
    """Roughly the floating-point operations of a forward pass for one row: two per weight and position of a module's output.

    inputs: some rows, (n, *shape), on its device. It decides how many threads work is worth; operations.py counts exactly.
    """
    total = 0.0

    def count(module: nn.Module, given: Any, output: Any) -> None:
        nonlocal total
        if isinstance(module, Onnx):
            total += module.flops
        for weight in module.parameters(recurse=False):
            if weight.dim() > 1 and isinstance(output, torch.Tensor):
                total += 2 * weight.numel() * output[0].numel() / weight.shape[0]

    training = model.training
    hooks = [module.register_forward_hook(count) for module in model.modules()]
    try:
        with torch.no_grad():
            model.eval()(inputs)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return total
