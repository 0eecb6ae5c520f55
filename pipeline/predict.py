"""The only inference loop: raw logits in tiles of a fixed number of rows.

The last bits of a float32 product depend on the batch size, so every forward pass of a capture has the same number of
rows; the last tile of a span is padded.
"""

import numpy as np
import torch

TILE = 512  # rows of a forward pass where nothing else is asked for


def predict(model: torch.nn.Module, pixels: torch.Tensor, *, tile: int = TILE) -> np.ndarray:
    """Raw logits of a model in evaluation mode at T = 1.

    pixels: (N, C, H, W) uint8, on any device; each tile moves to the model's. Returns (N, classes) float32 numpy.
    """
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    pieces = []
    with torch.inference_mode():
        for start in range(0, len(pixels), tile):
            piece = pixels[start : start + tile]
            rows = len(piece)
            if rows < tile:
                piece = torch.cat([piece, piece.new_zeros((tile - rows, *piece.shape[1:]))])
            pieces.append(model(piece.to(device))[:rows].to(torch.float32).cpu())
    model.train(training)
    return torch.cat(pieces).numpy()
