"""Resume: the states of trainings on disk, each bound to everything that its weights are a function of.

A state is one file with a digest of all its bytes: it is used as a whole or not at all. A training with the same identity
goes on from its state, to the same bits. A student whose training is finished is not trained again with the rest of its sweep.
"""

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import safetensors
import safetensors.torch
import torch

from pipeline.base import files, ranks
from pipeline.base.differences import differences
from pipeline.base.facts import NOT_JSON
from pipeline.base.places import Place

Read = tuple[dict[str, torch.Tensor], dict[str, Any]]  # tensors by name, and facts
Identity = Mapping[str, Any]  # all that the weights of one net are a function of

WEIGHTS = "model."  # prefix of the names of weights
_DIGEST = 64  # characters of the digest at the start of a file, before a newline
_DAMAGE = (*NOT_JSON, KeyError, TypeError, AttributeError, safetensors.SafetensorError)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class State:
    """The state of the training of one net or of a stack; of several ranks, the first one keeps it.

    members: the identity of each net.
    """

    folder: Place
    members: Sequence[Identity]

    @cached_property
    def path(self) -> Place:
        """Its file, named after the identities."""
        return self.folder / f"{files.sha256(files.canonical_json(list(self.members)))[:32]}.state"

    def save(self, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any], *, finished: bool) -> None:
        """Write tensors by name, and facts as JSON, as a whole or not at all.

        Raises TypeError for facts that JSON cannot hold.
        """
        if not ranks.current().first:
            return
        held: dict[str, torch.Tensor] = {}
        seen: set[int] = set()
        for name, tensor in tensors.items():
            here = tensor.detach().cpu().contiguous()
            held[name] = here.clone() if here.data_ptr() in seen else here  # tied: a file holds no memory twice
            seen.add(here.data_ptr())
        data = _packed(held, {"members": list(self.members), "finished": finished, **facts})
        files.write(self.path, files.sha256(data).encode() + b"\n" + data)

    def load(self) -> Read | None:
        """What `save` wrote, on the CPU; None where there is no file, or a damaged one, which is removed with a warning."""
        here = ranks.current()
        found = self._load() if here.first else None
        if here.alone:
            return found
        data = here.shared(_packed(*found) if found else b"")
        return _unpacked(data) if data else None

    def _load(self) -> Read | None:
        if not self.path.exists():
            return None
        found = _read(self.path)
        if found is None or _digests(found[1]) != list(map(_digest, self.members)):
            _log.warning("%s: damaged: this training starts again from the beginning", self.path)
            files.remove(self.path)
            return None
        return found


