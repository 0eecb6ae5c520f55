"""Spread: the tasks of a sweep, done by a crew of workers.

Every worker forms the groups of the sweep anew, and leaves what it has trained in the folder of states that the sweep has
locked. There the sweep finds it, as it finds what an earlier run of it has trained.
"""

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.base import runtime
from pipeline.base.crew import Workers, open_crew
from pipeline.base.differences import differences
from pipeline.base.errors import BusyError, InputError
from pipeline.base.places import Place
from pipeline.studies.groups import Group
from pipeline.studies.tasks import Bench, Task
from pipeline.training.lesson import Ground
from pipeline.training.resume import Identity, Kept

Form = Callable[[Ground], Iterable[Group]]  # forms the groups of a sweep; can be pickled
SPLITS = ("transfer", "train", "valid", "test")  # that a sweep opens


@dataclass(frozen=True)
class Start:
    """What a worker starts with; all of it can be pickled. A call of it, in the worker, returns what does a task.

    form: forms the groups of the sweep. states: the folder of states. device, threads, cores: of the sweep, as bits depend on
    them. expected: the identity of a student of each group, as the sweep has it.
    """

    form: Form
    splits: Place
    work: Place
    states: Place
    device: str
    threads: int | None
    cores: int
    expected: Sequence[Identity]

    @classmethod
    def of(cls, bench: Bench, form: Form, splits: Place) -> "Start":
        """For the tasks of a bench."""
        ground = bench.groups[0].lesson.ground
        machine = (ground.device.type, runtime.threads_set(), runtime.cores())  # each worker may have a GPU of its own
        return cls(form, splits, ground.work, bench.kept.folder, *machine, tuple(map(_sample, bench.groups)))

    def __call__(self) -> Callable[[Task], None]:
        """Open everything.

        Raises InputError where the worker does not see the folder of states, or would train other students than the sweep
        expects: on another kind of processor, or from other files.
        """
        if isinstance(self.states, Path) and not self.states.is_dir():
            fix = "Give --work a folder that all workers share."
            raise InputError(str(self.states), expected="the folder of the sweep", found="none in a worker", fix=fix)
        runtime.be_one_of_several(self.cores)
        os.environ.pop("OMP_NUM_THREADS", None)  # which Ray sets; the sweep has seen its own
        ground = Ground.open(self.splits, SPLITS, self.work, runtime.prepare(self.device, threads=self.threads))
        bench = Bench(list(self.form(ground)), Kept.joined(self.states))
        for expected, own in zip(self.expected, map(_sample, bench.groups), strict=True):
            for name, wanted, found in differences(expected, own)[:1]:
                what, fix = f"{name} of a worker", "Give all workers the same processors, files and versions."
                raise InputError(what, expected=f"{wanted}, as of the sweep", found=str(found), fix=fix)

        def work(task: Task) -> None:
            bench.kept.refresh()
            bench.do(task)

        return work


def spread(bench: Bench, workers: Workers, form: Form, splits: Place) -> Generator[Task]:
    """Let workers do the tasks of a bench; yields each when its students are finished, those of earlier runs first.

    Where the workers are `here`, all are yielded at once, and still to be done. form: forms the groups of the bench. splits:
    the folder that ingest wrote. Raises what workers raise, and BusyError where one has left other students than its task's.
    """
    if workers.on == "here":
        yield from bench.tasks
        return
    done = {task: bench.finished(task) for task in bench.tasks}
    yield from (task for task, finished in done.items() if finished)
    left = [task for task, finished in done.items() if not finished]
    if not left:
        return
    with open_crew(workers, Start.of(bench, form, splits)) as crew:
        for task, _ in crew.run(left):
            bench.kept.refresh()
            if not bench.finished(task):
                expected, fix = "the finished students of every task", "Run this again."
                raise BusyError(str(bench.kept.folder), expected=expected, found="none of one that was done", fix=fix)
            yield task


def _sample(group: Group) -> Identity:
    """The identity of its first student: it shows whether two processes have the same group."""
    return group.members_of(group.stacks[0])[0]
