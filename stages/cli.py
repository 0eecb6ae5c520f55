"""The console script `softcache`: it imports a command when it is used, and turns errors into messages."""

import atexit
import errno
import gc
import importlib
import logging
import os
import sys
from typing import Any

import click

from pipeline.base import ranks, runtime
from pipeline.base.errors import SoftcacheError, first_line, lacks_memory, printable
from pipeline.results import times
from stages import terminal
from stages.options import example

COMMANDS = (
    "ingest",
    "teach",
    "adopt",
    "capture",
    "verify",
    "inspect",
    "prune",
    "distill",
    "sweep",
    "evaluate",
    "footprint",
    "report",
    "export",
    "predict",
    "cost",
    "versions",
)

SHARED = ("teach", "distill")  # commands that torchrun may start several times

_AGAIN = "run again; captures and trainings go on where they stopped."
_FIX = {
    errno.ENOSPC: f"Make room, then {_AGAIN}",
    errno.EDQUOT: f"Make room, then {_AGAIN}",
    errno.EFBIG: f"Raise the limit on file sizes, then {_AGAIN}",
    errno.EACCES: f"Give access, then {_AGAIN}",
    errno.EPERM: f"Give access, then {_AGAIN}",
    errno.EROFS: f"Write elsewhere with --data, then {_AGAIN}",
}
_LESS = "Lower batch_size, tile, views, `memory` or the size of the net, or choose another --device."


class Softcache(click.Group):
    """A group whose commands live in stages/<name>.py and are imported only when used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return importlib.import_module(f"stages.{name}").command if name in COMMANDS else None

    def invoke(self, ctx: click.Context) -> Any:
        """The one place where errors become messages: no traceback for what a user can fix."""
        with terminal.one_voice():
            return self._invoke(ctx)

    def _invoke(self, ctx: click.Context) -> Any:
        try:
            done = super().invoke(ctx)
            terminal.flush()
            return done
        except SoftcacheError as error:
            raise _failure(str(error), error.exit_code) from error
        except KeyboardInterrupt as error:
            raise _failure(f"Interrupted; {_AGAIN}", 1) from error
        except OSError as error:
            if error.errno in (None, errno.EPIPE):
                raise
            where = f"{error.filename}: " if error.filename else ""
            raise _failure(f"{where}{error.strerror}. {_FIX.get(error.errno, 'Correct the path.')}", 2) from error
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            raise _unexpected(error) from error


def _unexpected(error: Exception) -> Exception:
    """An error of another library: a message about missing memory or about a plug-in; else the error itself."""
    if lacks_memory(error):
        reason = f": {first_line(error).rstrip('.')}" if error.args else ""
        return _failure(f"Not enough memory{reason}. {_LESS}", 2)
    plugins = sys.modules.get("pipeline.base.plugins")
    blamed = plugins.blamed(error) if plugins else None
    return error if blamed is None else _failure(str(blamed), blamed.exit_code)


def _failure(message: str, exit_code: int) -> click.ClickException:
    failure = click.ClickException(printable(message))
    failure.exit_code = exit_code  # type: ignore[misc]  # a class variable elsewhere
    return failure


@click.command(
    cls=Softcache,
    epilog=example("softcache ingest && softcache teach a && softcache capture a && softcache distill tiny -T 4 --teachers a"),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="softcache", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Run the teacher once, keep its raw logits, train any number of students at any temperature.

    Settings come from params.yaml; options on the command line override them. `dvc repro` runs everything.

    \b
    Exit codes: 0 done, 1 interrupted, 2 bad input or settings, 3 damaged or unfinished data, 4 busy (run again later).
    """
    _collect_less()
    _show_log()
    if not ranks.started().alone:  # torch would doubt how fit.py shares gradients; set before it is imported
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        runtime.die_with_parent(os.getppid())  # else ranks go on after a torchrun that was killed, and hold their folders
    runtime.asked_threads()
    if ctx.invoked_subcommand not in SHARED:
        ranks.require_alone(f"softcache {ctx.invoked_subcommand}")
    ctx.obj = times.noted if ranks.started().first else None  # set here, so that no command imports it
    if "DVC_STAGE" in os.environ:  # else a killed `dvc repro` leaves its stage running, and the next run starts it twice
        runtime.die_with_parent()


def _collect_less() -> None:
    """Look for garbage less often, and not at the end: with all that torch keeps, that takes 0.4 s of a command."""
    gc.set_threshold(20_000)
    atexit.register(gc.freeze)


def _show_log() -> None:
    """Write the library's log to standard error, above any progress bar."""

    class Terminal(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            from tqdm import tqdm

            with tqdm.external_write_mode():
                terminal.echo(self.format(record), err=True)

    log = logging.getLogger("pipeline")
    log.handlers = [Terminal()]
    log.setLevel(logging.INFO)
