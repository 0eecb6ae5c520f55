"""Write commands.md: every command, from what click knows of it.

    python docs/commands.py

The terminal's width and the environment change nothing in it.
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

from stages.cli import main

PAGE = Path(__file__).with_suffix(".md")
HEAD = """# Commands

One section for each command. `make commands` writes this page from the code, so do not edit it by hand.

Settings come from `params.yaml` where a command has `--params`; an option on the command line comes before them. An option
without a default is off, or not set, until you give it. Every command takes `--help` too.
"""


def page() -> str:
    """The whole page, in Markdown."""
    group = click.Context(main, info_name="softcache")
    commands = [click.Context(main.get_command(group, name), group, name) for name in main.list_commands(group)]
    return "\n\n".join([HEAD.rstrip(), *(part for each in (group, *commands) for part in _section(each))]) + "\n"


def _section(ctx: click.Context) -> Iterator[str]:
    """A heading, the usage, the help, the options and the example of one command."""
    command = ctx.command
    yield f"## {ctx.command_path}"
    yield f"    {' '.join([ctx.command_path, *command.collect_usage_pieces(ctx)])}"
    yield from _paragraphs(command.help)
    records = [param.get_help_record(ctx) for param in command.params if isinstance(param, click.Option)]
    listed = [f"- `{names}`: {' '.join(told.split())}" for names, told in filter(None, records)]
    if listed:
        yield "\n".join(listed)
    yield from _paragraphs(command.epilog)


def _paragraphs(text: str | None) -> Iterator[str]:
    """Each paragraph of a help text on one line, and after it what its author has indented, as code."""
    for paragraph in inspect.cleandoc(text or "").split("\n\n"):
        lines = [line.rstrip() for line in paragraph.splitlines() if line != "\b"]  # click's sign to leave lines as they are
        told = " ".join(line for line in lines if not line.startswith(" "))
        code = "\n".join(f"    {line.strip()}" for line in lines if line.startswith(" "))
        yield from filter(None, [re.sub(r"(`[^`]*`)|<", lambda found: found[1] or r"\<", told), code])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
