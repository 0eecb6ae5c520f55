"""The table of steps: what they are called, the kind of input of each, their versions, settings and outcomes."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pipeline.data.policies import array, colour, image, mixing, text, warp
from pipeline.data.policies.draw import Draw
from pipeline.data.policies.ranges import Choice, Number, Pair, Range


def none(inputs: Any, draw: Draw) -> Any:
    """Leave the inputs as they are, of whatever kind."""
    return inputs


# A step takes the inputs of a batch and a draw, then its settings, and returns inputs of the same shape and dtype. Settings by
# keyword only are left out of a policy's text where they have their default: so a setting can be added later.
IMAGES: dict[str, Callable[..., Any]] = {
    "shift": image.shift, "flip": image.flip, "affine": warp.affine, "elastic": warp.elastic,
    "resized_crop": image.resized_crop, "jitter": colour.jitter, "grey": colour.grey, "erase": image.erase,
    "mixup": mixing.mixup, "cutmix": mixing.cutmix,
}  # fmt: skip
ARRAYS: dict[str, Callable[..., Any]] = {"noise": array.noise, "roll": array.roll, "mask": array.mask}
TEXTS: dict[str, Callable[..., Any]] = {"drop": text.drop}

KINDS = {"image": IMAGES, "array": ARRAYS, "text": TEXTS}  # kind of input → its steps
POLICIES: dict[str, Callable[..., Any]] = {"none": none} | IMAGES | ARRAYS | TEXTS
VERSIONS = {
    "none": 1, "shift": 1, "flip": 1, "affine": 1, "elastic": 1, "resized_crop": 1, "jitter": 1, "grey": 1, "erase": 1,
    "mixup": 1, "cutmix": 1, "noise": 1, "roll": 1, "mask": 1, "drop": 1,
}  # fmt: skip

# Steps that mix a row with another: (draw, shape of a row, settings) → the share of the row's own input.
MIXING: dict[str, Callable[..., np.ndarray]] = {"mixup": mixing.mixup_weights, "cutmix": mixing.cutmix_weights}

_SHARE, _STRENGTH, _RATIO = Number(0, 1), Number(0.01, 100), Pair(0.01, 100)
RANGES: Mapping[str, Mapping[str, Range]] = {  # step → setting → what it may be
    "shift": {"pixels": Number(0, whole=True), "edge": Choice(("zero", "reflect"))},
    "affine": {"rotate": Number(0, 180), "zoom": _SHARE, "shear": _SHARE},
    "elastic": {"pixels": Number(0, whole=True), "points": Number(2, 64, whole=True)},
    "resized_crop": {"scale": Pair(1e-4, 1), "ratio": _RATIO},
    "jitter": {"brightness": _SHARE, "contrast": _SHARE, "saturation": _SHARE},
    "grey": {"share": _SHARE},
    "erase": {"share": _SHARE, "area": Pair(0, 1), "ratio": _RATIO},
    "mixup": {"strength": _STRENGTH},
    "cutmix": {"strength": _STRENGTH},
    "noise": {"scale": Number(0)},
    "roll": {"steps": Number(0, whole=True), "axis": Number(0, whole=True)},
    "mask": {
        "size": Number(0, whole=True), "axis": Number(0, whole=True), "count": Number(1, 100, whole=True),
        "value": Number(-np.inf),
    },
    "drop": {"words": Number(0, 1000, whole=True)},
}  # fmt: skip

Slots = list[tuple[int, int]]


def _grey(share: float) -> Slots | None:
    part, whole = image.share_of(share)
    return [(whole, whole - 1)] if part < whole else None  # where all is grey, no outcome is the row itself


# Steps with finitely many, equally likely outcomes: settings → for each of its draws (how many, which one changes nothing).
OUTCOMES: dict[str, Callable[..., Slots | None]] = {
    "none": lambda: [],
    "shift": lambda pixels, edge: [(2 * pixels + 1, pixels)] * 2,
    "flip": lambda: [(2, 0)],
    "grey": _grey,
    "roll": lambda steps, axis: [(2 * steps + 1, steps)],
}


def kind_of(name: str) -> str | None:
    """The kind of input that a step takes; None for one that takes whatever there is, such as a plug-in."""
    return next((kind for kind, steps in KINDS.items() if name in steps), None)
