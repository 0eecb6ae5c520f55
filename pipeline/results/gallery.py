"""Gallery: the rows of the test split that say most of what a teacher knows beyond labels, as a report shows them.

Their logits are kept raw, so that a reader can soften them at any temperature.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from pipeline.base import facts
from pipeline.base.places import Place
from pipeline.data.splits import Split
from pipeline.results.run import ENSEMBLE
from pipeline.stats.metrics import log_softmax

FORMAT = 1
FILE_NAME = "gallery.json"
SPLIT = "test"
EACH = 6  # rows for each reason, at most
NUMBERS = 60_000  # logits in all, at most, so that a page softens all of them at once; one row of each reason is always shown
_TEXT = 600  # letters of a text, at most
_VALUES = 512  # numbers of an array, at most
_SIDE = 256  # pixels of the longer side of a picture, at most
Reason = Literal["second", "apart", "wrong"]


@dataclass(frozen=True)
class Exhibit:
    """One row. label: the number of its class. teachers: the raw logits (C,) of each. student: its raw logits (C,).

    reason: see choose. One of these is the input: picture, PNG in base64; text, cut; values, of an array, cut.
    """

    row: int
    id: str
    label: int
    reason: Reason
    teachers: tuple[tuple[float, ...], ...]
    student: tuple[float, ...] | None
    picture: str | None = None
    text: str | None = None
    values: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Gallery:
    """The content of gallery.json. student, seed: the net that the teachers are compared with; None where there is none.

    teachers, weights, rule: of the ensemble; see ensemble.combine.
    """

    version: int
    classes: tuple[str, ...]
    teachers: tuple[str, ...]
    weights: tuple[float, ...]
    rule: str
    student: str | None
    seed: int | None
    exhibits: tuple[Exhibit, ...]

    @property
    def reference(self) -> str:
        """The run of what students are compared with."""
        return ENSEMBLE if len(self.teachers) > 1 else self.teachers[0]

    def to_json(self) -> bytes:
        """The bytes of gallery.json."""
        return facts.sealed(asdict(self))

    @classmethod
    def parse(cls, data: bytes, path: Place, fix: str) -> "Gallery":
        """The content of gallery.json. Raises IntegrityError if it is damaged."""
        return facts.unsealed(cls, data, str(path), fix, FORMAT)


def gallery(
    split: Split,
    labels: np.ndarray,
    *,
    teachers: Mapping[str, np.ndarray],
    combined: np.ndarray,
    rule: str,
    weights: Sequence[float],
    student: tuple[str, int, np.ndarray] | None,
) -> Gallery:
    """Choose rows and read them.

    Args:
        split: The test split.
        labels: (N,) int64.
        teachers: By name, raw logits (N, C) of each member of the ensemble.
        combined: (N, C), the logits of the ensemble at T = 1.
        rule: What the ensemble averages.
        weights: The weight of each member; their sum is 1.
        student: The run, the seed and the logits (N, C) of the student to compare with, if any.

    Returns:
        EACH rows for each reason, fewer where there are none or where classes are many.
    """
    logits = student[2] if student else None
    each = max(1, min(EACH, NUMBERS // (3 * combined.shape[1] * (len(teachers) + (student is not None)))))
    chosen = choose(combined, labels, logits, each)
    inputs = _inputs(split, [row for row, _ in chosen])
    exhibits = [
        Exhibit(
            row, name, int(labels[row]), reason,
            teachers=tuple(tuple(z[row].tolist()) for z in teachers.values()),
            student=None if logits is None else tuple(logits[row].tolist()),
            **shown,
        )
        for (row, reason), (name, shown) in zip(chosen, inputs, strict=True)
    ]  # fmt: skip
    run, seed = student[:2] if student else (None, None)
    return Gallery(FORMAT, split.classes, tuple(teachers), tuple(weights), rule, run, seed, tuple(exhibits))


def choose(teacher: np.ndarray, labels: np.ndarray, student: np.ndarray | None, each: int) -> list[tuple[int, Reason]]:
    """Rows by reason, at most `each` for one, the most telling first.

    `second`: both are right; those where the teacher's second choice has the largest probability at T = 1. `apart`: they
    disagree, and one is right; those where the product of their confidences is largest. `wrong`: neither is right; those where
    the teacher is surest. Of equal ones the first row comes first.

    Args:
        teacher: (N, C) logits.
        labels: (N,) int64.
        student: (N, C) logits, or None.
        each: Rows for each reason.

    Returns:
        (row, reason) of each.
    """
    top = np.sort(np.exp(log_softmax(teacher)), axis=1)
    said, sure, second = teacher.argmax(axis=1), top[:, -1], top[:, -2:].min(axis=1)
    other = said if student is None else student.argmax(axis=1)
    both = sure if student is None else sure * np.exp(log_softmax(student).max(axis=1))
    wrong = (said != labels) & (other != labels)
    ranked: tuple[tuple[Reason, np.ndarray, np.ndarray], ...] = (
        ("second", (said == labels) & (other == said), second),
        ("apart", (said != other) & ~wrong, both),
        ("wrong", wrong, sure),
    )
    found: list[tuple[int, Reason]] = []
    for reason, fits, score in ranked:
        order = np.argsort(-score, kind="stable")
        found += [(row, reason) for row in order[fits[order]][:each].tolist()]
    return found


def _inputs(split: Split, rows: Sequence[int]) -> list[tuple[str, dict[str, Any]]]:
    """The id of each row, and its input under the name of its field in an Exhibit."""
    found = []
    for row in rows:
        span, index = divmod(row, split.span)
        value = split.read(span, np.array([index]))[0]
        found.append((split.ids(span)[index], _shown(split.inputs.kind, value)))
    return found


def _shown(kind: str, value: np.ndarray) -> dict[str, Any]:
    if kind == "image":
        return {"picture": base64.b64encode(_png(value)).decode()}
    if kind == "text":
        text = str(value)
        return {"text": text if len(text) <= _TEXT else f"{text[:_TEXT]}…"}
    return {"values": tuple(value.astype(np.float64).ravel()[:_VALUES].tolist())}


def _png(pixels: np.ndarray) -> bytes:
    """Pixels (channels, height, width) uint8 as PNG; large ones are made smaller."""
    from PIL import Image

    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    picture.thumbnail((_SIDE, _SIDE))
    held = io.BytesIO()
    picture.save(held, "PNG")
    return held.getvalue()
