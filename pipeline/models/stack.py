"""A stack: several nets of one architecture trained as one, on batches that they share."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from pipeline.base import runtime


class Stack(nn.Module):
    """Nets of one architecture, each parameter stacked along a new first axis; one forward pass runs all of them.

    Gives logits (B, nets, classes) for the pixels (B, C, H, W) that all nets see. In training, dropout falls on the same
    units in every net, as it does in nets that are trained one by one with one seed. No value of a net depends on the
    others, but the last bits of its sums are not those of a pass on its own. Buffers, which must not change in training,
    are those of the first net.
    """

    def __init__(self, nets: Sequence[nn.Module]):
        super().__init__()
        self._single = [copy.deepcopy(nets[0])]  # in a list, so that its own weights are not parameters of the stack
        weights, _ = stack_module_state(list(nets))
        self.names = list(weights)
        self.stacked = nn.ParameterList(nn.Parameter(each.detach(), each.requires_grad) for each in weights.values())

    def __len__(self) -> int:
        return len(self.stacked[0])

    @property
    def pattern(self) -> nn.Module:
        """A net of this architecture, with the initial weights of the first one."""
        return self._single[0]

    def train(self, mode: bool = True) -> "Stack":
        self._single[0].train(mode)
        return super().train(mode)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = vmap(self._one, (0, None), out_dims=1, randomness="same")(tuple(self.stacked), pixels)
        return logits

    def nets(self) -> list[nn.Module]:
        """The nets, each with weights of its own."""
        unstacked = []
        for place in range(len(self)):
            net = copy.deepcopy(self._single[0])
            weights = {name: column[place].detach().clone() for name, column in zip(self.names, self.stacked, strict=True)}
            net.load_state_dict(net.state_dict() | weights)
            unstacked.append(net)
        return unstacked

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> "Stack":
        """Take the buffers along to another device."""
        self._single[0]._apply(fn, recurse)
        nn.Module._apply(self, fn, recurse)
        return self

    def _one(self, weights: tuple[torch.Tensor, ...], pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = functional_call(self._single[0], dict(zip(self.names, weights, strict=True)), (pixels,))
        return logits


def stackable(nets: Sequence[nn.Module], shape: Sequence[int]) -> bool:
    """Whether these nets can be one stack: vmap runs them, and their buffers are alike and stay as they are in training.

    Batch statistics do not. shape: of the pixels, (channels, height, width).
    """
    first, *others = nets
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, *shape), generator=generator, dtype=torch.uint8).to(next(first.parameters()).device)
    probe = copy.deepcopy(first).train()
    try:
        with torch.no_grad(), runtime.own_randomness():
            probe(pixels)
            if not all(_same_buffers(first, net) for net in (probe, *others)):
                return False
            Stack([first, first]).train()(pixels)
    except (RuntimeError, ValueError):  # vmap's word for what it cannot do
        return False
    return True


def _same_buffers(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(here, there) for here, there in zip(one.buffers(), other.buffers(), strict=True))


def side_by_side(model: nn.Module) -> dict[str, torch.Tensor]:
    """What training changes of a model, by name, as (nets, …), sharing memory; one net is a stack of one.

    Of a stack those are weights, of a net all of its state.
    """
    if isinstance(model, Stack):
        return dict(zip(model.names, (tensor.detach() for tensor in model.stacked), strict=True))
    return {name: tensor[None] for name, tensor in model.state_dict().items()}
