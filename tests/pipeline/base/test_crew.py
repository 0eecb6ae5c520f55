"""Crews: what is handed to whom, and what becomes of it; with workers that do as the test says."""

from collections import deque
from dataclasses import dataclass, field

import pytest

from pipeline.base.crew import DEATHS, Crew, Died, Done, Started
from pipeline.base.errors import InputError
from pipeline.base.hand import Outcome


@dataclass(eq=False)
class Worker:
    name: str
    hand: deque = field(default_factory=deque)

    def give(self, number, task):
        self.hand.append((number, task))


@dataclass
class Agency:
    """Workers that do one task in turn; of `mortal` tasks they die as often as it says. room: of them, at each look."""

    room: list[int]
    mortal: dict[str, int] = field(default_factory=dict)
    stillborn: int = 0
    workers: list[Worker] = field(default_factory=list)
    hired: list[Worker] = field(default_factory=list)
    most: int = 0  # that one had in hand

    def wanted(self):
        return self.room.pop(0) if len(self.room) > 1 else self.room[0]

    def hire(self):
        worker = Worker(f"worker {len(self.hired) + 1}")
        self.hired.append(worker)
        return worker

    def events(self):
        found = []
        for worker in [each for each in self.hired if each not in self.workers and each.name]:
            if self.stillborn:
                self.stillborn -= 1
                worker.name = ""
                found.append((worker, Died("never began")))
            else:
                self.workers.append(worker)
                found.append((worker, Started(Outcome(None, None, []))))
        for worker in list(self.workers):
            self.most = max(self.most, len(worker.hand))
            if not worker.hand:
                continue
            number, task = worker.hand.popleft()
            if self.mortal.get(task, 0):
                self.mortal[task] -= 1
                self.workers.remove(worker)
                worker.name = ""
                found.append((worker, Died("fell")))
            else:
                found.append((worker, Done(number, Outcome(f"{task} by {worker.name}", None, []))))
        return found


def test_every_task_is_done_once_whoever_dies():
    agency = Agency([2], {"2": 3, "5": 1}, stillborn=2)
    tasks = [str(number) for number in range(9)]
    found = list(Crew(agency, 3).run(tasks))
    assert sorted(task for task, _ in found) == tasks
    assert len(agency.hired) == 2 + 2 + 4
    assert agency.most == 3


def test_towards_the_end_nobody_has_more_than_a_share():
    agency = Agency([2])
    crew = Crew(agency, 3)
    assert len(list(crew.run("ab"))) == 2
    assert agency.most == 1
    assert {worker for _, found in crew.run("cd") for worker in [found[-1]]} == {"1", "2"}  # the same two, once more
    assert len(agency.hired) == 2


def test_more_workers_come_where_there_is_room():
    agency = Agency([1, 1, 1, 3])
    assert {found[-1] for _, found in Crew(agency, 1).run("abcdefghijkl")} == {"1", "2", "3"}


def test_there_are_no_more_workers_than_tasks():
    agency = Agency([50])
    assert len(list(Crew(agency, 3).run("abc"))) == 3
    assert len(agency.hired) == 3


def test_a_task_that_nobody_survives_ends_in_one_message():
    agency = Agency([2], {"b": 10**6})
    message = (
        f"^span b: expected a worker that does it, found {DEATHS} that died, the last of which fell. If it wants more memory"
    )
    with pytest.raises(InputError, match=message):
        list(Crew(agency, 1).run("abc", "span {}".format))
    message = f"^workers: expected workers that start, found {DEATHS} that died, .* Install this program wherever they"
    with pytest.raises(InputError, match=message):
        list(Crew(Agency([2], stillborn=10**6), 1).run("abc"))
