"""A crew: workers that do tasks, as processes of this machine or as actors of a Ray cluster; one that dies is replaced.

Tasks may be done twice, at times by two workers at once, where one was thought dead; so what a task does must bear that.
"""

import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from pipeline.base.errors import InputError

if TYPE_CHECKING:
    from pipeline.base.hand import Outcome

T = TypeVar("T")
R = TypeVar("R")

DEATHS = 20  # of workers that had one task in hand, or of those that did not even start, one after the other
SECONDS = 1.0  # at most, until a crew looks whether there should be more workers
_WORKING = "If it wants more memory than there is, take fewer --workers, or more for each; else see what ends them."
_STARTING = "Install this program wherever they are to run, at one version; if they want more memory, take fewer --workers."
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workers:
    """Who does the tasks of a command.

    on: `here`, in this process; `processes` of this machine; or actors on `ray`. count: how many; None for one on each GPU or,
    where there is none, on each core; a Ray cluster that grows then gets more. address: of the Ray cluster; None for the
    one that RAY_ADDRESS names, or a new one of this machine alone. gpus, cpus: what an actor takes of a Ray cluster; None for
    a GPU where the cluster has some, and one core. device: what each worker is to take, see runtime.prepare; a GPU that it
    names is that of one worker, unless `count` says otherwise.
    """

    on: Literal["here", "processes", "ray"] = "here"
    count: int | None = None
    address: str | None = None
    gpus: float | None = None
    cpus: float | None = None
    device: str = "auto"

    @property
    def most(self) -> int | None:
        """How many, where that is said."""
        return 1 if self.count is None and self.device.startswith("cuda:") else self.count

    @property
    def any_gpu(self) -> bool:
        """Whether each is to take a GPU of its own, where there are some."""
        return self.device in ("auto", "cuda")


HERE = Workers()


class Worker(Protocol):
    """One worker, as the coordinator sees it. name: for messages."""

    @property
    def name(self) -> str: ...

    def give(self, number: int, task: Any) -> None:
        """Hand it a task; if it is dead, an event will tell."""


class Started(NamedTuple):
    """A worker is ready, or has failed to start."""

    outcome: "Outcome"


class Done(NamedTuple):
    """A worker has done a task, or failed at it."""

    number: int
    outcome: "Outcome"


class Died(NamedTuple):
    """A worker is no more, and whatever it had in hand is not done. how: in words."""

    how: str


class Agency(Protocol):
    """What hires workers: base/processes.py and base/actors.py have one each."""

    def wanted(self) -> int:
        """How many workers there should be now."""

    def hire(self) -> Worker:
        """Start another worker; an event tells when it is ready."""

    def events(self) -> list[tuple[Worker, Started | Done | Died]]:
        """What has happened since the last call; waits for it, `SECONDS` at most."""

    def close(self) -> None:
        """End all workers at once."""


