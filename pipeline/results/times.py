"""Times: how long commands took, one line for each in times.csv, from which `cost` computes what a result took.

Times are kept out of the outputs, so that outputs are the same bytes however long they took. Each line ends with a checksum
of the rest of the line.
"""

import contextlib
import csv
import datetime
import fcntl
import io
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.base import files, runtime

FILE = "times.csv"  # in the data folder; ignored by git and DVC
COLUMNS = ("command", "name", "run", "started", "seconds", "ended", "device", "threads", "check")
_CHECK = 16  # characters of a sha256
DONE, FAILED, INTERRUPTED = "done", "failed", "interrupted"
_ASKED_TO_END = (signal.SIGTERM, signal.SIGHUP)
_log = logging.getLogger(__name__)


@contextlib.contextmanager
def noted(data: Path, *, command: str, name: str, run: str, device: str, threads: int | None) -> Iterator[None]:
    """Append a line to times.csv in folder `data` when the block ends, also if it fails. Without the folder, do nothing.

    run: the name of the output, because one `name` can have several. device, threads: the options of the command; the line
    has the device and the number of threads that they led to. If the line cannot be written, a warning says so. A process
    that is killed with SIGKILL (kill -9) leaves no line.
    """
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()

    def note(ended: str) -> None:
        path = data / FILE
        try:
            if not data.is_dir():
                return
            seconds = f"{time.monotonic() - clock:.1f}"
            at = f"{started:%Y-%m-%dT%H:%M:%SZ}"
            append(path, (command, name, run, at, seconds, ended, *_resolved(device, threads)))
        except Exception as error:  # no error here may hide how the command itself ended
            _log.warning("%s: the time of this command was not recorded: %s", path, error)

    try:
        with _noted_when_asked_to_end(note):
            yield
    except KeyboardInterrupt:
        note(INTERRUPTED)
        raise
    except BaseException:
        note(FAILED)
        raise
    note(DONE)


def append(path: Path, values: tuple[object, ...]) -> None:
    """Append one line, as a whole or not at all. Several processes may append at once. values: of all COLUMNS but the check."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # otherwise two processes could both write the header
        size = os.fstat(descriptor).st_size
        line = checked(_csv(values)) if size else _csv(COLUMNS) + checked(_csv(values))
        try:
            if os.write(descriptor, line) < len(line):
                raise OSError("no room left")
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def checked(line: bytes) -> bytes:
    """A line with its checksum."""
    line = line.rstrip(b"\n")
    return line + f",{files.sha256(line)[:_CHECK]}\n".encode()


def is_whole(line: bytes) -> bool:
    """Whether the checksum of a line is right."""
    return checked(line.rpartition(b",")[0]) == line + b"\n"


def _csv(values: tuple[object, ...]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue().encode(errors="backslashreplace")


def _resolved(device: str, threads: int | None) -> tuple[str, int]:
    """The device that "auto" led to, if the command has imported torch, and the number of threads that it could use."""
    if device == "auto" and (torch := sys.modules.get("torch")) is not None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return device, runtime.asked_threads(threads) or runtime.cores()


@contextlib.contextmanager
def _noted_when_asked_to_end(note: Callable[[str], None]) -> Iterator[None]:
    """If the process gets a signal to end, call `note`, and then let the signal end the process as usual."""
    main = threading.current_thread() is threading.main_thread()  # only the main thread can set handlers
    taken = [number for number in _ASKED_TO_END if main and signal.getsignal(number) is signal.SIG_DFL]

    def give_back() -> None:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)

    def end(number: int, _frame: object) -> None:
        give_back()
        note(INTERRUPTED)
        os.kill(os.getpid(), number)

    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        give_back()
