"""Steps for texts: a list of strings."""

import re
from collections.abc import Sequence

from pipeline.data.policies.draw import WIDE, Draw

_WORD = re.compile(r"\S+\s*")


def drop(texts: Sequence[str], draw: Draw, words: int) -> list[str]:
    """Leave out up to `words` words, between white space: a number of them that is uniform in 0 to `words`, drawn uniformly.

    One word stays at least. White space before the first word and behind the last stays; that behind a word goes with it.
    """
    counts = draw(words + 1, 0)
    picks = [draw(WIDE, 1 + number) for number in range(counts.max(initial=0))]
    return [
        _without(text, [int(pick[row]) for pick in picks[: counts[row]]]) if counts[row] else text
        for row, text in enumerate(texts)
    ]


def _without(text: str, picks: list[int]) -> str:
    """The text without one word for each pick, a number in [0, 2^32): its share of the words that are left."""
    pieces = _WORD.findall(text)
    left = list(range(len(pieces)))
    for pick in picks[: max(len(pieces) - 1, 0)]:
        del left[pick * len(left) >> 32]
    if len(left) == len(pieces):
        return text
    start, end = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return start + "".join(pieces[index] for index in left).rstrip() + end
