"""Workers: a sweep that a crew does. Each worker trains one architecture and one seed at a time.

It forms the groups of the sweep anew, and leaves what it has trained in the folder of states that the sweep has locked. There
the sweep finds it, as it finds what an earlier run of it has trained; so others go on where these stopped.
"""

import logging
import os
import platform
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.base import runtime
from pipeline.base.crew import Workers, open_crew
from pipeline.base.differences import differences
from pipeline.base.errors import InputError, IntegrityError
from pipeline.base.places import Place
from pipeline.data import scratch
from pipeline.studies.groups import Group
from pipeline.studies.tasks import Bench, Task
from pipeline.training.lesson import Ground
from pipeline.training.resume import Identity, Kept

Form = Callable[[Ground], Iterable[Group]]  # forms the groups of a sweep; can be pickled
_SHARE = "Give all workers the same files: --work in a folder that they share."
_log = logging.getLogger(__name__)
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
        machine = (str(ground.device), runtime.threads_set(), runtime.cores())  # a bare "cuda" is each worker's own GPU
        return cls(form, splits, ground.work, bench.kept.folder, *machine, tuple(map(_sample, bench.groups)))

    def __call__(self) -> Callable[[Task], None]:
        """Open everything.

        Raises InputError where the worker does not see the folder of states, IntegrityError where it would train other
        students than the sweep expects: on another kind of processor, or from other files.
        """
        if isinstance(self.states, Path) and not self.states.is_dir():
            what = f"worker on {platform.node()}"
            raise InputError(what, expected=f"{self.states}, as the others see it", found="no such folder", fix=_SHARE)
        runtime.be_one_of_several(self.cores)
        os.environ.pop("OMP_NUM_THREADS", None)  # which Ray sets; the sweep has seen its own
        device = runtime.prepare(self.device, threads=self.threads)
        scratch.use(self.work)
        bench = Bench(list(self.form(Ground.open(self.splits, SPLITS, self.work, device))), Kept.joined(self.states))
        if len(bench.groups) != len(self.expected):
            raise _other("groups", len(self.expected), len(bench.groups))
        for expected, own in zip(self.expected, map(_sample, bench.groups), strict=True):
            for field, wanted, found in differences(expected, own):
                raise _other(field, wanted, found)

        def work(task: Task) -> None:
            bench.kept.refresh()
            bench.do(task)

        return work


def spread(bench: Bench, workers: Workers, form: Form, splits: Place) -> Generator[Task]:
    """Let workers do the tasks of a bench; yields each when its students are finished, those of earlier runs first.

    Args:
        bench: Its groups and states. Where the workers are `here`, all its tasks are yielded at once, and still to be done.
        workers: Who they are. They take the device and the threads of this process, as bits depend on them.
        form: Forms the groups of the bench.
        splits: The folder that ingest wrote.

    Raises:
        InputError: The workers do not see the files of this process, or they die too often; or what one of them raises.
        IntegrityError: A worker's processor, data or versions are others; or what one of them raises.
    """
    if workers.on == "here":
        yield from bench.tasks
        return
    done = {task: bench.finished(task) for task in bench.tasks}
    yield from (task for task, finished in done.items() if finished)
    left = [task for task, finished in done.items() if not finished]
    if not left:
        return
    if runtime.threads_set() is None and workers.most != 1:
        _log.warning("each worker takes as many threads as one process would; give --threads where they share a machine")

    def name(task: Task) -> str:
        return f"{bench.groups[task.group].name}, seed {', '.join(map(str, task.seeds))}"

    start = Start.of(bench, form, splits)
    with open_crew(replace(workers, device=start.device), start) as crew:
        for task, _ in crew.run(left, name):
            bench.kept.refresh()
            if not bench.finished(task):
                what, found = f"{bench.kept.folder}", f"none of {name(task)}"
                raise InputError(what, expected="what the workers have trained", found=found, fix=_SHARE)
            yield task


def _other(what: str, expected: object, found: object) -> IntegrityError:
    """This worker would train other students than the sweep."""
    fix = "Give all workers the same data, plug-ins, kind of processor and version of this program."
    return IntegrityError(f"worker on {platform.node()}, {what}", expected=str(expected), found=str(found), fix=fix)


def _sample(group: Group) -> Identity:
    """The identity of its first student: it shows whether two processes have the same group."""
    return group.members_of(group.stacks[0])[0]
