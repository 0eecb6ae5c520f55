"""softcache code: the code behind each command and the user's plug-ins, hashed, for DVC to depend on."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from pipeline.errors import InputError
from stages.options import Params, counted, data_option, example
from stages.terminal import echo

_SECTIONS = ("teach", "teachers", "views", "recipe", "students", "distill", "sweeps")  # that may name plug-ins
_SPECS = ("model", "optimizer", "schedule", "policy", "rows", "loss")  # the settings that do


@click.command(epilog=example("softcache code"))
@data_option
def command(data: Path) -> None:
    """Write data/code/: for every command the project files that it imports, and for every section of params.yaml the plug-ins.

    Both are hashed without comments or docstrings. data/code/<command>.txt is of a command, data/code/plugins/<section>.txt of
    a section, such as teachers.a. As a stage of dvc.yaml it wants the files of plug-ins among its deps.
    """
    from pipeline import closure, files, source

    params = Params.read(None)
    named = {section: sorted(set(_plugins(value))) for section, value in _sections(params)}
    sources = {name: source.read(name) for names in named.values() for name in names}
    if "DVC_STAGE" in os.environ:
        _require_deps({path for source in sources.values() for path in source.files.values()})
    out = data / "code"
    with files.replaced_folder(out) as folder:
        for name in closure.commands():
            files.write(folder / f"{name}.txt", closure.listing(f"stages.{name}").encode())
        for section, names in named.items():
            lines = [f"{name}  {sources[name].sha256}\n" for name in names] or ["no plug-ins\n"]
            files.write(folder / f"plugins/{section}.txt", "".join(lines).encode())
    told = f", {counted(len(sources), 'plug-in')}" if sources else ""
    echo(f"wrote {out}: {len(closure.commands())} commands{told}")


def _sections(params: Params | None) -> Iterator[tuple[str, Any]]:
    """Every section that may name plug-ins, and every entry of one that has entries, such as teachers.a."""
    for section in _SECTIONS:
        value = params.values.get(section) if params else None
        yield section, value
        if isinstance(value, Mapping):
            yield from ((f"{section}.{key}", entry) for key, entry in value.items() if isinstance(entry, Mapping))


def _plugins(value: Any) -> Iterator[str]:
    """The plug-ins that are named in a section, in settings that hold specs."""
    from pipeline import spec

    for key, setting in value.items() if isinstance(value, Mapping) else ():
        if isinstance(setting, Mapping):
            yield from _plugins(setting)
        elif key in _SPECS and isinstance(setting, str):
            yield from spec.plugins_in(setting)


def _require_deps(paths: set[Path]) -> None:
    """Raise InputError where dvc.yaml does not let this stage depend on a file of a plug-in: DVC would not see it change.

    Files in site-packages are the affair of whoever installs them.
    """
    if not paths:
        return
    described = Params.read(Path("dvc.yaml"))
    stage = described.section("stages").get("code") or {}
    if stage.get("always_changed"):
        return
    deps = [Path(dep).resolve() for dep in stage.get("deps") or [] if isinstance(dep, str)]
    own = sorted(path.resolve() for path in paths if "site-packages" not in path.parts)
    missing = [path for path in own if not any(path.is_relative_to(dep) for dep in deps)]
    if missing:
        lines = " and ".join(f"`- {os.path.relpath(path)}`" for path in missing)
        raise InputError(
            "dvc.yaml, stage code, deps",
            expected="every file that a plug-in is made of",
            found=f"none that is, or holds, {os.path.relpath(missing[0])}",
            fix=f"Add {lines} there, so that DVC notices when it changes.",
        )
