"""Plug-ins: a user's own functions and classes, such as `my_nets:build`: import them, call them, hash their source.

An import runs code, so it is refused unless SOFTCACHE_PLUGINS names the module. The hashed bytes are the bytes that run.
"""

import importlib
import importlib.machinery
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Container, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType
from typing import Any, ClassVar

from pipeline.base import source
from pipeline.base.errors import InputError, SoftcacheError, first_line
from pipeline.base.files import Witness
from pipeline.base.source import Source

ALLOWED = "SOFTCACHE_PLUGINS"


def allowed() -> list[str]:
    """The modules and packages that the user allows to run."""
    return [prefix.strip() for prefix in os.environ.get(ALLOWED, "").split(",") if prefix.strip()]


def load(name: str) -> tuple[Callable[..., Any], Source]:
    """Import `package.module:attribute` and return it with its source. The working folder is searched, as by `python -m`.

    Raises InputError if it is not allowed, missing, not a callable in a file, or fails on import.
    """
    what, (module_name, attribute) = f"spec {name}(…)", name.split(":")
    prefixes = allowed()
    if not any(module_name == prefix or module_name.startswith(f"{prefix}.") for prefix in prefixes):
        raise InputError(
            what,
            expected=f"a plug-in module that {ALLOWED} allows",
            found=f"{ALLOWED}={','.join(prefixes)!r}",
            fix=f"Importing runs its code: if you trust it, set {ALLOWED}={','.join((*prefixes, module_name))}.",
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    _Finder.install(source.package(module_name))
    importlib.invalidate_caches()
    before = len(_Finder.imports)
    try:
        target = getattr(importlib.import_module(module_name), attribute)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        line, told = _line(error), first_line(error)
        if line is not None and isinstance(error, ImportError):
            expected, fix = "a module that can be imported", "Correct it, or install what it imports."
            raise InputError(what, expected=expected, found=f"{told}, at {line}", fix=fix) from error
        if line is None and isinstance(error, ImportError):
            raise InputError(what, expected="a module", found=told, fix="Correct the name, or install it.") from error
        if line is None and isinstance(error, AttributeError):
            raise InputError(what, expected="a name in the module", found=told, fix="Correct the name.") from error
        raise failure(what, error) from error
    if not callable(target):
        raise InputError(what, expected="a callable", found=type(target).__name__, fix="Name a function or class.")
    found = source.read(name, _Finder.ran)
    _Finder.followed |= set(found.files)
    _require_followed(found, before, found.files)
    return target, found


def witness(found: Source) -> Witness:
    """The witness of a plug-in's source. It also raises InputError if the plug-in has imported a file that is not bound."""

    def now() -> str:
        _require_followed(found, 0, _Finder.followed)
        return source.read(found.name).sha256

    return Witness(f"plug-in {found.name}", found.sha256, now)


def call(found: Source, what: str, target: Callable[..., Any], *given: Any, **settings: Any) -> Any:
    """Call a plug-in. Raises InputError for anything it raises, and if it imports a file that its source does not name."""
    before = len(_Finder.imports)
    try:
        result = target(*given, **settings)
    except (SoftcacheError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise failure(f"plug-in {what}", error) from error
    _require_followed(found, before, found.files)
    return result


def _require_followed(found: Source, before: int, followed: Container[str]) -> None:
    """Raise InputError if a user's file, imported after the first `before`, is not in `followed`, or has another path."""
    for module in _Finder.imports[before:]:
        path = _Finder.loaded[module][0]
        if module not in followed:
            told = f"an import of {module} that the source does not show"
            fix = f"Write `import {module}` into the plug-in, so that edits of it are noticed."
        elif found.files.get(module, path) != path:
            told = f"{module}, and another file of that name, {found.files[module]}"
            fix = "Rename one of them."
        else:
            continue
        for other in (module, found.name.partition(":")[0]):  # so that another try imports them again
            sys.modules.pop(other, None)
        del _Finder.imports[before:]
        raise InputError(f"plug-in {found.name}, {path}", expected="imports that the source shows", found=told, fix=fix)


def failure(what: str, error: BaseException) -> InputError:
    """The InputError for an exception that a plug-in raised."""
    return InputError(what, expected="a plug-in that runs", found=reason(error), fix="Correct the plug-in.")


def reason(error: BaseException) -> str:
    """What was raised, and in which line of a user's file, if in any."""
    line = _line(error)
    return f"{type(error).__name__}: {first_line(error)}" + (f", at {line}" if line else "")


def blamed(error: BaseException) -> InputError | None:
    """The InputError for an exception that was raised in a user's file, wherever it was called; None for any other."""
    return None if isinstance(error, SoftcacheError) or _line(error) is None else failure("plug-in", error)


def _line(error: BaseException) -> str | None:
    """File and line of the innermost frame in a user's file; a syntax error names its own line."""
    paths = {str(path) for path, _ in _Finder.loaded.values()}
    if isinstance(error, SyntaxError) and error.filename in paths:
        return f"{error.filename}, line {error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in paths]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else None


# ---------------------------------------------------------------- import of the hashed bytes


class _Finder:
    """Imports users' files from their source, never from stale bytecode, and remembers the bytes that ran.

    loaded: file and bytes of each module. imports: modules in order of import. followed: modules that some plug-in's hash
    covers. packages: the plug-ins' packages, whose files are users' files wherever they lie.
    """

    loaded: ClassVar[dict[str, tuple[Path, bytes]]] = {}
    imports: ClassVar[list[str]] = []
    followed: ClassVar[set[str]] = set()
    packages: ClassVar[set[str]] = set()

    @classmethod
    def install(cls, package: str) -> None:
        """Search before Python's own finders, and count the files of this package as users' files."""
        cls.packages.add(package)
        if cls not in sys.meta_path:
            sys.meta_path.insert(0, cls)

    @classmethod
    def find_spec(cls, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """For a user's file Python's own spec with another loader; None, for any other, leaves it to Python."""
        found = importlib.machinery.PathFinder.find_spec(name, path)
        if found is None or found.origin is None or type(found.loader) is not importlib.machinery.SourceFileLoader:
            return None
        if not any(source.is_users(Path(found.origin), name, package) for package in cls.packages):
            return None
        return importlib.util.spec_from_file_location(
            name, found.origin, loader=_Loader(name, found.origin), submodule_search_locations=found.submodule_search_locations
        )

    @classmethod
    def ran(cls, module: str, path: Path) -> bytes:
        """The bytes of a module's file: those that ran, if it was imported."""
        loaded = cls.loaded.get(module)
        return loaded[1] if loaded is not None and loaded[0] == path else path.read_bytes()


class _Loader(importlib.machinery.SourceFileLoader):
    """Remembers the bytes that it compiles."""

    def get_code(self, fullname: str) -> CodeType:
        data = self.get_data(self.path)
        _Finder.loaded[fullname] = (Path(self.path), data)
        _Finder.imports.append(fullname)
        return self.source_to_code(data, self.path)
