"""Steps for arrays: numbers (B, *shape) of float32, float16 or integers. `axis` counts the axes of one row, from 0."""

import math

import numpy as np
import torch

from pipeline.base.errors import InputError
from pipeline.data.policies.draw import Addressed, Draw, below

_DEVIATION = math.sqrt(8 * (256**2 - 1) / 12)  # of the sum of eight integers that are uniform in 0 to 255
_SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}  # torch can do more with these
_BYTES, _WORDS = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0001000100010001)


def noise(arrays: torch.Tensor, draw: Addressed, scale: float) -> torch.Tensor:
    """Add noise of standard deviation `scale` to each number.

    About normal: the sum of eight random bytes, so that it is the same on every device; it reaches 4.9 deviations, in steps of
    1/209. Floats are added in float32 and rounded once. Integers get whole numbers. All stay at the ends of what their dtype
    holds: that in which they are read, which is a wider one for uint16, uint32 and uint64; see inputs/array.py.
    """
    sums = _byte_sums(draw.bits(arrays[0].numel(), 0)) - 1020  # (B, numbers) int64, mean 0
    if arrays.is_floating_point():
        added = torch.from_numpy(sums.astype(np.float32) * np.float32(scale / _DEVIATION)).to(arrays.device)
        most = torch.finfo(arrays.dtype).max
        return (arrays.to(torch.float32) + added.view(arrays.shape)).clamp(-most, most).to(arrays.dtype)
    whole = np.clip(np.rint(sums * (scale / _DEVIATION)), -(2.0**62), 2.0**62).astype(np.int64)
    return _saturated(arrays, torch.from_numpy(whole).to(arrays.device).view(arrays.shape))


def roll(arrays: torch.Tensor, draw: Draw, steps: int, axis: int = 0) -> torch.Tensor:
    """Move along an axis by up to `steps`, uniformly in both directions; what leaves at one end comes in at the other."""
    size = _size("roll", arrays, axis, steps)
    moved = (np.arange(size) - (draw(2 * steps + 1, 0) - steps)[:, None]) % size  # (B, size): where each comes from
    row = torch.arange(len(arrays), device=arrays.device)[:, None]
    return arrays.movedim(axis + 1, 1)[row, torch.from_numpy(moved).to(arrays.device)].movedim(1, axis + 1).contiguous()


def mask(arrays: torch.Tensor, draw: Draw, size: int, axis: int, count: int = 1, value: float = 0) -> torch.Tensor:
    """Set `count` stretches of an axis to `value`: the masks of time or frequency of SpecAugment (Park et al. 2019).

    The length of each is uniform in 0 to `size`, then its place among all that there are; they may overlap.
    """
    length = _size("mask", arrays, axis, size)
    places, hidden = np.arange(length), np.zeros((len(arrays), length), bool)
    for number in range(count):
        covered = draw(size + 1, 2 * number)
        start = below(draw, length - covered + 1, 2 * number + 1)
        hidden |= (places >= start[:, None]) & (places < (start + covered)[:, None])
    shape = [len(arrays), *(1 for _ in arrays.shape[1:])]
    shape[axis + 1] = length
    where, signed = torch.from_numpy(hidden).view(shape).to(arrays.device), _SIGNED.get(arrays.dtype, arrays.dtype)
    return torch.where(where, _as_stored(value, arrays).view(signed), arrays.view(signed)).view(arrays.dtype)


def _byte_sums(bits: np.ndarray) -> np.ndarray:
    """The sum of the eight bytes of each uint64, as int64: those of even and odd place together, then four 16-bit words."""
    words = (bits & _BYTES) + (bits >> np.uint64(8) & _BYTES)
    found: np.ndarray = (words * _WORDS >> np.uint64(48)).view(np.int64)
    return found


def _saturated(arrays: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
    """Integers plus int64 numbers, at the ends of the range of their dtype where they would leave it."""
    ends = torch.iinfo(arrays.dtype)
    if ends.bits < 64:
        return (arrays.to(torch.int64) + added).clamp(ends.min, ends.max).to(arrays.dtype)
    top = torch.iinfo(torch.int64)
    flipped = 0 if ends.min < 0 else top.min  # the upper half of uint64 becomes the upper half of int64
    held = arrays.view(torch.int64) ^ flipped
    summed = held + added  # modulo 2^64
    summed = torch.where((added > 0) & (summed < held), top.max, summed)
    summed = torch.where((added < 0) & (summed > held), top.min, summed)
    return (summed ^ flipped).view(arrays.dtype)


def _size(step: str, arrays: torch.Tensor, axis: int, most: int) -> int:
    """The length of an axis of a row; raises InputError where there is no such axis, or it is shorter than `most`."""
    shape = tuple(arrays.shape[1:])
    if axis >= len(shape):
        expected = f"0 to {len(shape) - 1}, as rows have the shape {shape}" if shape else "rows with an axis"
        raise InputError(f"view policy {step}, axis", expected=expected, found=str(axis), fix="Correct the setting.")
    if most > shape[axis]:
        expected = f"at most {shape[axis]}, the length of axis {axis}"
        raise InputError(f"view policy {step}", expected=expected, found=str(most), fix="Correct the setting.")
    return int(shape[axis])


def _as_stored(value: float, arrays: torch.Tensor) -> torch.Tensor:
    """The value in the dtype of the arrays; raises InputError where that cannot hold it."""
    if arrays.is_floating_point():
        held = abs(value) <= torch.finfo(arrays.dtype).max
    else:
        ends = torch.iinfo(arrays.dtype)
        held = float(value).is_integer() and ends.min <= value <= ends.max
    if not held:
        expected = f"a number that {str(arrays.dtype).removeprefix('torch.')} holds"
        raise InputError("view policy mask, value", expected=expected, found=str(value), fix="Correct the setting.")
    return torch.tensor(value if arrays.is_floating_point() else int(value), dtype=arrays.dtype, device=arrays.device)