class Kept:
    """The states of all trainings that write one output, in a folder of their own; open it with `Kept.hold`."""

    def __init__(self, folder: Place):
        self.folder = folder
        self._finished: dict[str, list[tuple[int, int, Place]]] = {}  # by digest: nets in a file, index of this one, the file
        self._unfinished: dict[Place, set[str]] = {}  # digests of the members that are still to be trained
        self._seen: set[Place] = set()  # files of finished nets
        self._used: set[Place] = set()
        self._open: tuple[Place, Read | None] | None = None  # the file that was read last

    @classmethod
    @contextlib.contextmanager
    def hold(
        cls, work: Place, out: Place, members: Sequence[Identity], *, keep: bool = False, anew: bool = False
    ) -> Iterator["Kept"]:
        """Lock the folder below `work` where the trainings that write `out` keep their states.

        members: the identities of all nets that will be trained. States are removed when the block ends without an error;
        with `keep`, those that were used stay for the next time. anew: start without the states of before. Of several ranks
        the first one holds the folder, and others have nothing that is finished.
        Raises BusyError where another process trains the same.
        """
        path = str(files.resolved(out))
        folder = work / "trainings" / f"{out.name}-{files.sha256(path.encode())[:12]}"
        if not ranks.current().first:
            yield cls(folder)
            return
        with files.locked_folder(folder, f"training of {out.name}"):
            for state in folder.glob("*.state") if anew else ():
                files.remove(state)
            for left in folder.glob(".*.partial"):  # from a process that was killed while it wrote
                files.remove(left)
            kept = cls(folder)
            kept._look(out, members)
            yield kept
            kept._clear(keep=keep)

    @classmethod
    def joined(cls, folder: Place) -> "Kept":
        """The states in the folder of another process, which has locked it and lets this one train a part of its students."""
        kept = cls(folder)
        kept.refresh()
        return kept

    def refresh(self) -> None:
        """Look for states that other processes have finished since."""
        for path in sorted(self.folder.glob("*.state")):
            if path not in self._seen and (facts := _facts(path)) is not None and facts["finished"]:
                self._note(path, facts)

    def state(self, members: Sequence[Identity]) -> State:
        """The state of one net, or of nets that are trained together."""
        state = State(self.folder, members)
        self._used.add(state.path)
        self._unfinished.pop(state.path, None)
        for path, wanted in list(self._unfinished.items()):
            if wanted & set(map(_digest, members)):
                _log.warning("%s: dropped, because it holds other students than those that are trained together now", path)
                del self._unfinished[path]
        return state

    def finished(self, member: Identity, *, alone: bool) -> tuple[dict[str, torch.Tensor], dict[str, Any], int] | None:
        """A net whose training is finished: its weights by name, the facts of its state, and its index there; else None.

        alone: only a net that was trained by itself, because the last bits of one from a stack differ.
        """
        candidates = [each for each in self._finished.get(_digest(member), ()) if each[0] == 1 or not alone]
        if not candidates:
            return None
        _, index, path = max(candidates, key=lambda each: each[0])  # the largest stack
        if self._open is None or self._open[0] != path:
            self._open = path, _read(path)
        found = self._open[1]
        if found is None or _digests(found[1])[index : index + 1] != [_digest(member)]:
            _log.warning("%s: damaged: its students are trained again", path)
            return None
        tensors, facts = found
        self._used.add(path)
        return {name.removeprefix(WEIGHTS): tensor[index] for name, tensor in tensors.items()}, facts, index

    def _look(self, out: Place, members: Sequence[Identity]) -> None:
        """List finished nets, and say which unfinished trainings are dropped, and why."""
        wanted = {_digest(member): member for member in members}
        for path in sorted(self.folder.glob("*.state")):
            if (facts := _facts(path)) is None:
                _log.warning("%s: damaged: this training starts again from the beginning", path)
                continue
            if facts["finished"]:
                self._note(path, facts)
            elif shared := wanted.keys() & set(_digests(facts)):
                self._unfinished[path] = shared
            else:
                changes = min((differences(now, facts["members"][0]) for now in members), key=len, default=[])
                changed = ", ".join(name for name, _, _ in changes) or "its settings"
                _log.warning("%s: an unfinished training is dropped, because these have changed since: %s", out, changed)
        if done := sum(digest in self._finished for digest in wanted):
            _log.info("%s: %d of %d students are trained already", out, done, len(members))

    def _note(self, path: Place, facts: Mapping[str, Any]) -> None:
        """Remember a finished state."""
        self._seen.add(path)
        digests = _digests(facts)
        for index, digest in enumerate(digests):
            self._finished.setdefault(digest, []).append((len(digests), index, path))

    def _clear(self, *, keep: bool) -> None:
        """Remove all states; with `keep`, all but those that were used."""
        for path in self.folder.glob("*.state"):
            if not keep or path not in self._used:
                files.remove(path)
        if not keep:
            files.clear(self.folder)


def _digest(member: Identity) -> str:
    return files.sha256(files.canonical_json(member))


def _digests(facts: Mapping[str, Any]) -> list[str]:
    return list(map(_digest, facts["members"]))


def _facts(path: Place) -> dict[str, Any] | None:
    """The facts of a state, read from its header alone and not compared with its digest; None where they are unreadable."""
    try:
        with path.open("rb") as file:
            file.seek(_DIGEST + 1)
            start = file.read(8)
            return _parsed(start + file.read(min(int.from_bytes(start, "little"), path.stat().st_size)))
    except (OSError, *_DAMAGE):
        return None


def _packed(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> bytes:
    """The bytes of a state, but for its digest. Raises TypeError for facts that JSON cannot hold."""
    return safetensors.torch.save(dict(tensors), metadata={"facts": json.dumps(facts)})


def _unpacked(data: bytes) -> Read:
    return safetensors.torch.load(data), _parsed(data)


def _parsed(data: bytes) -> dict[str, Any]:
    """The facts in a safetensors file, or in its first bytes: 8 bytes with the size of the header, and the header."""
    facts: dict[str, Any] = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["facts"])
    members, finished = facts["members"], facts["finished"]
    if not isinstance(finished, bool) or not members or not all(isinstance(member, dict) for member in members):
        raise TypeError("facts of other types")
    _digests(facts)  # raises for text that cannot be hashed, such as half of a surrogate pair
    return facts


def _read(path: Place) -> Read | None:
    """Tensors and facts of a state; None where it is damaged."""
    try:
        digest, _, data = path.read_bytes().partition(b"\n")
        if files.sha256(data).encode() != digest:
            return None
        return _unpacked(data)
    except (OSError, *_DAMAGE):
        return None
