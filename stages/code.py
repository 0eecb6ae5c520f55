"""softcache code: the code behind each command, hashed, for DVC to depend on."""

from pathlib import Path

import click

from stages.options import data_option, example
from stages.terminal import echo


@click.command(epilog=example("softcache code"))
@data_option
def command(data: Path) -> None:
    """Write data/code/<command>.txt: the project files that each command imports, hashed without comments or docstrings."""
    from pipeline import closure, files

    out = data / "code"
    with files.replaced_folder(out) as folder:
        for name in closure.commands():
            files.write(folder / f"{name}.txt", closure.listing(f"stages.{name}").encode())
    echo(f"wrote {out}: {len(closure.commands())} commands")
