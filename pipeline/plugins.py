"""Plug-ins: functions and classes of the user's own, such as `my_nets:build`, bound by the source that they are made of.

A plug-in is bound by what it names in its file, by what that needs of the file, and by every file of the user's that is
imported on the way: an edited helper makes another plug-in, a comment, a docstring or a function beside it does not. Files
of the user's are those of packages that SOFTCACHE_PLUGINS allows, and all that lie neither in Python's library, nor in
site-packages, nor in this project. They are found by reading, so what is imported by a name made at run time is refused.
"""

import ast
import functools
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any, ClassVar

from pipeline import closure, files
from pipeline.errors import InputError, SoftcacheError, first_line
from pipeline.files import Witness

ALLOWED = "SOFTCACHE_PLUGINS"
_REFLECTING = {"globals", "vars", "eval", "exec", "__import__", "import_module", "modules", "__dict__"}  # reach any name


@dataclass(frozen=True)
class Source:
    """What a plug-in is made of. sha256: of the syntax trees of it all. files: by module."""

    name: str
    sha256: str
    files: dict[str, Path]

    @property
    def witness(self) -> Witness:
        """Tells later whether a new import would give the same."""
        return Witness(f"plug-in {self.name}", self.sha256, lambda: source(self.name).sha256)


def allowed() -> list[str]:
    """The modules and packages whose code the user allows to run."""
    return [prefix.strip() for prefix in os.environ.get(ALLOWED, "").split(",") if prefix.strip()]


def load(name: str) -> tuple[Callable, Source]:
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
            fix=f"Importing runs its code: if you trust it, set {ALLOWED}={module_name}.",
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    _Finder.install()
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
    except (Exception, SystemExit) as error:
        raise failure(what, error) from error
    if not callable(target):
        raise InputError(what, expected="a callable", found=type(target).__name__, fix="Name a function or class.")
    found = source(name, running=True)
    _require_followed(found, before)
    return target, found


def call(source: Source, what: str, target: Callable, *given: Any, **settings: Any) -> Any:
    """Call a plug-in. Raises InputError for whatever it raises, and for an import that its source does not tell of."""
    before = len(_Finder.imports)
    try:
        result = target(*given, **settings)
    except SoftcacheError:
        raise
    except (Exception, SystemExit) as error:
        raise failure(f"plug-in {what}", error) from error
    if len(_Finder.imports) > before:
        _require_followed(source, before)
    return result


def _require_followed(source: Source, before: int) -> None:
    """Raise InputError for a file of the user's, imported since there were `before`, in a way that no reading finds."""
    for module in _Finder.imports[before:]:
        if module not in source.files:
            path, _ = _Finder.loaded.pop(module)
            sys.modules.pop(module, None)
            found = f"{module}, by a name made at run time"
            fix = f"Write `import {module}` into the plug-in, so that edits of it are noticed."
            raise InputError(f"plug-in {source.name}, {path}", expected="imports that can be read", found=found, fix=fix)


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

    loaded: by module, the file and its bytes, as they ran. imports: the modules in the order of their imports.
    """

    loaded: ClassVar[dict[str, tuple[Path, bytes]]] = {}
    imports: ClassVar[list[str]] = []

    @classmethod
    def install(cls) -> None:
        """Be asked before Python's own finders."""
        if cls not in sys.meta_path:
            sys.meta_path.insert(0, cls)

    @classmethod
    def find_spec(cls, name: str, path: Iterable[str] | None = None, target: object = None):
        """Python's own spec with another loader, for files of the user's; None leaves all others to Python."""
        found = importlib.machinery.PathFinder.find_spec(name, path)
        if found is None or type(found.loader) is not importlib.machinery.SourceFileLoader:
            return None
        if not _is_users(Path(found.origin), name):
            return None
        return importlib.util.spec_from_file_location(
            name, found.origin, loader=_Loader(name, found.origin), submodule_search_locations=found.submodule_search_locations
        )


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles the bytes that it hashes."""

    def get_code(self, fullname: str) -> CodeType:
        data = self.get_data(self.path)
        _Finder.loaded[fullname] = (Path(self.path), data)
        _Finder.imports.append(fullname)
        return self.source_to_code(data, self.path)


# ---------------------------------------------------------------- the source of a plug-in


def source(name: str, *, running: bool = False) -> Source:
    """The source of `package.module:attribute`, read and not run; with `running`, of what was imported, as it was then.

    Raises InputError where a file is missing or no Python.
    """
    module, attribute = name.split(":")
    path = _file(module)
    if path is None:
        raise InputError(f"spec {name}(…)", expected="a module in a file", found="none", fix="Correct the name, or install it.")
    tree, data = _read(module, path, running)
    held = {module: path}
    if tree is None:
        return Source(name, files.sha256(data), held)
    needed = ast.Module(_needed(tree, attribute, _users_names(tree, module, path)), [])
    pending = [*_packages(module), *_imports(needed, module, path)]
    pieces = {name: closure.tree_hash(needed)}
    while pending:
        other = pending.pop()
        if other in pieces or (found := _file(other)) is None or not _is_users(found, other):
            continue
        tree, data = _read(other, found, running)
        held[other] = found
        if tree is None:
            pieces[other] = files.sha256(data)
            continue
        pending += [*_packages(other), *_imports(tree, other, found)]
        pieces[other] = closure.tree_hash(tree)
    return Source(name, files.sha256(files.canonical_json(sorted(pieces.items()))), held)


def _read(module: str, path: Path, running: bool) -> tuple[ast.Module | None, bytes]:
    """The syntax tree of a file, None where it is no Python source, and its bytes."""
    ran = _Finder.loaded.get(module) if running else None
    data = ran[1] if ran is not None and ran[0] == path else path.read_bytes()
    if path.suffix != ".py":
        return None, data
    try:
        return ast.parse(data), data
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        found = f"{first_line(error)}{line}"
        raise InputError(str(path), expected="Python that parses", found=found, fix="Correct the file.") from error


def _file(module: str) -> Path | None:
    """Where a module lies, found without running any code; None where it is in no file."""
    found = None
    places = list(dict.fromkeys((os.getcwd(), *sys.path)))
    for name in (*_packages(module), module):
        try:
            found = importlib.machinery.PathFinder.find_spec(name, places)
        except (KeyError, ValueError):  # below a namespace whose parent is not imported
            return None
        if found is None:
            return None
        places = list(found.submodule_search_locations or ())
    return Path(found.origin) if found is not None and found.has_location and found.origin else None


def _packages(module: str) -> list[str]:
    """The packages around a module, which are imported before it: of a.b.c those are a and a.b."""
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


@functools.cache
def _libraries() -> tuple[Path, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return tuple({Path(sysconfig.get_paths()[name]).resolve() for name in names})


def _is_users(path: Path, module: str) -> bool:
    """Whether a file is the user's own: of an allowed package, or in no library and not in this project."""
    path = path.resolve()
    if any(path.is_relative_to(closure.ROOT / package) for package in closure.PACKAGES):
        return False
    if any(module == prefix or module.startswith(f"{prefix}.") for prefix in allowed()):
        return True
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    return not installed and not any(path.is_relative_to(library) for library in _libraries())


