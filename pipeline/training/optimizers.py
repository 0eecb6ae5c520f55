"""Optimizers: those of torch, with a step of all weights in one call.

torch.optim calls the same kernels with `fused=True`. But its step spends 60 µs in Python, which is long for a small net, and
the first one imports torch's compiler, which takes as long as torch itself.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.optim import Optimizer


class _Fused(Optimizer):
    """A step for those weights that have gradients; weights, gradients and state have the same order in memory."""

    # as in torch, without the decorator that imports the compiler to keep it out of them
    state_dict = inspect.unwrap(Optimizer.state_dict)
    _load = inspect.unwrap(Optimizer.load_state_dict)
    _add = inspect.unwrap(Optimizer.add_param_group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take more weights, and close gaps between their values in memory, which the kernels of torch would write to."""
        self._add(param_group)
        for weight in param_group["params"]:
            if torch.empty_like(weight).stride() != weight.stride():
                weight.data = weight.data.contiguous()

    def _patch_step_function(self) -> None:
        """Torch would wrap `step` for its profiler and hooks, which takes as long as the step of a small net."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for weight in group["params"]:
                weight.grad = None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # none of our steps needs a closure
        """Update every weight that has a gradient."""
        for group in self.param_groups:
            alike: dict[Any, tuple[list[torch.Tensor], list[torch.Tensor]]] = {}
            for weight in group["params"]:
                if (gradient := weight.grad) is not None:
                    weights, gradients = alike.setdefault((weight.dtype, weight.device), ([], []))
                    weights.append(weight)
                    gradients.append(gradient)
            for weights, gradients in alike.values():
                self._update(weights, gradients, group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._load(state_dict)
        for weight, held in self.state.items():
            for name, tensor in held.items():
                held[name] = self._like(weight, tensor.shape).copy_(tensor)

    def _held(self, name: str, weights: list[torch.Tensor], shape: tuple[int, ...] | None = None) -> list[torch.Tensor]:
        """What is kept for each weight under this name, zeros at first: like the weight, or float32 of another shape."""
        for weight in weights:
            if name not in self.state[weight]:
                self.state[weight][name] = self._like(weight, weight.shape if shape is None else shape).zero_()
        return [self.state[weight][name] for weight in weights]

    def _like(self, weight: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        if shape == weight.shape:
            return torch.empty_like(weight)
        return torch.empty(shape, dtype=torch.float32, device=weight.device)

    def _update(self, weights: list[torch.Tensor], gradients: list[torch.Tensor], group: Mapping[str, Any]) -> None:
        """One step of weights of one dtype on one device."""
        raise NotImplementedError


class SGD(_Fused, torch.optim.SGD):
    """Stochastic gradient descent; arguments and state are those of torch.optim.SGD."""

    def _update(self, weights: list[torch.Tensor], gradients: list[torch.Tensor], group: Mapping[str, Any]) -> None:
        momentum = group["momentum"]
        torch._fused_sgd_(
            weights, gradients, self._held("momentum_buffer", weights) if momentum else [], lr=group["lr"], momentum=momentum,
            weight_decay=group["weight_decay"], dampening=0.0, nesterov=group["nesterov"], maximize=False, is_first_step=False,
        )  # fmt: skip


class _Moments(_Fused):
    """What Adam and AdamW share: running means of gradients and of their squares."""

    _kernel: Callable[..., None]

    def _update(self, weights: list[torch.Tensor], gradients: list[torch.Tensor], group: Mapping[str, Any]) -> None:
        steps = self._held("step", weights, ())
        torch._foreach_add_(steps, 1)
        self._kernel(
            weights, gradients, self._held("exp_avg", weights), self._held("exp_avg_sq", weights), [], steps, lr=group["lr"],
            beta1=group["betas"][0], beta2=group["betas"][1], weight_decay=group["weight_decay"], eps=group["eps"],
            amsgrad=False, maximize=False,
        )  # fmt: skip


class Adam(_Moments, torch.optim.Adam):
    """Adam; arguments and state are those of torch.optim.Adam."""

    _kernel = staticmethod(torch._fused_adam_)


class AdamW(_Moments, torch.optim.AdamW):
    """Adam with decoupled weight decay; arguments and state are those of torch.optim.AdamW."""

    _kernel = staticmethod(torch._fused_adamw_)
