"""Tasks: every stack of every group once, and one lesson's rows in memory."""

from types import SimpleNamespace

from pipeline.studies.tasks import Bench, Task


class Lesson:
    """Notes when its rows are read and released."""

    def __init__(self, name: str, log: list):
        self.name, self.log = name, log
        self.examples = SimpleNamespace(release=lambda: log.append(f"{name} released"))


def group(lesson: Lesson, stacks: list) -> SimpleNamespace:
    def do(seeds, kept):
        lesson.log.append(f"{lesson.name} {seeds}")

    return SimpleNamespace(lesson=lesson, stacks=stacks, fit=do, train=do)


def test_tasks_are_all_stacks_and_one_lesson_is_held_at_a_time():
    log: list[str] = []
    one, two = Lesson("one", log), Lesson("two", log)
    bench = Bench([group(one, [(0,), (3,)]), group(one, [(0, 3)]), group(two, [(5,)])], kept=None)
    assert bench.tasks == [Task(0, (0,)), Task(0, (3,)), Task(1, (0, 3)), Task(2, (5,))]
    for task in bench.tasks:
        bench.do(task)
    bench.students(bench.tasks[0])
    bench.release()
    assert log == [
        "one (0,)", "one (3,)", "one (0, 3)", "one released", "two (5,)", "two released", "one (0,)", "one released"
    ]  # fmt: skip
