"""The settings of views. No torch is needed."""

from dataclasses import dataclass

from pipeline.base.settings import setting


@dataclass(frozen=True)
class Views:
    """The views that a teacher is run on and a student draws from: `count` of each row, under a policy and its seed."""

    policy: str = setting("Views of a row, such as `shift(2) | flip()`.", default="none")
    count: int = setting("Views of a row; the first is the row itself.", default=1, least=1, key="views")
    seed: int = setting("Seed of the views.", default=0, key="view_seed")
