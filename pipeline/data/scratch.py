"""Scratch: what can be made again, kept on a disk of this machine as far as two variables give it room.

That is decoded images, see decoded.py, and what stores gave, see base/nearby.py. A command begins with
`use`, and so does each of its workers.
"""

import os
from pathlib import Path

from pipeline.base import nearby
from pipeline.base.places import Place
from pipeline.data.settings import DECODED

WORK = ".softcache"  # where work in progress is, unless it is said


def use(work: Place) -> None:
    """Keep both below the working folder from now on or, where that is in a store, below the usual one of this machine.

    Raises:
        InputError: A variable is no number of at least 0.
    """
    folder = work if isinstance(work, Path) else Path(WORK)
    if room := os.environ.get(DECODED):
        from pipeline.data import decoded

        decoded.use(folder / "decoded", room)
    if room := os.environ.get(nearby.NEARBY):
        nearby.use(folder / "nearby", room)
