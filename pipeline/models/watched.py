"""Watched: a net that gives the outputs of some of its layers beside its logits, such as the hidden states before them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from pipeline.base.errors import InputError
from pipeline.models.encoding import example
from pipeline.models.outputs import Mapped
from pipeline.models.predict import device_of

_TEXT = re.compile(r"\s*([A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*)\s*(?:\|\s*([A-Za-z]+)\s*)?")
_SHOWN = 30  # layers in a message


def _pool(output: torch.Tensor) -> torch.Tensor:
    """The mean over space, (B, C, H, W) to (B, C), or over positions, (B, positions, D) to (B, D)."""
    return output.flatten(2).mean(dim=2) if output.dim() > 3 else output.mean(dim=1)


def _attention(output: torch.Tensor) -> torch.Tensor:
    """The mean over channels of squares, (B, C, H, W) to (B, H, W): Zagoruyko & Komodakis 2017 (arXiv 1612.03928)."""
    return output.square().mean(dim=1)


STEPS = {"pool": (_pool, 3), "attention": (_attention, 4)}  # step → function, and the fewest axes that it takes
VERSION = 1  # of what the steps compute


@dataclass(frozen=True)
class Feature:
    """The output of a layer of a net, as it is or after a step: `layer3`, `layer3 | pool`, `layer2 | attention`.

    layer: the name of a module, or another that the net has for it, see `layers_of`. step: of STEPS; None for none.
    """

    layer: str
    step: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Feature":
        """Parse a feature; raises InputError for anything else."""
        found = _TEXT.fullmatch(text)
        if found is None or found[2] not in (None, *STEPS):
            expected = f"a layer, or one with a step ({', '.join(STEPS)}), such as layer3 or `layer3 | pool`"
            raise InputError("feature", expected=expected, found=repr(text), fix="Correct it.")
        return cls(found[1], found[2])

    @property
    def text(self) -> str:
        """Its canonical form."""
        return self.layer if self.step is None else f"{self.layer} | {self.step}"

    def of(self, output: Any) -> torch.Tensor:
        """What it is of the output of its layer: (B, …) floats; of several outputs the first counts."""
        found = output
        while isinstance(found, tuple | list | dict) and found:
            found = next(iter(found.values())) if isinstance(found, dict) else found[0]
        fits = isinstance(found, torch.Tensor) and found.is_floating_point() and found.dim() > 1
        least = 2 if self.step is None else STEPS[self.step][1]
        if not fits or found.dim() < least:
            told = f"floats of shape {tuple(found.shape)}" if fits else type(found).__name__
            expected = f"an output with {least} axes or more"
            raise InputError(f"feature {self.text}", expected=expected, found=told, fix="Choose another layer, or step.")
        return found if self.step is None else STEPS[self.step][0](found)


class Watched(nn.Module):
    """A net that returns its logits, and then the input of its head, if asked for, and some features.

    head: the name of a linear layer, see `head_of`. The net itself is not changed, and shares its weights.
    """

    def __init__(self, net: nn.Module, features: Sequence[Feature] = (), head: str | None = None):
        super().__init__()
        self.net, self.features, self.head = net, tuple(features), head
        self.training = net.training
        known = layers_of(net)
        for each in self.features:
            if each.layer not in known:
                there = ", ".join(list(known)[:_SHOWN]) + (", …" if len(known) > _SHOWN else "")
                raise InputError(
                    f"feature {each.text}", expected=f"one of the layers {there}", found=each.layer, fix="Correct it."
                )
        self._layers = {
            each.layer: [known[each.layer]] for each in self.features
        }  # in lists: they are parts of the net already

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Logits (B, classes); with a head its inputs (B, width); then every feature (B, …), in the order given."""
        seen: dict[str | None, torch.Tensor] = {}
        hooks = [self._watch(seen, each) for each in self.features]
        if self.head is not None:
            hooks.append(self._watch_head(seen, self.net.get_submodule(self.head)))
        try:
            logits = self.net(inputs)
        finally:
            for hook in hooks:
                hook.remove()
        hidden = () if self.head is None else (seen[None],)
        for each in self.features:
            if (found := seen.get(each.text)) is None:
                expected, fix = "a layer that the net runs", "Choose another layer."
                raise InputError(f"feature {each.text}", expected=expected, found="one that it does not call", fix=fix)
            if len(found) != len(inputs):
                expected, shape = f"an output whose first axis is the {len(inputs)} rows of a batch", tuple(found.shape)
                raise InputError(
                    f"feature {each.text}", expected=expected, found=f"one of shape {shape}", fix="Choose another layer."
                )
        return (logits, *hidden, *(seen[each.text] for each in self.features))

    def _watch(self, seen: dict[str | None, torch.Tensor], feature: Feature) -> RemovableHandle:
        """Note a feature as soon as its layer gives it; a copy, because later layers may change its output in place."""

        def note(module: nn.Module, given: Any, output: Any) -> None:
            found = feature.of(output)
            seen[feature.text] = found.clone() if feature.step is None else found

        [layer] = self._layers[feature.layer]
        return layer.register_forward_hook(note)

    def _watch_head(self, seen: dict[str | None, torch.Tensor], head: nn.Module) -> RemovableHandle:
        def note(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            seen[None] = given[0] if given else named["input"]

        return head.register_forward_pre_hook(note, with_kwargs=True)

    def shapes(self, inputs: torch.Tensor) -> list[tuple[int, ...]]:
        """The shape of a row of everything that it returns, tried on some inputs: (n, *shape)."""
        training = self.training
        try:
            with torch.no_grad():
                return [tuple(each.shape[1:]) for each in self.eval()(inputs.to(device_of(self.net)))]
        finally:
            self.train(training)


def layers_of(net: nn.Module) -> Mapping[str, nn.Module]:
    """The layers of a net by name.

    A built-in net has the names of its attribute `layer_names`, such as layer3; after them, every module has the name that
    torch gives it. What only wraps a net, as its `net` or `model`, to scale pixels, say, is left out of the names.
    """
    inner = net
    while [name for name, _ in inner.named_children()] in (["net"], ["model"]):
        [inner] = inner.children()
    modules = {name: module for name, module in inner.named_modules() if name}
    own = getattr(inner, "layer_names", {})
    return {name: modules[path] for name, path in own.items()} | modules


@dataclass(frozen=True)
class Head:
    """The last layer of a net, which makes logits of hidden states: logits = hidden · weightᵀ + bias.

    name: of the module. weight: (classes, width) float32. bias: (classes,) float32, 0 where the layer has none.
    """

    name: str
    weight: torch.Tensor
    bias: torch.Tensor


def head_of(net: nn.Module, inputs: Any) -> Head | None:
    """The linear layer whose outputs are the logits of a net; None where there is none.

    inputs: what the net takes, as a split says. Of a net whose outputs are grouped into classes, the layer has a row for each
    class, unless some class has several outputs: those have no linear layer.
    """
    shown, last = example(net, inputs), net
    outputs = None
    if isinstance(net, Mapped):
        last, outputs = net.net, net.outputs
    if outputs is not None and any(len(group) > 1 for group in outputs.groups):
        return None
    calls: list[tuple[str, nn.Linear, torch.Tensor]] = []
    hooks = [
        module.register_forward_hook(lambda module, given, output, name=name: calls.append((name, module, output)))
        for name, module in net.named_modules()
        if type(module) is nn.Linear
    ]
    try:
        with torch.no_grad():
            logits = last.eval()(shown)
    finally:
        for hook in hooks:
            hook.remove()
    found = [(name, module) for name, module, output in calls if output.shape == logits.shape and torch.equal(output, logits)]
    if not found or sum(module is found[-1][1] for _, module, _ in calls) > 1:
        return None
    name, linear = found[-1]
    weight = linear.weight.detach().float().cpu()
    bias = linear.bias.detach().float().cpu() if linear.bias is not None else torch.zeros(len(weight))
    if outputs is not None:
        chosen = [group[0] for group in outputs.groups]
        weight, bias = weight[chosen], bias[chosen]
    return Head(name, weight.contiguous(), bias.contiguous())
