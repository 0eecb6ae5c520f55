"""The only inference loop: raw logits in tiles of a fixed number of rows.

The last bits of a float32 product depend on the batch size, so every forward pass of a capture has the same number of
rows; the last tile of a span is padded.
"""

from collections.abc import Iterator

import numpy as np
import torch

VERSION = 1  # of what the loop gives for a net and its pixels
TILE = 512  # rows of a forward pass where nothing else is asked for


def predict(model: torch.nn.Module, pixels: torch.Tensor, *, tile: int = TILE) -> np.ndarray:
    """Raw logits of a model in evaluation mode at T = 1.

    pixels: (N, C, H, W) uint8, on any device; each tile moves to the model's. Returns float32 numpy:
    (N, classes), or (N, nets, classes) for a stack.
    """
    buffer = HostBuffer(len(pixels))
    for start, logits in tiles(model, pixels, tile=tile):
        buffer.add(start, logits)
    return buffer.numpy()


def tiles(model: torch.nn.Module, pixels: torch.Tensor, *, tile: int = TILE) -> Iterator[tuple[int, torch.Tensor]]:
    """(first row, logits (rows, classes) float32 on the model's device), tile by tile."""
    training = model.training
    model.eval()
    try:
        for start in range(0, len(pixels), tile):
            yield start, _tile(model, pixels[start : start + tile], tile)
    finally:
        model.train(training)


@torch.inference_mode()
def _tile(model: torch.nn.Module, pixels: torch.Tensor, tile: int) -> torch.Tensor:
    rows = len(pixels)
    if rows < tile:
        pixels = torch.cat([pixels, pixels.new_zeros((tile - rows, *pixels.shape[1:]))])
    logits: torch.Tensor = model(pixels.to(next(model.parameters()).device))
    return logits[:rows].to(torch.float32)


class HostBuffer:
    """Where logits of `rows` rows arrive on the host.

    From CUDA they are copied into pinned memory on a stream of their own, while the model goes on with the next tile.
    """

    def __init__(self, rows: int):
        self._rows = rows
        self._logits: torch.Tensor | None = None
        self._stream: torch.cuda.Stream | None = None

    def add(self, start: int, logits: torch.Tensor) -> None:
        """Take the logits of a tile: (n, classes) float32, of the rows from `start` on."""
        cuda = logits.is_cuda
        if self._logits is None:
            self._logits = torch.empty((self._rows, *logits.shape[1:]), pin_memory=cuda)
            self._stream = torch.cuda.Stream(logits.device) if cuda else None
        target = self._logits[start : start + len(logits)]
        if self._stream is None:
            target.copy_(logits)
            return
        self._stream.wait_stream(torch.cuda.current_stream(logits.device))
        with torch.cuda.stream(self._stream):
            target.copy_(logits, non_blocking=True)
        logits.record_stream(self._stream)  # its memory is not given away before the copy is done

    def numpy(self) -> np.ndarray:
        """(rows, classes) float32; waits until all of it has arrived."""
        if self._stream is not None:
            self._stream.synchronize()
        if self._logits is None:
            raise ValueError("expected the logits of some tile, found none")
        return self._logits.numpy()
