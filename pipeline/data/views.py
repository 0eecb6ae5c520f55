"""Views: augmented versions of rows that replay: (input, seed, row, view) always gives the same pixels, numbers or text.

A policy is one spec, or several such as `shift(2) | flip()`. View 0 is the row itself under every policy.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from pipeline.base import spec
from pipeline.base.errors import InputError
from pipeline.data.policies.batch import replaced, taken
from pipeline.data.policies.draw import Addressed, Draw, Enumerated, below
from pipeline.data.policies.mixing import PARTNER
from pipeline.data.policies.table import KINDS, MIXING, OUTCOMES, POLICIES, RANGES, VERSIONS, kind_of, none
from pipeline.data.settings import Views

MOST = 1 << 16  # outcomes of a policy that can be enumerated
Partners = tuple[np.ndarray, torch.Tensor]  # row numbers (B,) int64 and their own inputs (B, …)
_NAMES = {"image": "images", "array": "arrays", "text": "texts"}


@dataclass(frozen=True)
class Policy:
    """A parsed view policy with its seed: a pure function from inputs, rows and views to augmented inputs.

    every: whether view v is outcome v of all that the policy can do; then no seed matters, and it is 0.
    """

    text: str
    seed: int
    steps: tuple[spec.Spec, ...]
    every: bool = False

    @classmethod
    def parse(cls, text: str, seed: int, *, every: bool = False) -> "Policy":
        """Parse a view policy.

        Args:
            text: One spec or several joined by `|`, such as `shift(2) | flip()`; each names a built-in step or a plug-in.
            seed: The seed of all random draws.
            every: Whether to enumerate: view v is outcome v, each of `outcomes` is one view, and view 0 is the row itself.

        Returns:
            The policy.

        Raises:
            InputError: A step is unknown, a setting is wrong, or steps do not go together; with `every`, a step has no finite
                list of outcomes, or there are too many.
        """
        steps = tuple(spec.parse(step, POLICIES, VERSIONS, given=2) for step in text.split("|"))
        for step in steps:
            _check(step, text)
        policy = cls(" | ".join(step.text for step in steps), 0 if every else seed, steps, every)
        policy._require_together()
        if every:
            policy._require_enumerable()
        return policy

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Policy":
        """The policy of these facts, which `to_dict` returned."""
        return cls.parse(facts["policy"], facts["seed"], every=facts.get("outcomes") is not None)

    def to_dict(self) -> dict[str, Any]:
        """The facts that a view depends on, besides input, row and view."""
        every = {"outcomes": self.outcomes} if self.every else {}  # before the seed: a message names what differs first
        return {"policy": self.text, **every, "seed": self.seed, "behaviours": list(self.behaviours)}

    @property
    def behaviours(self) -> tuple[str, ...]:
        """The behaviour of every step, see spec.Spec."""
        return tuple(step.behaviour for step in self.steps)

    @property
    def augments(self) -> bool:
        """Whether views other than 0 can differ from the row itself."""
        return any(step.target is not none for step in self.steps)

    @cached_property
    def outcomes(self) -> int | None:
        """How many different draws the policy can make, all equally likely; None where a step has no finite list of them."""
        slots = [_slots(step) for step in self.steps]
        return None if None in slots else math.prod(high for each in slots if each for high, _ in each)

    @property
    def kind(self) -> str | None:
        """The kind of input that it is for, `image`, `array` or `text`; None where any will do."""
        return next((kind for step in self.steps if (kind := kind_of(_name(step)))), None)

    def require_kind(self, kind: str) -> None:
        """Raise InputError, naming a step, where the policy is for another kind of input."""
        for step in self.steps:
            if (own := kind_of(_name(step))) not in (None, kind):
                known = ", ".join(KINDS.get(kind, {}))
                raise InputError(
                    f"view policy {step.text}", expected=f"a step for {_NAMES[kind]}: {known}, or none",
                    found=f"one for {_NAMES[str(own)]}", fix="Choose another policy.",
                )  # fmt: skip

    @cached_property
    def mixing(self) -> int | None:
        """The number of the step that mixes each row with another, if there is one."""
        return next((number for number, step in enumerate(self.steps) if _name(step) in MIXING), None)

    @property
    def mixes(self) -> bool:
        """Whether a view shows another row too; then `apply` needs the partners."""
        return self.mixing is not None

    def partners(
        self, rows: np.ndarray, views: np.ndarray, span: int, total: int, shape: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Which row each view is mixed with, and how much of it is the row's own.

        The partner is drawn from the rows of the same span; it may be the row itself, as it always is for view 0, and under a
        policy that does not mix.

        Args:
            rows: (B,) int64, row numbers in the split.
            views: (B,) int64, which view of each row.
            span: Rows of a span: it begins at a multiple of this number.
            total: Rows of the split.
            shape: Of a row, such as (C, H, W).

        Returns:
            The partners' row numbers, (B,) int64, and the share of the row's own input, (B,) float32. Later steps do not count.
        """
        views = np.asarray(views)
        if self.mixing is None:
            return rows, np.ones(len(rows), np.float32)
        step = self.steps[self.mixing]
        draw = self._draws(rows, views)(self.mixing)
        start = rows // span * span
        drawn = start + below(draw, np.minimum(span, total - start), PARTNER)
        weights = MIXING[_name(step)](draw, shape, **step.arguments)
        return np.where(views == 0, rows, drawn), np.where(views == 0, np.float32(1), weights)

    def apply(
        self, inputs: torch.Tensor, rows: np.ndarray, views: np.ndarray, partners: Partners | None = None
    ) -> torch.Tensor:
        """Views of a batch of rows. Of images that are channels-last, the views are too, where that is fastest.

        Args:
            inputs: (B, …), the rows themselves, on any device: images are (B, C, H, W) uint8.
            rows: (B,) int64, their row numbers in their split.
            views: (B,) int64, which view of each row.
            partners: Where the policy mixes, the rows that `partners` gave and their inputs, as `inputs`. The steps before the
                mixing one change them as they would change those rows.

        Returns:
            Of the shape and dtype of `inputs`, on their device. It is `inputs` itself if the policy is `none`.

        Raises:
            InputError: A plug-in fails, or returns something else; a step does not fit the inputs; partners are missing.
        """
        if not self.augments:
            return inputs
        own = np.flatnonzero(np.asarray(views) == 0)
        if len(own) == len(views):  # as in validation, and without further views
            return inputs
        draws, seen = self._draws(rows, views), inputs
        others, their_draws = self._others(partners, views)
        for number, step in enumerate(self.steps):
            if number == self.mixing:
                seen = _whole(step, step((seen, others), draws(number)), inputs)
                continue
            seen = _whole(step, step(seen, draws(number)), inputs)
            if self.mixing is not None and number < self.mixing:
                others = _whole(step, step(others, their_draws(number)), inputs)
        if self.outcomes is not None:
            return seen  # what view 0 drew changed nothing
        return replaced(seen, own, taken(inputs, own))

    def rewrite(self, texts: Sequence[str], rows: np.ndarray, views: np.ndarray) -> list[str]:
        """Views of texts; otherwise as `apply`.

        Args:
            texts: B texts, the rows themselves.
            rows: (B,) int64, their row numbers in their split.
            views: (B,) int64, which view of each row.

        Returns:
            B texts.

        Raises:
            InputError: A plug-in fails, or returns something other than as many texts.
        """
        seen: Sequence[str] = list(texts)
        if not self.augments:
            return list(seen)
        draws = self._draws(rows, views)
        for number, step in enumerate(self.steps):
            seen = _all_texts(step, step(seen, draws(number)), len(texts))
        return [own if view == 0 else shown for own, shown, view in zip(texts, seen, views, strict=True)]

    def _draws(self, rows: np.ndarray, views: np.ndarray) -> Callable[[int], Draw]:
        """For the number of a step, what it draws with."""
        if self.every:
            return lambda number: Enumerated(np.asarray(views), self._places[number])
        addressed = Addressed.of(self.seed, rows, views)
        return lambda number: addressed.of_step(number, self._identities[number])

    def _others(self, partners: Partners | None, views: np.ndarray) -> tuple[torch.Tensor, Callable[[int], Draw]]:
        """The partners' inputs, and what their steps draw with; both stay unused where the policy does not mix."""
        if self.mixing is None:
            return torch.empty(0), lambda number: Enumerated(views, ())
        if partners is None:
            what = f"view policy {self.steps[self.mixing].text}"
            raise InputError(what, expected="the partners of the rows", found="none", fix="Pass what Policy.partners chose.")
        rows, inputs = partners
        return inputs, self._draws(rows, views)

    @cached_property
    def _identities(self) -> tuple[tuple[int, ...], ...]:
        """For each step the draws that change nothing; all are empty where some step has none."""
        if self.outcomes is None:
            return tuple(() for _ in self.steps)
        return tuple(tuple(identity for _, identity, _ in slots) for slots in self._places)

    @cached_property
    def _places(self) -> tuple[tuple[tuple[int, int, int], ...], ...]:
        """For each step the slots of draw.Enumerated: the views count in mixed radix, the last draw changes fastest."""
        found, place = [], 1
        for step in reversed(self.steps):
            slots = []
            for high, identity in reversed(_slots(step) or ()):
                slots.append((high, identity, place))
                place *= high
            found.append(tuple(reversed(slots)))
        return tuple(reversed(found))

    def _require_together(self) -> None:
        """Raise InputError for steps of two kinds of input, and for two that mix."""
        found = {kind: step for step in self.steps if (kind := kind_of(_name(step)))}
        if len(found) > 1:
            each = ", ".join(f"{step.text} for {_NAMES[kind]}" for kind, step in found.items())
            raise InputError(
                f"view policy {self.text}", expected="steps for one kind of input", found=each, fix="Take steps of one kind."
            )
        mixing = [step.text for step in self.steps if _name(step) in MIXING]
        if len(mixing) > 1:
            raise InputError(
                f"view policy {self.text}", expected="at most one step that mixes rows", found=", ".join(mixing),
                fix="Take one of them.",
            )  # fmt: skip

    def _require_enumerable(self) -> None:
        fix = "Give a number of views."
        for step in self.steps:
            if _slots(step) is None:
                finite = ", ".join(name for name in OUTCOMES if name != "none")
                expected = f"steps with finitely many outcomes, the row itself among them ({finite})"
                raise InputError("views: all", expected=expected, found=step.text, fix=fix)
        if (count := self.outcomes or 0) > MOST:
            raise InputError("views: all", expected=f"at most {MOST:,} outcomes", found=f"{count:,} of {self.text}", fix=fix)


