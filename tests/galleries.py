"""Galleries of made-up logits."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.results.gallery import Exhibit, Gallery

REASONS = ("second", "apart", "wrong")


def made(
    classes: Sequence[str],
    members: int,
    rule: str,
    inputs: Sequence[dict[str, Any]],
    ids: Sequence[str] = (),
    student: bool = True,
) -> Gallery:
    """A row for each input, of the reasons in turn; logits are rounded to what float32 holds, as caches hold them."""
    rng, count = np.random.default_rng(len(classes)), len(classes)
    weights = np.arange(1, members + 1) / sum(range(1, members + 1))

    def logits() -> tuple[float, ...]:
        return tuple(rng.normal(0, 4, count).astype(np.float32).tolist())

    exhibits = tuple(
        Exhibit(
            number, ids[number] if ids else f"row-{number}", number % count, REASONS[number % 3],
            tuple(logits() for _ in range(members)), logits() if student else None, **shown,
        )
        for number, shown in enumerate(inputs)
    )  # fmt: skip
    run, seed = ("s-T4", 0) if student else (None, None)
    return Gallery(1, tuple(classes), tuple("abcdefgh"[:members]), tuple(weights.tolist()), rule, run, seed, exhibits)
