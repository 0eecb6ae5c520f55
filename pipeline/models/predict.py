"""The only inference loop: raw logits in tiles of a fixed number of rows.

The last bits of a float32 product depend on the batch size, so every forward pass has the same number of rows; the last
tile is padded. They also depend on where in memory its factors begin, so floats begin where torch would put them.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np
import torch

VERSION = 2  # of the logits that the loop computes for a net and its pixels
ALIGNED = 64  # bytes: torch's own tensors begin at multiples of this on a CPU
TILE = 512  # rows of a forward pass, by default
_HOST = torch.device("cpu")


class Inputs(Protocol):
    """The inputs of all rows: a tensor (N, *shape), or rows.Rows, which need not be in memory."""

    def __len__(self) -> int: ...

    def split(self, size: int, /) -> Iterable[torch.Tensor]:
        """`size` rows at a time, from the first one on; the last piece may have fewer."""

    def __getitem__(self, rows: slice, /) -> "Inputs":
        """Some of these rows, which follow each other."""


def predict(model: torch.nn.Module, inputs: Inputs, *, tile: int = TILE) -> np.ndarray:
    """Raw logits of a net in evaluation mode; the net keeps its own mode.

    Args:
        model: A net, or a stack of nets, on any device.
        inputs: Of N rows, as encoding.tensor gives them, on any device; each tile moves to the device of the model.
        tile: Rows of one forward pass; the last tile is padded to this size.

    Returns:
        Float32 numpy: (N, classes), or (N, nets, classes) for a stack; at T = 1.
    """
    buffer, pieces = HostBuffer(len(inputs)), iter(inputs.split(tile))
    for start, logits in tiles(model, len(inputs), lambda rows: next(pieces), tile=tile):
        buffer.add(start, logits)
    return buffer.numpy()


def tiles(
    model: torch.nn.Module, rows: int, inputs: Callable[[slice], torch.Tensor], *, tile: int = TILE
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yields for each tile its first row, and its logits (rows, classes) float32 on the model's device.

    inputs: gives those of some rows, (n, *shape), on any device; it is called tile by tile.
    """
    for start, (logits, *_) in outputs(model, rows, inputs, tile=tile):
        yield start, logits


def outputs(
    model: torch.nn.Module, rows: int, inputs: Callable[[slice], torch.Tensor], *, tile: int = TILE
) -> Iterator[tuple[int, tuple[torch.Tensor, ...]]]:
    """Like `tiles`, for a net that returns more beside its logits: all that it returns, (rows, …) float32 each."""
    training = model.training
    model.eval()
    try:
        for start in range(0, rows, tile):
            yield start, _tile(model, inputs(slice(start, min(start + tile, rows))), tile)
    finally:
        model.train(training)


@torch.inference_mode()
def _tile(model: torch.nn.Module, inputs: torch.Tensor, tile: int) -> tuple[torch.Tensor, ...]:
    rows = len(inputs)
    if rows < tile:
        inputs = torch.cat([inputs, inputs.new_zeros((tile - rows, *inputs.shape[1:]))])
    if inputs.is_floating_point() and inputs.data_ptr() % ALIGNED:  # integers are converted, to tensors of torch's own
        inputs = inputs.clone()
    found = model(inputs.to(device_of(model)))
    return tuple(each[:rows].to(torch.float32) for each in (found if isinstance(found, tuple) else (found,)))


def device_of(net: torch.nn.Module | None) -> torch.device:
    """Where a net is; the CPU for none, and for one that torch does not run."""
    return next((parameter.device for parameter in net.parameters()), _HOST) if net is not None else _HOST


class HostBuffer:
    """A buffer on the host for the logits, or other outputs, of `rows` rows.

    From CUDA they are copied into pinned memory on a separate stream, while the model goes on with the next tile.
    """

    def __init__(self, rows: int, dtype: torch.dtype = torch.float32):
        self._rows, self._dtype = rows, dtype
        self._logits: torch.Tensor | None = None
        self._stream: torch.cuda.Stream | None = None

    def add(self, start: int, logits: torch.Tensor) -> None:
        """Copy the outputs of a tile, such as logits (n, classes) float32, for the rows from `start` on."""
        cuda = logits.is_cuda
        if self._logits is None:
            self._logits = torch.empty((self._rows, *logits.shape[1:]), dtype=self._dtype, pin_memory=cuda)
            self._stream = torch.cuda.Stream(logits.device) if cuda else None
        target = self._logits[start : start + len(logits)]
        if self._stream is None:
            target.copy_(logits)
            return
        self._stream.wait_stream(torch.cuda.current_stream(logits.device))
        with torch.cuda.stream(self._stream):
            target.copy_(logits, non_blocking=True)
        logits.record_stream(self._stream)  # keeps its memory until the copy is done

    def numpy(self) -> np.ndarray:
        """The outputs of all rows, (rows, …) of the dtype of the buffer; waits until all copies are done."""
        if self._stream is not None:
            self._stream.synchronize()
        if self._logits is None:
            raise ValueError("expected the logits of some tile, found none")
        return self._logits.numpy()
