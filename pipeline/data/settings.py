"""The settings of views. No torch is needed."""

from dataclasses import dataclass
from typing import Literal

from pipeline.base.settings import setting

DECODED = "SOFTCACHE_DECODED"  # the variable that says how many GB of disk decoded images may take


@dataclass(frozen=True)
class Views:
    """The views that a teacher is run on and a student draws from: `count` of each row, under a policy and its seed.

    count: `all` for every outcome of a policy that has finitely many, each once; then the seed does not matter.
    views.open_views gives their number.
    """

    policy: str = setting("Views of a row, such as `shift(2) | flip()`.", default="none")
    count: int | Literal["all"] = setting(
        "Views of a row, the first of which is the row itself; `all` for every outcome of the policy.",
        default=1, least=1, choices=("all",), key="views",
    )  # fmt: skip
    seed: int = setting("Seed of the views.", default=0, key="view_seed")
