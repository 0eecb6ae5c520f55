"""Stack: several nets of one architecture that train as one module, on the same batches."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from pipeline.base import runtime
from pipeline.models import wide


class Stacked(nn.Parameter):
    """A parameter of several nets: (nets, …)."""


class Stack(nn.Module):
    """Nets of one architecture as one module: each parameter is stacked along a new first axis.

    `forward` maps inputs (B, *shape), the same for all nets, to logits (B, nets, classes). In training, dropout hits the
    same units in all nets, as if each was trained alone with the same seed. The nets do not influence each other, but the
    last bits of their sums may differ from those of a net that runs alone. Buffers are those of the first net, and must not
    change in training. Nets of linear layers run as wide.py says, and others by torch.func.vmap.
    """

    def __init__(self, nets: Sequence[nn.Module]):
        super().__init__()
        self._single = [copy.deepcopy(nets[0])]  # in a list, so that its weights do not become parameters of the stack
        weights, _ = stack_module_state(list(nets))
        self.names = list(weights)
        self.stacked = nn.ParameterList(Stacked(each.detach(), each.requires_grad) for each in weights.values())
        self._layers = wide.layers_of(self._single[0])  # likewise

    def __len__(self) -> int:
        return len(self.stacked[0])

    @property
    def pattern(self) -> nn.Module:
        """A net of this architecture, with the initial weights of the first net."""
        return self._single[0]

    def train(self, mode: bool = True) -> "Stack":
        self._single[0].train(mode)
        return super().train(mode)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self._layers:
            return wide.logits(self._layers, list(self.stacked), inputs)
        logits: torch.Tensor = vmap(self._one, (0, None), out_dims=1, randomness="same")(tuple(self.stacked), inputs)
        return logits

    def nets(self) -> list[nn.Module]:
        """The nets as separate modules, each with its own copy of its weights."""
        unstacked = []
        for index in range(len(self)):
            net = copy.deepcopy(self._single[0])
            weights = {name: tensor[index].detach().clone() for name, tensor in zip(self.names, self.stacked, strict=True)}
            net.load_state_dict(net.state_dict() | weights)
            unstacked.append(net)
        return unstacked

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> "Stack":
        """Move the buffers together with the parameters, such as to another device."""
        self._single[0]._apply(fn, recurse)
        nn.Module._apply(self, fn, recurse)
        return self

    def _one(self, weights: tuple[torch.Tensor, ...], inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = functional_call(self._single[0], dict(zip(self.names, weights, strict=True)), (inputs,))
        return logits


def stackable(nets: Sequence[nn.Module], inputs: torch.Tensor) -> bool:
    """Whether these nets can form one stack: vmap can run them, and their buffers are equal and constant in training.

    Nets with batch statistics cannot. inputs: some rows, (n, *shape), on their device.
    """
    first, *others = nets
    if first.state_dict().keys() - dict(first.named_parameters()).keys() - dict(first.named_buffers()).keys():
        return False  # tied weights would come apart
    probe = copy.deepcopy(first).train()
    try:
        with torch.no_grad(), runtime.own_randomness():
            probe(inputs)
            if not all(_same_buffers(first, net) for net in (probe, *others)):
                return False
            Stack([first, first]).train()(inputs)
    except (RuntimeError, ValueError):  # vmap cannot run this net
        return False
    return True


def _same_buffers(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(first, second) for first, second in zip(one.buffers(), other.buffers(), strict=True))


def is_weight(parameter: torch.Tensor) -> bool:
    """Whether a parameter, of one net or stacked, has several numbers for each unit: no bias, and no scale of a norm."""
    return parameter.dim() - isinstance(parameter, Stacked) > 1


def side_by_side(model: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of a model by name, each (nets, …), sharing its memory: parameters of a stack, all state of one net."""
    if isinstance(model, Stack):
        return dict(zip(model.names, (tensor.detach() for tensor in model.stacked), strict=True))
    return {name: tensor[None] for name, tensor in model.state_dict().items()}
