"""The terminal: printing for commands, also where the reader of a pipe has gone away."""

import contextlib
import os
import sys

import click

from pipeline.base.errors import printable


def echo(*lines: str, err: bool = False) -> None:
    """Print lines, with control characters escaped, because they may have text from data.

    Where the reader has gone away, as after `| head`, or the disk of standard error is full, the command goes on in silence.
    """
    try:
        click.echo("\n".join(map(printable, lines)), err=err)
    except OSError as error:
        if not err and not isinstance(error, BrokenPipeError):
            raise
        silence(err=err)


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
