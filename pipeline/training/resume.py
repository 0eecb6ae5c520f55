"""Resume: how far trainings are, kept on disk, each bound to all that its weights are a function of.

A state is one file, with a digest of all its bytes: it is taken up whole, or given up. What has the same identity goes on from
it, to the same bits; so does a student that is trained already, while others of its sweep are not.
"""

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from pipeline.base import files
from pipeline.base.differences import differences
from pipeline.base.facts import NOT_JSON

Held = tuple[dict[str, torch.Tensor], dict[str, Any]]  # tensors by name, and facts
Identity = Mapping[str, Any]  # all that the weights of one net are a function of

WEIGHTS = "model."  # what the names of weights begin with
_DIGEST = 64  # characters of the digest that a file begins with, before a newline
_DAMAGE = (*NOT_JSON, KeyError, TypeError, AttributeError, safetensors.SafetensorError)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class State:
    """How far the training of some nets is, one or a stack of them. members: the identity of each."""

    folder: Path
    members: Sequence[Identity]

    @cached_property
    def path(self) -> Path:
        """The file that keeps it."""
        return self.folder / f"{files.sha256(files.canonical_json(list(self.members)))[:32]}.state"

    def save(self, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any], *, finished: bool) -> None:
        """Write how far the training is, all of it or nothing: tensors by name, and facts that JSON can hold.

        Raises TypeError for facts that it cannot.
        """
        held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        said = json.dumps({"members": list(self.members), "finished": finished, **facts})
        data = safetensors.torch.save(held, metadata={"facts": said})
        files.write(self.path, files.sha256(data).encode() + b"\n" + data)

    def load(self) -> Held | None:
        """What `save` wrote, on the CPU; None where there is nothing, or nothing whole, which is said and removed."""
        if not self.path.exists():
            return None
        found = _read(self.path)
        if found is None or list(map(_digest, found[1]["members"])) != list(map(_digest, self.members)):
            _log.warning("%s: not what was written: that training starts anew", self.path)
            files.remove(self.path)
            return None
        return found


@dataclass(frozen=True)
class _Place:
    """Where a net lies that is trained: at which index in a file of how many."""

    path: Path
    index: int
    size: int


class Kept:
    """The states of all that one output is trained from, in a folder of their own; open it with `Kept.hold`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._finished: dict[str, list[_Place]] = {}  # by the digest of a member
        self._unfinished: dict[Path, set[str]] = {}  # digests of members that are wanted still
        self._used: set[Path] = set()
        self._open: tuple[Path, Held | None] | None = None  # the file that was read last

    @classmethod
    @contextlib.contextmanager
    def hold(
        cls, work: Path, out: Path, members: Sequence[Identity], *, keep: bool = False, anew: bool = False
    ) -> Iterator["Kept"]:
        """Hold the folder below `work` in which the trainings that write `out` keep how far they are.

        members: all that will be trained. When the block ends well the states are removed, but with `keep` those that it
        used stay for the next time. anew: what is there is not used. Raises BusyError where another process
        trains the same.
        """
        place = str(files.resolved(out))
        folder = work / "trainings" / f"{out.name}-{files.sha256(place.encode())[:12]}"
        with files.locked_folder(folder, f"training of {out.name}"):
            for state in folder.glob("*.state") if anew else ():
                files.remove(state)
            for left in folder.glob(".*.partial"):  # of a process that was killed while it wrote
                files.remove(left)
            kept = cls(folder)
            kept._look(out, members)
            yield kept
            kept._clear(keep=keep)

    def state(self, members: Sequence[Identity]) -> State:
        """The state of nets that are trained together, or of one."""
        state = State(self.folder, members)
        self._used.add(state.path)
        self._unfinished.pop(state.path, None)
        for path, wanted in list(self._unfinished.items()):
            if wanted & set(map(_digest, members)):
                _log.warning("%s: given up, because other students than these were trained together before", path)
                del self._unfinished[path]
        return state

    def finished(self, member: Identity, *, alone: bool) -> tuple[dict[str, torch.Tensor], dict[str, Any], int] | None:
        """A net that is trained already: its weights by name, the facts of its state, and its index there; None for any other.

        alone: only one that was trained by itself, whose last bits are those of no stack.
        """
        places = [each for each in self._finished.get(_digest(member), ()) if each.size == 1 or not alone]
        if not places:
            return None
        where = max(places, key=lambda each: each.size)
        if self._open is None or self._open[0] != where.path:
            self._open = where.path, _read(where.path)
        found = self._open[1]
        if found is None or list(map(_digest, found[1]["members"]))[where.index : where.index + 1] != [_digest(member)]:
            _log.warning("%s: not what was written: what it held is trained anew", where.path)
            return None
        tensors, facts = found
        self._used.add(where.path)
        return {name.removeprefix(WEIGHTS): tensor[where.index] for name, tensor in tensors.items()}, facts, where.index

    def _look(self, out: Path, members: Sequence[Identity]) -> None:
        """List what is finished, and say why what is not will not be gone on with."""
        wanted = {_digest(member): member for member in members}
        for path in sorted(self.folder.glob("*.state")):
            if (facts := _facts(path)) is None:
                _log.warning("%s: not what was written: that training starts anew", path)
                continue
            digests = [_digest(member) for member in facts["members"]]
            if facts["finished"]:
                for index, digest in enumerate(digests):
                    self._finished.setdefault(digest, []).append(_Place(path, index, len(digests)))
            elif shared := wanted.keys() & set(digests):
                self._unfinished[path] = shared
            else:
                changes = min((differences(now, facts["members"][0]) for now in members), key=len, default=[])
                changed = ", ".join(name for name, _, _ in changes) or "its settings"
                _log.warning("%s: an unfinished training is given up, because these have changed since: %s", out, changed)
        if done := sum(digest in self._finished for digest in wanted):
            _log.info("%s: %d of %d students are trained already", out, done, len(members))

    def _clear(self, *, keep: bool) -> None:
        """Remove all states, or all but those that this job has used."""
        for path in self.folder.glob("*.state"):
            if not keep or path not in self._used:
                files.remove(path)
        if not keep:
            files.clear(self.folder)


def _digest(member: Identity) -> str:
    return files.sha256(files.canonical_json(member))


def _facts(path: Path) -> dict[str, Any] | None:
    """What a state says of itself, by its beginning alone, not yet compared with its digest; None where there are none."""
    try:
        with path.open("rb") as file:
            file.seek(_DIGEST + 1)
            start = file.read(8)
            return _said(start + file.read(min(int.from_bytes(start, "little"), path.stat().st_size)))
    except (OSError, *_DAMAGE):
        return None


def _said(data: bytes) -> dict[str, Any]:
    """The facts in a safetensors file, or in its beginning: the size of its header, 8 bytes, and the header."""
    facts: dict[str, Any] = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["facts"])
    members, finished = facts["members"], facts["finished"]
    if not isinstance(finished, bool) or not members or not all(isinstance(member, dict) for member in members):
        raise TypeError("facts of other types")
    for member in members:
        _digest(member)  # half of a character, say, is no text that could be hashed
    return facts


def _read(path: Path) -> Held | None:
    """Tensors and facts of a state; None where it is not whole."""
    try:
        digest, _, data = path.read_bytes().partition(b"\n")
        if files.sha256(data).encode() != digest:
            return None
        return safetensors.torch.load(data), _said(data)
    except (OSError, *_DAMAGE):
        return None
