"""A hand: the worker's side of a crew. It starts once, does tasks, and says what came of each."""

import logging
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from logging.handlers import QueueHandler
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from pipeline.base import plugins, runtime
from pipeline.base.errors import SoftcacheError, first_line

_LOGS = ("pipeline", "py.warnings")  # what is shown where the crew was opened


class Outcome(NamedTuple):
    """What came of a task, or of the start. error: what was raised, if anything. logs: what was logged meanwhile."""

    value: Any
    error: BaseException | None
    logs: list[logging.LogRecord]


@dataclass(frozen=True)
class Post:
    """What a worker is told as it starts.

    start: the pickled function, see crew.open_crew. cores: how many it may use. environment: variables that it shall have.
    folder, paths: the working folder, and where Python looks for modules. level: of what is logged.
    """

    start: bytes
    cores: int
    environment: Mapping[str, str]
    folder: str
    paths: tuple[str, ...]
    level: int

    @classmethod
    def here(cls, start: Callable[[], Any], cores: int, environment: Mapping[str, str]) -> "Post":
        """A post with the folder, the paths and the log's level of this process."""
        level = logging.getLogger("pipeline").getEffectiveLevel()
        return cls(pickle.dumps(start), cores, environment, os.getcwd(), tuple(sys.path), level)


class Hand:
    """Does tasks in a process of its own. What it returns is pickled, so that it can be sent whatever it is."""

    def __init__(self, post: Post):
        self._post = post
        self._logs: SimpleQueue[logging.LogRecord] = SimpleQueue()
        self._function: Callable[[Any], Any] | None = None

    def start(self) -> bytes:
        """Make this process like the one that opened the crew, and call the function that loads what is heavy."""
        return self._outcome(self._start)

    def do(self, task: Any) -> bytes:
        """Do a task."""
        if self._function is None:
            raise ValueError("expected a hand that has started")
        return self._outcome(self._function, task)

    def _start(self) -> None:
        post = self._post
        os.environ.update(post.environment)
        if os.path.isdir(post.folder):
            os.chdir(post.folder)
        sys.path += [path for path in post.paths if path not in sys.path]
        runtime.be_one_of_several(post.cores)
        logging.captureWarnings(True)
        for name in _LOGS:
            log = logging.getLogger(name)
            log.handlers, log.propagate = [QueueHandler(self._logs)], False
            log.setLevel(post.level)
        self._function = pickle.loads(post.start)()

    def _outcome(self, function: Callable[..., Any], *given: Any) -> bytes:
        value, error = None, None
        try:
            value = pickle.dumps(function(*given))
        except BaseException as raised:
            error = _portable(raised)
        return pickle.dumps((value, error, self._logged()))

    def _logged(self) -> list[logging.LogRecord]:
        found: list[logging.LogRecord] = []
        while True:
            try:
                found.append(self._logs.get_nowait())
            except Empty:
                return found


def opened(data: bytes) -> Outcome:
    """The outcome in what a hand returned."""
    value, error, logs = pickle.loads(data)
    return Outcome(None if value is None else pickle.loads(value), error, logs)


def _portable(error: BaseException) -> BaseException:
    """An error as it can be sent: neither its traceback nor its cause can, so a note says where it was raised.

    Who receives it cannot see whether a plug-in raised it, so that is seen to here.
    """
    error = plugins.blamed(error) or error
    if isinstance(error, SoftcacheError):
        return error
    where = "in a worker:\n" + "".join(traceback.format_exception(error))
    error.add_note(where)
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # an exception of a library, whose arguments are others than its constructor's
        error = RuntimeError(f"{type(error).__name__}: {first_line(error)}")
        error.add_note(where)
    return error
