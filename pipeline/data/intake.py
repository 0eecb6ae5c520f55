"""Intake: the inputs of some rows, read once, checked, and put into the buckets of their splits, by any process."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from pipeline.base import runtime
from pipeline.base.background import ahead
from pipeline.base.errors import InputError
from pipeline.data.assignment import NOWHERE, Assignment, Places
from pipeline.data.buckets import Buckets
from pipeline.data.index import IndexedPart, id_digests, place
from pipeline.data.inputs.form import Form
from pipeline.data.inputs.kinds import KINDS
from pipeline.data.inputs.resizing import Resizing
from pipeline.data.sources.source import Chunk
from pipeline.data.splitfile import Rows

_AHEAD = 2  # chunks that wait for each thread that checks

_Checked = tuple[int, Chunk, Sequence[str], list[bytes], list[Hashable | InputError]]


@dataclass(frozen=True)
class Wanted:
    """What is asked of all rows. damaged: `fail` or `exclude`. twice: see Assignment."""

    form: Form
    damaged: str
    resizing: Resizing
    twice: np.ndarray

    def settle(self, seen: Mapping[Hashable, str]) -> None:
        """Raise InputError for rows that do not go together."""
        KINDS[self.form.kind].settle(self.form, seen, self.resizing)


@dataclass
class Intake:
    """What was seen of rows that are in their buckets.

    rows, stored_bytes: of those that are sound. seen: what was seen of rows, and the first row of each. left_out: the errors of
    damaged ones; damaged: by split, their places and ids. sums: of the rows that are in the validation split and in the
    transfer set, the sha256 of the inputs and the id, by the digest of the id.
    """

    wanted: Wanted
    rows: int = 0
    stored_bytes: int = 0
    seen: dict[Hashable, str] = field(default_factory=dict)
    left_out: list[InputError] = field(default_factory=list)
    damaged: dict[str, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    sums: dict[bytes, tuple[bytes, str]] = field(default_factory=dict)

    def join(self, later: "Intake") -> None:
        """Take what was seen of later rows. Raises InputError for rows that do not go together."""
        self.rows += later.rows
        self.stored_bytes += later.stored_bytes
        self.left_out += later.left_out
        for found, where in later.seen.items():
            self.see(found, partial(str, where))
        for split, rows in later.damaged.items():
            self.damaged[split] += rows
        for digest, (found, identity) in later.sums.items():
            self.compare(digest, found, identity)

    def see(self, found: Hashable, where: Callable[[], str]) -> None:
        """Note what was seen of a row. Raises InputError if it does not go with the first one."""
        if found not in self.seen:
            self.seen[found] = where()
            self.wanted.settle({each: self.seen[each] for each in (next(iter(self.seen)), found)})

    def compare(self, digest: bytes, found: bytes, identity: str) -> None:
        """Raise InputError where a row is in the validation split and in the transfer set, with different inputs."""
        if self.sums.setdefault(digest, (found, identity))[0] != found:
            said, fix = f"{identity!r} in transfer and in valid, with different inputs", "Make the ids unique."
            raise InputError("transfer split, ids", expected="each id once", found=said, fix=fix)


@dataclass(frozen=True)
class Job:
    """The intake of a part of a source. places: where its rows go. labels: theirs, (n,) of whole numbers."""

    part: IndexedPart
    places: Places
    labels: np.ndarray
    wanted: Wanted
    buckets: Mapping[str, Buckets]

    def __call__(self, tell: Callable[[int], object] = lambda rows: None, threads: int = 1) -> Intake:
        """Read, check and put all rows. tell: is told how many are done. threads: that check.

        Raises InputError for the first damaged row, unless such are to be left out, and for rows that do not go together.
        """
        intake = Intake(self.wanted)
        jobs = (partial(_checked, self.wanted.form, start, chunk, ids) for start, chunk, ids in self.part.read())
        with runtime.lean_memory():
            for start, chunk, ids, stored, results in ahead(jobs, depth=_AHEAD * threads, workers=threads):
                sound = np.ones(len(results), bool)
                for row, found in enumerate(results):
                    if not isinstance(found, InputError):
                        intake.see(found, partial(place, chunk, row, ids[row]))
                        continue
                    if self.wanted.damaged == "fail":
                        raise found
                    intake.left_out.append(found)
                    sound[row] = False
                self._put(intake, start, Rows.of(ids, stored, self.labels[start : start + len(results)]), sound)
                tell(len(results))
            for buckets in self.buckets.values():
                buckets.flush()
        return intake

    def _put(self, intake: Intake, start: int, rows: Rows, sound: np.ndarray) -> None:
        """Put the sound rows of a chunk into their buckets, and note the others."""
        intake.rows += int(sound.sum())
        intake.stored_bytes += int(rows.ends()[-1])
        for name, places in self.places.of(start, start + len(rows)):
            here = np.flatnonzero(sound & (places != NOWHERE))
            self.buckets[name].add(places[here], rows.take(here))
            intake.damaged[name] += [
                (int(places[row]), rows.ids[row].as_py()) for row in np.flatnonzero(~sound & (places != NOWHERE)).tolist()
            ]
        if len(self.wanted.twice):
            digests = id_digests(rows.ids.to_pylist())
            for row in np.flatnonzero(np.isin(digests, self.wanted.twice)).tolist():
                found = hashlib.sha256(rows.stored[row].as_buffer()).digest()
                intake.compare(bytes(digests[row]), found, rows.ids[row].as_py())


def jobs(plan: Assignment, wanted: Wanted, buckets: Mapping[str, Buckets]) -> Iterator[list[Job]]:
    """The jobs of each source; only where there are several, other processes can do them."""
    for index, places in zip(plan.indices, plan.places, strict=True):
        yield [
            Job(part, places.cut(part.start, part.stop), index.labels[part.start : part.stop], wanted, buckets)
            for part in index.parts
        ]


def _checked(form: Form, start: int, chunk: Chunk, ids: Sequence[str]) -> _Checked:
    """All that was given but the form, the bytes of each row, and what was seen of it; an InputError for a damaged one."""
    examine = KINDS[form.kind].examine
    results: list[Hashable | InputError] = []
    for row, data in enumerate(chunk.inputs):
        try:
            if isinstance(data, InputError):
                raise data
            results.append(examine(form, data, ""))
        except InputError as error:
            where = place(chunk, row, ids[row])
            results.append(InputError(where, expected=error.expected, found=error.found, fix=error.fix))
    stored = [data if isinstance(data, bytes) else b"" for data in chunk.inputs]
    return start, chunk, ids, stored, results