class Crew(Generic[T, R]):
    """Workers that an agency hires; open it with `open_crew`."""

    def __init__(self, agency: Agency, depth: int):
        self._agency, self._depth = agency, depth
        self._starting: set[Worker] = set()
        self._hands: dict[Worker, set[int]] = {}  # of every worker that is ready: the tasks that it has in hand
        self._stillborn = 0  # workers that died before they were ready, since one was
        self._told: set[str] = set()  # what workers have logged: what several say is shown once

    def run(self, tasks: Iterable[T], name: Callable[[T], str] = str) -> Iterator[tuple[T, R]]:
        """Do tasks, on whichever workers there are; yields each with its result, in the order in which they are done.

        A worker that dies is replaced, and its tasks are done again. Read it to its end, or close the crew.

        Args:
            tasks: What is handed to the workers' function; each can be pickled.
            name: What a task is called in messages.

        Returns:
            Pairs of a task and its result.

        Raises:
            SoftcacheError: A worker raised it; any other exception of a worker is raised likewise.
            InputError: `DEATHS` workers died, one after the other, with the same task in hand or before they were ready.
        """
        numbered, deaths = dict(enumerate(tasks)), Counter[int]()
        waiting = deque(numbered)
        while left := len(waiting) + sum(map(len, self._hands.values())):
            self._hire(left)
            self._hand_out(waiting, numbered, left)
            for worker, event in self._agency.events():
                match event:
                    case Started(outcome):
                        self._value(outcome)
                        self._starting.discard(worker)
                        self._hands[worker] = set()
                        self._stillborn = 0
                    case Done(number, outcome):
                        result = self._value(outcome)
                        self._hands[worker].discard(number)
                        yield numbered[number], result
                    case Died(how):
                        waiting.extendleft(self._bury(worker, how, deaths, lambda number: name(numbered[number])))

    def _hire(self, left: int) -> None:
        """Replace the dead, and take on more where the agency has room for them; never more than there are tasks."""
        for _ in range(min(self._agency.wanted(), left) - len(self._starting) - len(self._hands)):
            self._starting.add(self._agency.hire())

    def _hand_out(self, waiting: deque[int], numbered: dict[int, T], left: int) -> None:
        """Give every worker a few tasks, so that none waits for its next one; towards the end no more than its share."""
        most = min(self._depth, -(-left // max(1, len(self._starting) + len(self._hands))))
        while waiting and self._hands:
            worker = min(self._hands, key=lambda each: len(self._hands[each]))
            if len(self._hands[worker]) >= most:
                return
            number = waiting.popleft()
            self._hands[worker].add(number)
            worker.give(number, numbered[number])

    def _value(self, outcome: "Outcome") -> Any:
        for record in outcome.logs:
            if (text := record.getMessage()) not in self._told:
                self._told.add(text)
                logging.getLogger(record.name).handle(record)
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    def _bury(self, worker: Worker, how: str, deaths: Counter[int], name: Callable[[int], str]) -> list[int]:
        """What the dead worker had in hand. Raises InputError where too many died like that. name: of a task."""
        self._starting.discard(worker)
        lost = sorted(self._hands.get(worker, ()), reverse=True)
        self._stillborn += worker not in self._hands
        self._hands.pop(worker, None)
        if self._stillborn >= DEATHS:
            raise _hopeless("workers", "workers that start", self._stillborn, how, _STARTING)
        deaths.update(lost)
        if lost and deaths[worst := max(lost, key=lambda number: deaths[number])] >= DEATHS:
            raise _hopeless(name(worst), "a worker that does it", deaths[worst], how, _WORKING)
        again = f"; what it had in hand, {len(lost)}, is done again" if lost else ""
        _log.warning("%s %s%s", worker.name, how, again)
        return lost


def _hopeless(what: str, expected: str, count: int, how: str, fix: str) -> InputError:
    return InputError(what, expected=expected, found=f"{count} that died, the last of which {how}", fix=fix)


@contextlib.contextmanager
def open_crew(workers: Workers, start: Callable[[], Callable[[T], R]], *, depth: int = 1) -> Iterator[Crew[T, R]]:
    """Open a crew; its workers end with the block, however that ends, and with this process.

    Args:
        workers: Who they are; not `here`.
        start: Is called once in each worker, loads what is heavy, and returns what does a task. It is pickled, so it is a
            function of a module, or a `partial` of one.
        depth: How many tasks a worker has in hand at a time, each in a thread of its own: with several, one reads while
            another one writes.

    Returns:
        The crew.

    Raises:
        InputError: Ray is not installed, or there is no cluster at the address.
    """
    agency = _agency(workers, start, depth)
    try:
        yield Crew(agency, depth)
    finally:
        agency.close()


def _agency(workers: Workers, start: Callable[[], Callable[[T], R]], depth: int) -> Agency:
    if workers.on == "ray":
        from pipeline.base.actors import Actors

        return Actors(workers, start, depth)
    from pipeline.base.processes import Processes

    return Processes(workers, start, depth)
