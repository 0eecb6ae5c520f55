"""The terminal: printing for commands, also where the reader of a pipe has gone away."""

import atexit
import contextlib
import os
import sys
import time
from collections.abc import Iterator

import click

from pipeline.base import ranks
from pipeline.base.errors import printable

_LAST_SECONDS = 10  # after which a rank that torchrun has not ended goes by itself


def echo(*lines: str, err: bool = False) -> None:
    """Print lines, with control characters escaped, because they may have text from data.

    Where the reader has gone away, as after `| head`, or the disk of standard error is full, the command goes on in silence.
    Of several ranks the first one speaks for all.
    """
    if not ranks.started().first:
        return
    try:
        click.echo("\n".join(map(printable, lines)), err=err)
    except OSError as error:
        if not err and not isinstance(error, BrokenPipeError):
            raise
        silence(err=err)


@contextlib.contextmanager
def one_voice() -> Iterator[None]:
    """Let one of several ranks say why they end: the first to fail. The others wait until torchrun ends them.

    Where the user interrupts them, torchrun tells all ranks and waits for each, so they go at once.
    """
    try:
        yield
    except BaseException as error:
        code = getattr(error, "exit_code", 1)
        if ranks.started().alone or code == 0:
            raise
        if not ranks.fails_first():
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(0 if isinstance(error.__cause__, KeyboardInterrupt) else _LAST_SECONDS)
            os._exit(code)
        atexit.register(_leave, code)
        raise


def _leave(code: int) -> None:
    """End at once, when all is said: other ranks that still wait for this one would hold it."""
    flush()
    os._exit(code)


def silence(*, err: bool = False) -> None:
    """Redirect a stream to the null device, so that writing to it raises no error, not even when Python exits."""
    stream = sys.stderr if err else sys.stdout
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def flush() -> None:
    """Flush both streams; silence one whose reader has gone away."""
    for err, stream in ((False, sys.stdout), (True, sys.stderr)):
        try:
            if stream is not None:
                stream.flush()
        except OSError as error:
            if not err and not isinstance(error, BrokenPipeError):
                raise
            silence(err=err)
