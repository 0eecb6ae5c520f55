"""Tasks: the stacks of a sweep one by one, each of which any process can train that has formed the same groups."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.studies.groups import Group
from pipeline.training.lesson import Lesson, Student
from pipeline.training.resume import Kept


@dataclass(frozen=True)
class Task:
    """A stack to train. group: the number of its group in the sweep. seeds: of its students, see Group.stacks."""

    group: int
    seeds: tuple[int, ...]


class Bench:
    """Where tasks are done: groups of a sweep, and states of trainings. It holds the rows of one lesson at a time."""

    def __init__(self, groups: Sequence[Group], kept: Kept):
        self.groups, self.kept = groups, kept
        self._lesson: Lesson | None = None

    @property
    def tasks(self) -> list[Task]:
        """Those of the whole sweep; those that share a lesson follow each other."""
        return [Task(number, seeds) for number, group in enumerate(self.groups) for seeds in group.stacks]

    def finished(self, task: Task) -> bool:
        """Whether nothing is left to be trained."""
        return self.groups[task.group].finished(task.seeds, self.kept)

    def students(self, task: Task) -> list[Student]:
        """The students of a task, which are trained now where they are not finished."""
        return self._taken(task).train(task.seeds, self.kept)

    def do(self, task: Task) -> None:
        """Train the students of a task that are not finished, and leave them in the folder of states."""
        self._taken(task).fit(task.seeds, self.kept)

    def _taken(self, task: Task) -> Group:
        """The group of a task; rows of any other lesson are released."""
        group = self.groups[task.group]
        if self._lesson is not group.lesson:
            self.release()
            self._lesson = group.lesson
        return group

    def release(self) -> None:
        """Free the memory of the rows."""
        if self._lesson is not None:
            self._lesson.examples.release()
