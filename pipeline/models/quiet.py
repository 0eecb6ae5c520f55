"""Quiet: a block in which torch's exporter and onnxruntime say nothing on the terminal, not even from C++."""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what is printed, logged and warned of within the block from the terminal. Errors are raised as ever."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            with _nowhere(1), _nowhere(2):  # C++ writes to the file descriptors
                yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _nowhere(descriptor: int) -> Iterator[None]:
    """Within the block, what is written to a file descriptor is lost."""
    try:
        kept = os.dup(descriptor)
    except OSError:  # it is closed
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), descriptor)
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)