def _imports(tree: ast.AST, module: str, path: Path) -> Iterator[str]:
    """Modules that may be what a file imports, inside functions too; `from a import b` may mean module a.b."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from (*_packages(alias.name), alias.name)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join((*parents, *((node.module,) if node.module else ())))
            yield from (*_packages(base), base, *(f"{base}.{alias.name}" for alias in node.names if alias.name != "*"))


def _users_names(tree: ast.Module, module: str, path: Path) -> set[str]:
    """Names of functions and classes that are the user's: of this file, or imported from another one."""

    def is_users(statement: ast.stmt) -> bool:
        if not isinstance(statement, ast.Import | ast.ImportFrom):
            return True
        return any((found := _file(name)) and _is_users(found, name) for name in _imports(statement, module, path))

    defining = [statement for statement in tree.body if isinstance(statement, _DEFINING) and is_users(statement)]
    return set().union(*(_bound(statement) for statement in defining))


def _needed(tree: ast.Module, attribute: str, own: set[str]) -> list[ast.stmt]:
    """The statements of a file that decide what `attribute` is and does: those it reaches, and those that may act on others.

    own: names of the user's functions and classes.
    """
    statements = [statement for statement in tree.body if not _runs_as_a_script(statement)]
    bound: dict[str, list[int]] = {}
    for place, statement in enumerate(statements):
        for name in _bound(statement):
            bound.setdefault(name, []).append(place)
    pending = [place for place, statement in enumerate(statements) if _acts(statement, own)]
    pending += bound.get(attribute, range(len(statements)))  # a name that no statement binds: all may make it
    needed: set[int] = set()
    while pending:
        if (place := pending.pop()) in needed:
            continue
        needed.add(place)
        names = {node.id for node in ast.walk(statements[place]) if isinstance(node, ast.Name)}
        names |= {node.attr for node in ast.walk(statements[place]) if isinstance(node, ast.Attribute)} & _REFLECTING
        names |= {name for node in ast.walk(statements[place]) if isinstance(node, ast.Global) for name in node.names}
        if names & _REFLECTING:
            return statements
        pending += [other for name in names for other in bound.get(name, ())]
    return [statements[place] for place in sorted(needed)]


_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINING = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.Import, ast.ImportFrom)


def _bound(statement: ast.stmt) -> set[str]:
    """Names that a statement of a file binds."""
    if isinstance(statement, (ast.ClassDef, *_FUNCTION)):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
    found = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    inner = [node for node in ast.walk(statement) if isinstance(node, _DEFINING)]
    return found.union(*(_bound(node) for node in inner))


def _acts(statement: ast.stmt, own: set[str]) -> bool:
    """Whether a statement may do more than bind a name, when the file is imported."""
    if isinstance(statement, ast.ImportFrom):
        return any(alias.name == "*" for alias in statement.names)
    if isinstance(statement, ast.Import):
        return False
    if isinstance(statement, _FUNCTION):
        return bool(statement.decorator_list) or _calls([*statement.args.defaults, *statement.args.kw_defaults])
    if isinstance(statement, ast.ClassDef):
        inherits = any(isinstance(node, ast.Name) and node.id in own for base in statement.bases for node in ast.walk(base))
        if inherits or statement.decorator_list or statement.keywords:
            return True
        methods = [inner for inner in statement.body if isinstance(inner, _FUNCTION)]
        others = [inner for inner in statement.body if not isinstance(inner, _FUNCTION)]
        now = [[*method.decorator_list, *method.args.defaults, *method.args.kw_defaults] for method in methods]
        return _calls(others) or any(map(_calls, now))
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        plain = all(isinstance(node, ast.Name | ast.Tuple | ast.List | ast.Starred | ast.expr_context)
                    for target in targets for node in ast.walk(target))  # fmt: skip
        return not plain or _calls([statement.value])
    return not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))


def _calls(nodes: Iterable[ast.AST | None]) -> bool:
    return any(isinstance(node, ast.Call | ast.Await) for tree in nodes if tree is not None for node in ast.walk(tree))


def _runs_as_a_script(statement: ast.stmt) -> bool:
    """`if __name__ == "__main__":` is not run by an import."""
    return isinstance(statement, ast.If) and ast.unparse(statement.test) == "__name__ == '__main__'" and not statement.orelse
