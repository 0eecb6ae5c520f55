"""Plug-ins: functions and classes of the user's own, such as `my_nets:build`, imported, called, and bound by their source.

Importing runs code, and is therefore refused unless SOFTCACHE_PLUGINS names the module. The bytes that are hashed are the
bytes that run.
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
    """The modules and packages whose code the user allows to run."""
    return [prefix.strip() for prefix in os.environ.get(ALLOWED, "").split(",") if prefix.strip()]


def load(name: str) -> tuple[Callable[..., Any], Source]:
    """Import `package.module:attribute`, and return it with its source.

    The folder that the command runs in counts as a place to import from, as with `python -m`. Raises InputError for what is
    not allowed, not there, not a callable in a file, or fails, BusyError for a file that changes meanwhile.
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
    except ImportError as error:
        if (place := _place(error)) is not None:
            raise InputError(what, expected="a module that can be imported", found=f"{first_line(error)}, at {place}",
                             fix="Correct it, or install what it wants.") from error  # fmt: skip
        raise InputError(what, expected="a module", found=first_line(error), fix="Correct the name, or install it.") from error
    except AttributeError as error:
        if (place := _place(error)) is not None:
            raise failure(what, error) from error
        raise InputError(what, expected="a name in the module", found=first_line(error), fix="Correct the name.") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise failure(what, error) from error
    if not callable(target):
        raise InputError(what, expected="a callable", found=type(target).__name__, fix="Name a function or class.")
    found = source.read(name, _Finder.ran)
    _Finder.followed |= set(found.files)
    _require_followed(found, before, found.files)
    return target, found


def witness(found: Source) -> Witness:
    """Tells later whether a new import of a plug-in would give the same, and whether it has imported what no reading finds."""

    def now() -> str:
        _require_followed(found, 0, _Finder.followed)
        return source.read(found.name).sha256

    return Witness(f"plug-in {found.name}", found.sha256, now)


def call(found: Source, what: str, target: Callable[..., Any], *given: Any, **settings: Any) -> Any:
    """Call a plug-in. Raises InputError for whatever it raises, and for an import that its source does not tell of."""
    before = len(_Finder.imports)
    try:
        result = target(*given, **settings)
    except SoftcacheError:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise failure(f"plug-in {what}", error) from error
    _require_followed(found, before, found.files)
    return result


def _require_followed(found: Source, before: int, followed: Container[str]) -> None:
    """Raise InputError for a file of the user's, imported since there were `before`, that was not followed, or elsewhere."""
    for module in _Finder.imports[before:]:
        path = _Finder.loaded[module][0]
        if module not in followed:
            told = f"{module}, in a way that no reading finds"
            fix = f"Write `import {module}` into the plug-in, so that edits of it are noticed."
        elif found.files.get(module, path) != path:
            told = f"{module}, and another one in {found.files[module]}"
            fix = "Rename one of them."
        else:
            continue
        for other in (module, found.name.partition(":")[0]):  # so that another try imports them again
            sys.modules.pop(other, None)
        del _Finder.imports[before:]
        raise InputError(f"plug-in {found.name}, {path}", expected="imports that can be read", found=told, fix=fix)


def failure(what: str, error: BaseException) -> InputError:
    """What an exception out of a plug-in is to its user: what was raised, in which file and line."""
    return InputError(what, expected="a plug-in that runs", found=reason(error), fix="Correct the plug-in.")


def reason(error: BaseException) -> str:
    """What was raised, and in which file and line of the user's, if in any."""
    place = _place(error)
    return f"{type(error).__name__}: {first_line(error)}" + (f", at {place}" if place else "")


def blamed(error: BaseException) -> InputError | None:
    """The same where an exception comes out of a file of the user's, wherever that was called; else None."""
    return None if isinstance(error, SoftcacheError) or _place(error) is None else failure("plug-in", error)


def _place(error: BaseException) -> str | None:
    """File and line of the innermost frame in a file of the user's; that of a syntax error is the error's own."""
    paths = {str(path) for path, _ in _Finder.loaded.values()}
    if isinstance(error, SyntaxError) and error.filename in paths:
        return f"{error.filename}, line {error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in paths]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else None


# ---------------------------------------------------------------- importing what is hashed


class _Finder:
    """Imports files of the user's from their source alone: what is hashed is what runs, and no stale bytecode.

    loaded: by module, the file and its bytes, as they ran. imports: the modules in the order of their imports. followed: the
    modules that plug-ins are bound to. packages: those of plug-ins, whose files are the user's wherever they lie.
    """

    loaded: ClassVar[dict[str, tuple[Path, bytes]]] = {}
    imports: ClassVar[list[str]] = []
    followed: ClassVar[set[str]] = set()
    packages: ClassVar[set[str]] = set()

    @classmethod
    def install(cls, package: str) -> None:
        """Be asked before Python's own finders, and take this package for the user's."""
        cls.packages.add(package)
        if cls not in sys.meta_path:
            sys.meta_path.insert(0, cls)

    @classmethod
    def find_spec(cls, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """Python's own spec with another loader, for files of the user's; None leaves all others to Python."""
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
        """The bytes of a module's file, those that ran if it did."""
        loaded = cls.loaded.get(module)
        return loaded[1] if loaded is not None and loaded[0] == path else path.read_bytes()


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles the bytes that it hashes."""

    def get_code(self, fullname: str) -> CodeType:
        data = self.get_data(self.path)
        _Finder.loaded[fullname] = (Path(self.path), data)
        _Finder.imports.append(fullname)
        return self.source_to_code(data, self.path)