def open_views(views: Views) -> tuple[Policy, int]:
    """The policy of these settings, and how many views of a row there are; raises InputError as Policy.parse does."""
    if views.count == "all":
        policy = Policy.parse(views.policy, views.seed, every=True)
        return policy, policy.outcomes or 1
    return Policy.parse(views.policy, views.seed), views.count


def _check(step: spec.Spec, text: str) -> None:
    """Raise InputError for a setting of a built-in step that is out of its range."""
    for name, allowed in RANGES.get(_name(step), {}).items():
        if not allowed.allows(value := step.arguments[name]):
            what = f"view policy {text!r}, {name}"
            raise InputError(what, expected=allowed.expected, found=repr(value), fix="Correct the setting.")


def _name(step: spec.Spec) -> str:
    """What a step is called in the table; a plug-in has a name that is not in it."""
    return step.text.partition("(")[0]


def _slots(step: spec.Spec) -> list[tuple[int, int]] | None:
    known = OUTCOMES.get(_name(step))
    return known(**step.arguments) if known else None


def _whole(step: spec.Spec, seen: object, inputs: torch.Tensor) -> torch.Tensor:
    """Raise InputError unless a step, which may be a plug-in, returned inputs of the shape and dtype that it got."""
    if isinstance(seen, torch.Tensor) and seen.shape == inputs.shape and seen.dtype == inputs.dtype:
        return seen
    found = f"{seen.dtype} of shape {tuple(seen.shape)}" if isinstance(seen, torch.Tensor) else type(seen).__name__
    what = "uint8 pixels" if inputs.dtype == torch.uint8 else str(inputs.dtype).removeprefix("torch.")
    expected = f"{what} of shape {tuple(inputs.shape)}"
    raise InputError(f"view policy {step.text}", expected=expected, found=found, fix="Correct the plug-in.")


def _all_texts(step: spec.Spec, seen: object, count: int) -> list[str]:
    """Raise InputError unless a step, which may be a plug-in, returned as many texts as it got."""
    if isinstance(seen, list) and len(seen) == count and all(isinstance(text, str) for text in seen):
        return seen
    odd = next((each for each in seen if not isinstance(each, str)), None) if isinstance(seen, list) else seen
    found = f"{len(seen):,} texts" if isinstance(seen, list) and odd is None else type(odd).__name__
    raise InputError(f"view policy {step.text}", expected=f"a list of {count:,} texts", found=found, fix="Correct the plug-in.")


NONE = Policy.parse("none", 0)  # every view is the row itself
