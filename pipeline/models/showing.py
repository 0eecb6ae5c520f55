"""Showing: rows of a split in views, as a net takes them.

Views of numbers are made batch by batch, where the net is. Views of texts are made when they are read: texts are rewritten,
then encoded by the net.
"""

import numpy as np
import torch
from torch import nn

from pipeline.data.splits import Split
from pipeline.data.views import Policy
from pipeline.models.encoding import encode, tensor


def in_views(
    held: torch.Tensor, split: Split, span: int, wanted: slice | np.ndarray, views: np.ndarray, policy: Policy
) -> torch.Tensor:
    """Rows of numbers in views: (n, *shape), on the device of `held`.

    held: all rows of a span, untouched. wanted: which of them, counted from the span's first row. views: (n,) int64.
    """
    start, stop = split.spans()[span]
    rows = np.arange(start, stop)[wanted]
    own = held[wanted] if isinstance(wanted, slice) else held[torch.from_numpy(wanted).to(held.device)]
    if not policy.mixes:
        return policy.apply(own, rows, views)
    others, _ = policy.partners(rows, views, split.span, split.rows, split.inputs.shape)
    return policy.apply(own, rows, views, (others, held[torch.from_numpy(others - start).to(held.device)]))


def texts_in_views(net: nn.Module, texts: np.ndarray, rows: np.ndarray, views: np.ndarray, policy: Policy) -> torch.Tensor:
    """Texts, (n,) str objects, in views, as the net encodes them. rows: (n,) int64, their numbers in the split."""
    return encode(net, policy.rewrite(texts.tolist(), rows, views))


def span_in_views(
    net: nn.Module, split: Split, span: int, wanted: np.ndarray, views: np.ndarray, policy: Policy
) -> torch.Tensor:
    """Some rows of a span in views, on the CPU, read for this. wanted: counted from the span's first row."""
    found = split.read(span)
    if split.inputs.kind == "text":
        return texts_in_views(net, found[wanted], span * split.span + wanted, views, policy)
    return in_views(tensor(net, found), split, span, wanted, views, policy)
