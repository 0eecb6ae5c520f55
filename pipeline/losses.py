"""Losses, one value per example, not reduced.

`kl` is the distillation term of Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network" (2015,
arXiv 1503.02531), section 2: both distributions softened at temperature T, times T² so that the gradients keep their
size when T changes. The paper writes the cross-entropy with the soft targets; KL differs from it by the entropy of
the targets, a constant, and so has the same gradient and the minimum 0.
"""

import torch
from torch.nn import functional

# In float64: at high temperatures the terms of the sum nearly cancel, and T² multiplies what rounding leaves.


def kl(logits: torch.Tensor, targets: torch.Tensor, temperature: float) -> torch.Tensor:
    """T² · KL(softmax(targets / T) ‖ softmax(logits / T)), both (B, C) logits; returns (B,) float64, in nats."""
    student = functional.log_softmax(logits.double() / temperature, dim=1)
    teacher = functional.log_softmax(targets.double() / temperature, dim=1)
    return temperature**2 * (teacher.exp() * (teacher - student)).sum(dim=1)


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """−log softmax(logits)[label] at T = 1; logits (B, C), labels (B,) int64; returns (B,) in nats."""
    return functional.cross_entropy(logits, labels, reduction="none").double()
