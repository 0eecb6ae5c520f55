"""A stack: several nets of one architecture trained as one, on batches that they share."""

import copy
from collections.abc import Sequence

import torch
from torch import nn
from torch.func import functional_call, vmap


class Stack(nn.Module):
    """Nets of one architecture, each parameter stacked along a new first axis; one forward pass runs all of them.

    Gives logits (B, nets, classes) for the pixels (B, C, H, W) that all nets see. In training, dropout falls on the same
    units in every net, as it does in nets that are trained one by one with one seed. No value of a net depends on the
    others, but the last bits of its sums are not those of a pass on its own.
    """

    def __init__(self, nets: Sequence[nn.Module]):
        super().__init__()
        self._single = [copy.deepcopy(nets[0])]  # in a list, so that its own weights are not parameters of the stack
        self._names = [name for name, _ in nets[0].named_parameters()]
        columns = zip(*(net.parameters() for net in nets), strict=True)
        self.stacked = nn.ParameterList(
            nn.Parameter(torch.stack([tensor.detach() for tensor in column]), column[0].requires_grad) for column in columns
        )

    def __len__(self) -> int:
        return len(self.stacked[0])

    def train(self, mode: bool = True) -> "Stack":
        self._single[0].train(mode)
        return super().train(mode)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return vmap(self._one, in_dims=(0, None), out_dims=1, randomness="same")(tuple(self.stacked), pixels)

    def nets(self) -> list[nn.Module]:
        """The nets, each with weights of its own."""
        unstacked = []
        for place in range(len(self)):
            net = copy.deepcopy(self._single[0])
            weights = {name: column[place].detach().clone() for name, column in zip(self._names, self.stacked, strict=True)}
            net.load_state_dict(weights)
            unstacked.append(net)
        return unstacked

    def _one(self, weights: tuple[torch.Tensor, ...], pixels: torch.Tensor) -> torch.Tensor:
        return functional_call(self._single[0], dict(zip(self._names, weights, strict=True)), (pixels,))


def stackable(net: nn.Module, shape: Sequence[int]) -> bool:
    """Whether nets like this one can be stacked: no state besides parameters, as batch statistics are, and vmap runs it.

    shape: of the pixels, (channels, height, width).
    """
    if any(True for _ in net.buffers()):
        return False
    device = next(net.parameters()).device
    try:
        with torch.no_grad(), torch.random.fork_rng():
            Stack([net, net])(torch.zeros(2, *shape, dtype=torch.uint8, device=device))
    except RuntimeError:  # vmap's word for what it cannot do
        return False
    return True


def side_by_side(model: nn.Module) -> list[torch.Tensor]:
    """Every tensor of the model's state as (nets, …), sharing memory; one net is a stack of one."""
    tensors = list(model.state_dict().values())
    return tensors if isinstance(model, Stack) else [tensor[None] for tensor in tensors]
