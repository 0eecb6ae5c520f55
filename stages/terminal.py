"""The terminal: what commands print, to readers that may have gone away."""

import contextlib
import os
import sys

import click

from pipeline.base.errors import printable


def echo(*lines: str, err: bool = False) -> None:
    """Print lines, made printable: they may hold text out of data.

    Where nobody reads any more, as after `| head`, nothing is printed from then on: the work counts. So it does where messages
    go to a full disk.
    """
    try:
        click.echo("\n".join(map(printable, lines)), err=err)
    except OSError as error:
        if not err and not isinstance(error, BrokenPipeError):
            raise
        silence(err=err)


def silence(*, err: bool = False) -> None:
    """Let a stream lead nowhere, so that what is still to be written to it raises nothing, not even when Python ends."""
    stream = sys.stderr if err else sys.stdout
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def flush() -> None:
    """Hand over what is printed but not yet written; to nobody, where nobody reads."""
    for err, stream in ((False, sys.stdout), (True, sys.stderr)):
        try:
            if stream is not None:
                stream.flush()
        except OSError as error:
            if not err and not isinstance(error, BrokenPipeError):
                raise
            silence(err=err)
