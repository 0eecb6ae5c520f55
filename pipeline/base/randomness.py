"""Addressed randomness: a value is a pure function of a seed and an address such as (row, view, slot).

Nothing is drawn from a stream, so batch size, order, workers and resuming cannot change a value. The hash is the
finaliser of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, with
Stafford's variant 13 constants), applied once per part of the address. It is arithmetic on 64-bit integers only, so
the values are the same on every machine and for every version of numpy.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_BLOCK = 1 << 16  # rows that are hashed at a time: the hash takes several times their memory
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)


class Use(IntEnum):
    """What a random value is for: the first part of every address, so that no two uses share values."""

    CARVE = 1  # which rows become validation or test rows
    SHUFFLE = 2  # the one order of the rows, fixed at ingest
    POLICY = 3  # the pixels of a view
    ORDER = 4  # the order of the rows in an epoch
    DRAW = 5  # which view of a row an epoch uses
    INIT = 6  # initial weights
    DROPOUT = 7  # seed of torch's own random stream within an epoch
    SPANS = 8  # the order in which an epoch streams the spans
    PROBE = 9  # which rows and views are run through the teacher again
    ROWS = 10  # which rows a fraction selects
    BOOTSTRAP = 12  # which test rows a resample holds
    CALIBRATION = 13  # which rows show an int8 model the ranges of values
    PROJECTIONS = 14  # initial weights of what is trained beside a net
    LABELS = 15  # which rows keep their labels


def bits(seed: int, *address: ArrayLike) -> np.ndarray:
    """64 random bits for each address, uint64. The parts of an address are integers or arrays that broadcast."""
    return extended(_mix(np.asarray(seed & 0xFFFFFFFFFFFFFFFF, np.uint64)), *address)


def extended(state: np.ndarray, *parts: ArrayLike) -> np.ndarray:
    """The bits of longer addresses: those whose bits are `state`, uint64, with these parts behind them."""
    for part in parts:
        state = _mix(state ^ np.asarray(part).astype(np.uint64))
    return state


def integers(high: int, seed: int, *address: ArrayLike) -> np.ndarray:
    """Uniform integers in [0, high), int64. The bias of the modulo is below high / 2^64."""
    return (bits(seed, *address) % np.uint64(high)).astype(np.int64)


def permutation(count: int, seed: int, *address: int) -> np.ndarray:
    """A random order of range(count), int64: the rows sorted by their own random bits."""
    return order(np.arange(count), seed, *address)


def order(rows: np.ndarray, seed: int, *address: int) -> np.ndarray:
    """Indices of `rows` in a random order, int64. The order of any two rows does not depend on the others."""
    keys = np.empty(len(rows), np.uint64)
    for start in range(0, len(rows), _BLOCK):
        keys[start : start + _BLOCK] = bits(seed, *address, rows[start : start + _BLOCK])
    return np.argsort(keys)  # no ties: the hash is one-to-one in its last part


def torch_seed(seed: int, *address: int) -> int:
    """A seed for torch.manual_seed, in [0, 2^63)."""
    return int(bits(seed, *address) >> np.uint64(1))


def _mix(value: np.ndarray) -> np.ndarray:
    value = np.add(value, _GOLDEN)  # modulo 2^64; the operators + and * would warn of it where the address is one number
    value = np.multiply(value ^ (value >> _30), _FIRST)
    value = np.multiply(value ^ (value >> _27), _SECOND)
    mixed: np.ndarray = value ^ (value >> _31)
    return mixed
