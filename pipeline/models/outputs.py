"""Outputs: which of a teacher's logits are those of the classes of the data."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from pipeline.base.errors import InputError
from pipeline.models.encoding import reads_text
from pipeline.models.modelfile import Outputs

Named = Mapping[str, object]  # class of the data → number or name of the teacher's output, or a list of them
_FIX = "Say which of its outputs each class is: `classes: {cat: 281, dog: [207, 208]}`, by number or name."


def matched(
    teacher: str, classes: Sequence[str], count: int, names: Sequence[str] | None, given: Named | None
) -> Outputs | None:
    """Find the outputs of every class.

    Args:
        teacher: Its name, for messages.
        classes: The classes of the data.
        count: How many outputs the teacher has.
        names: What it calls them; None where it does not say.
        given: What the user says of them; None to match them by name, or else by number.

    Returns:
        The outputs; None where the teacher's are the classes, one by one.

    Raises:
        InputError: They do not match, or `given` names classes or outputs that do not exist, or one output twice.
    """
    what = f"teacher {teacher}, classes"
    if given is not None:
        groups = _given(what, classes, count, names, given)
    elif names is not None:
        groups = _by_name(what, classes, names)
    elif count == len(classes):
        return None
    else:
        raise InputError(what, expected=f"{len(classes):,}, as in the transfer set", found=f"{count:,} outputs", fix=_FIX)
    return None if groups == tuple((index,) for index in range(count)) else Outputs(count, groups)


class Mapped(nn.Module):
    """A teacher whose outputs are grouped into the classes of the data.

    The logit of a class with several outputs is the logarithm of the sum of their exponentials, so that its probability at
    T = 1 is the sum of theirs. Outputs of no class are left out.
    """

    def __init__(self, net: nn.Module, outputs: Outputs):
        super().__init__()
        self.net, self.outputs = net, outputs
        if reads_text(net):
            self.encode = net.encode

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits of the classes, (B, classes)."""
        return mapped(self.net(inputs), self.outputs)


def mapped(logits: torch.Tensor, outputs: Outputs) -> torch.Tensor:
    """The logits of the classes, (B, classes), out of those of all outputs, (B, count); see Mapped."""
    if all(len(group) == 1 for group in outputs.groups):
        return logits[:, [group[0] for group in outputs.groups]]
    return torch.stack([logits[:, list(group)].logsumexp(1) for group in outputs.groups], dim=1)


def _by_name(what: str, classes: Sequence[str], names: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    missing = [name for name in classes if name not in names]
    if missing or len(set(names)) < len(names):
        found = f"{', '.join(names[:5])}{'…' if len(names) > 5 else ''}"
        wanted = f"{', '.join(missing[:5])}, as in the transfer set" if missing else "each name once"
        raise InputError(what, expected=wanted, found=found, fix=_FIX)
    return tuple((list(names).index(name),) for name in classes)


def _given(
    what: str, classes: Sequence[str], count: int, names: Sequence[str] | None, given: Named
) -> tuple[tuple[int, ...], ...]:
    odd, missing = [name for name in given if name not in classes], [name for name in classes if name not in given]
    if odd or missing:
        wanted = f"each class of the transfer set ({', '.join(classes[:5])}{'…' if len(classes) > 5 else ''})"
        found = f"others: {', '.join(odd[:5])}" if odd else f"none for {', '.join(missing[:5])}"
        raise InputError(what, expected=wanted, found=found, fix=_FIX)
    groups = tuple(_group(f"{what}.{name}", given[name], count, names) for name in classes)
    every = [output for group in groups for output in group]
    if twice := sorted({output for output in every if every.count(output) > 1}):
        raise InputError(what, expected="each output in one class", found=f"{twice[0]} in several", fix=_FIX)
    return groups


def _group(what: str, said: object, count: int, names: Sequence[str] | None) -> tuple[int, ...]:
    """The numbers of the outputs that one class is said to be."""
    found = []
    for each in said if isinstance(said, list) and said else [said]:
        number = each if isinstance(each, int) and not isinstance(each, bool) else -1
        if isinstance(each, str) and names is not None and list(names).count(each) > 1:
            raise InputError(what, expected="the name of one output, or its number", found=f"{each!r}, of several", fix=_FIX)
        if isinstance(each, str) and names is not None and each in names:
            number = list(names).index(each)
        elif isinstance(each, str) and each.isdecimal():
            number = int(each[:9])
        if not 0 <= number < count:
            wanted = f"a number from 0 to {count - 1:,}" + (", or a name of one of its outputs" if names else "")
            raise InputError(what, expected=wanted, found=repr(each), fix=_FIX)
        found.append(number)
    return tuple(found)
