"""The source of a plug-in: the part of its own file that it uses, and every user's file that it imports.

It is found by reading syntax trees; nothing is run. A user's file is one outside of Python's library, of site-packages and of
this project. If the plug-in itself belongs to an installed package, the files of that package count too.

A statement of the plug-in's file counts if the plug-in reaches it by name, or if it may do more than bind a name when the file
is imported. The calls that are known to do no more are listed here; any other call counts.
"""

import ast
import builtins
import functools
import importlib.machinery
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.base import files, syntax
from pipeline.base.errors import InputError, first_line

_ROOT = Path(__file__).resolve().parents[2]
_OWN = ("pipeline", "stages", "softcache_export.py")  # what is of this project
Bytes = Callable[[str, Path], bytes]  # the content of a module's file

_REFLECTING = {  # names that give access to every name of a file
    "globals", "locals", "vars", "eval", "exec", "__dict__", "__globals__", "f_globals", "modules", "__subclasses__",
    "get_type_hints",
}  # fmt: skip
_IMPORTING = {"__import__", "import_module", "run_module", "run_path", "spec_from_file_location", "SourceFileLoader"}
_QUIET = {  # calls and decorators that have no side effects
    *(f"dataclasses.{name}" for name in ("dataclass", "field")),
    *(f"functools.{name}" for name in ("cache", "cached_property", "lru_cache", "partial", "wraps")),
    *(f"torch.{name}" for name in ("device", "inference_mode", "no_grad")),
    *(f"typing.{name}" for name in ("NewType", "TypeVar", "cast", "overload")),
    *("abc.abstractmethod", "contextlib.contextmanager", "logging.getLogger", "math.*", "pathlib.Path", "re.compile"),
    "torch.nn.*",
}
_QUIET_BUILTINS = {
    "bool", "classmethod", "dict", "float", "frozenset", "int", "len", "list", "max", "min", "object", "property", "range",
    "set", "staticmethod", "str", "tuple",
}  # fmt: skip
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
_IMPORT = (ast.Import, ast.ImportFrom)


@dataclass(frozen=True)
class Source:
    """The source of a plug-in. sha256: of all its syntax trees. files: paths by module."""

    name: str
    sha256: str
    files: Mapping[str, Path]


def read(name: str, data: Bytes = lambda module, path: path.read_bytes()) -> Source:
    """The source of `package.module:attribute`. data: returns the content of a module's file.

    Raises InputError if a file is missing or is not valid Python, or for an import whose name is computed at run time.
    """
    module, attribute = name.split(":")
    if find(module) is None:
        raise InputError(f"spec {name}(…)", expected="a module in a file", found="none", fix="Correct the name, or install it.")
    pieces, held, imported = _gather(module, attribute, data)
    if module in imported:  # its importers may use any name in it
        pieces, held, _ = _gather(module, None, data)
    return Source(name, files.sha256(files.canonical_json(sorted(pieces.items()))), held)


def find(module: str) -> Path | None:
    """The file of a module, searched in the order of plugins.load; None if it has no file. No code is run."""
    found, folders = None, sys.path if os.getcwd() in sys.path else [os.getcwd(), *sys.path]
    for name in (*_packages(module), module):
        try:
            found = importlib.machinery.PathFinder.find_spec(name, folders)
        except (KeyError, ValueError):  # below a namespace whose parent is not imported
            return None
        if found is None:
            return None
        folders = list(found.submodule_search_locations or ())
    return Path(found.origin) if found is not None and found.has_location and found.origin else None


def package(module: str) -> str:
    """The package that a module is, or lies in; the name of a module outside of any package."""
    path = find(module)
    return module if path is None or path.name == "__init__.py" else module.rpartition(".")[0] or module


def is_users(path: Path, module: str, own: str) -> bool:
    """Whether a file is a user's file: outside of this project, and either in the package `own` or outside of all libraries."""
    path = path.resolve()
    if any(path.is_relative_to(_ROOT / name) for name in _OWN):
        return False
    if module == own or module.startswith(f"{own}."):
        return True
    return not _installed(path) and not any(path.is_relative_to(library) for library in _libraries())


def _installed(path: Path) -> bool:
    return bool({"site-packages", "dist-packages"} & set(path.parts))


@functools.cache
def _libraries() -> tuple[Path, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return tuple({Path(sysconfig.get_paths()[name]).resolve() for name in names})


# ---------------------------------------------------------------- files


def _gather(module: str, attribute: str | None, data: Bytes) -> tuple[dict[str, str], dict[str, Path], set[str]]:
    """Hash and path of every file that counts, by module, and all modules that they import.

    Of the module's own file only what `attribute` needs counts; all of it if `attribute` is None.
    """
    own, pending = package(module), [module]
    pieces: dict[str, str] = {}
    held: dict[str, Path] = {}
    imported: set[str] = set()
    while pending:
        other = pending.pop()
        if other in pieces or (path := find(other)) is None or not (other == module or is_users(path, other, own)):
            continue
        held[other], content = path, data(other, path)
        pending += _packages(other)
        if path.suffix != ".py":
            pieces[other] = files.sha256(content)
            continue
        try:
            tree = ast.parse(content)
            if other == module and attribute is not None:
                tree = ast.Module(_needed(tree, attribute, functools.partial(_names_library, module, path, own)), [])
            if not _installed(path):
                _require_readable(tree, path)
            names = set(_imports(tree, other, path))
            pieces[other] = syntax.tree_hash(tree)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            found = first_line(error) + (f", line {error.lineno}" if isinstance(error, SyntaxError) else "")
            raise InputError(str(path), expected="Python that parses", found=found, fix="Correct the file.") from error
        imported |= names
        pending += [each for name in names for each in (*_packages(name), name)]
    return pieces, held, imported


def _packages(module: str) -> list[str]:
    """The packages around a module, which are imported before it: a and a.b for a.b.c."""
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _imports(tree: ast.AST, module: str, path: Path) -> Iterator[str]:
    """Modules that a file imports, also inside functions, by statements and by calls such as import_module("json")."""
    around = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from (*_packages(alias.name), alias.name)
        elif isinstance(node, ast.ImportFrom):
            parents = around.split(".")[: len(around.split(".")) - node.level + 1] if node.level else []
            base = ".".join((*parents, *((node.module,) if node.module else ())))
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield base if alias.name == "*" or find(inner) is None else inner
        elif (name := _literal_import(node)) is not None:
            yield name


def _literal_import(node: ast.AST) -> str | None:
    """The module that a call such as import_module("json") imports; None for any other node."""
    if not isinstance(node, ast.Call) or _last(node.func) not in ("import_module", "__import__") or len(node.args) != 1:
        return None
    [argument] = node.args
    name = argument.value if isinstance(argument, ast.Constant) else None
    return name if isinstance(name, str) and not name.startswith(".") else None


def _require_readable(tree: ast.AST, path: Path) -> None:
    """Raise InputError for an import whose module the source does not show."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    literal = {id(call.func) for call in calls if _literal_import(call) is not None}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and _last(node) in _IMPORTING and id(node) not in literal:
            found = f"{_last(node)} of a name that is computed at run time"
            fix = "Write `import` and the name, so that edits of the imported file are noticed."
            raise InputError(f"{path}, line {node.lineno}", expected="imports that the source shows", found=found, fix=fix)


def _last(node: ast.AST) -> str | None:
    """The last name of a.b.c."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None


# ---------------------------------------------------------------- statements


def _names_library(module: str, path: Path, own: str, statement: ast.Import | ast.ImportFrom) -> bool:
    """Whether a statement imports from libraries only."""
    paths = {name: find(name) for name in _imports(statement, module, path)}
    return not any(found is not None and is_users(found, name, own) for name, found in paths.items())


def _needed(tree: ast.Module, attribute: str, of_library: Callable[[ast.stmt], bool]) -> list[ast.stmt]:
    """The statements of a file that `attribute` depends on: those that it reaches, and those that may have side effects."""
    statements = [statement for statement in tree.body if not _runs_as_a_script(statement)]
    if any(isinstance(node, ast.alias) and node.name in _REFLECTING for node in ast.walk(tree)):
        return statements
    file = _File(statements, of_library)
    pending = [index for index, statement in enumerate(statements) if file.acts(statement)]
    pending += file.bound.get(attribute, range(len(statements)))  # if no statement binds the name, any may make it
    needed: set[int] = set()
    while pending:
        if (index := pending.pop()) in needed:
            continue
        needed.add(index)
        names = {name for node in ast.walk(statements[index]) for name in _mentioned(node)}
        if names & _REFLECTING:
            return statements
        pending += [other for name in names for other in file.bound.get(name, ())]
    return [statements[index] for index in sorted(needed)]


def _mentioned(node: ast.AST) -> Iterable[str]:
    """The names that one node uses; of attributes only those in _REFLECTING."""
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Global):
        return node.names
    return {node.attr} & _REFLECTING if isinstance(node, ast.Attribute) else ()


class _File:
    """The names in a file. bound: for each name the indices of the statements that bind it."""

    def __init__(self, statements: list[ast.stmt], of_library: Callable[[ast.stmt], bool]):
        self._statements, self._of_library = statements, of_library
        self.bound: dict[str, list[int]] = {}
        for index, statement in enumerate(statements):
            for name in _bound(statement):
                self.bound.setdefault(name, []).append(index)
        self._libraries: dict[str, str] = {}  # full names of what libraries' imports bind, such as nn: torch.nn
        for statement in statements:
            if isinstance(statement, _IMPORT) and of_library(statement):
                self._libraries |= {name: full for name, full in _stand_for(statement) if len(self.bound[name]) == 1}

    def acts(self, statement: ast.stmt) -> bool:
        """Whether a statement may do more than bind names when the file is imported."""
        if isinstance(statement, _IMPORT):
            return any(alias.name == "*" for alias in statement.names) or not self._of_library(statement)
        if isinstance(statement, _FUNCTION):
            now = [argument.annotation for argument in ast.walk(statement.args) if isinstance(argument, ast.arg)]
            now += [*statement.args.defaults, *statement.args.kw_defaults, statement.returns]
            return not all(map(self._is_quiet, now)) or not all(map(self._decorates_quietly, statement.decorator_list))
        if isinstance(statement, ast.ClassDef):
            quiet = all(map(self._is_base, statement.bases)) and all(map(self._decorates_quietly, statement.decorator_list))
            return bool(statement.keywords) or not quiet or any(map(self.acts, statement.body))
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            values = (statement.value, getattr(statement, "annotation", None))
            return not all(isinstance(target, ast.Name) for target in targets) or not all(map(self._is_quiet, values))
        if isinstance(statement, ast.If):
            return not self._is_operand(statement.test) or any(map(self.acts, (*statement.body, *statement.orelse)))
        if isinstance(statement, ast.Try):
            handled = [inner for handler in statement.handlers for inner in handler.body]
            return any(map(self.acts, (*statement.body, *handled, *statement.orelse, *statement.finalbody)))
        is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        return not (is_text or isinstance(statement, ast.Pass))

    def _is_quiet(self, node: ast.AST | None) -> bool:
        """Whether an expression has no side effects."""
        if node is None or isinstance(node, ast.Name):
            return True
        if isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict):
            return all(self._is_quiet(inner) for inner in ast.iter_child_nodes(node) if isinstance(inner, ast.expr))
        if isinstance(node, ast.Lambda):
            return all(map(self._is_quiet, (*node.args.defaults, *node.args.kw_defaults)))
        return self._is_operand(node)

    def _is_operand(self, node: ast.AST, within: frozenset[str] = frozenset()) -> bool:
        """Whether an expression and operators on its value have no side effects. within: names that are being checked."""
        if isinstance(node, ast.Name):
            if self._full_name(node) is not None:
                return True
            indices = self.bound.get(node.id)
            if not indices or node.id in within:
                return False
            return all(self._binds_operand(self._statements[index], within | {node.id}) for index in indices)
        if isinstance(node, ast.Attribute):
            return self._full_name(node) is not None
        if isinstance(node, ast.Call):
            arguments = (*node.args, *(keyword.value for keyword in node.keywords))
            return self._is_known(node.func) and all(self._is_operand(argument, within) for argument in arguments)
        combined = ast.BinOp | ast.UnaryOp | ast.BoolOp | ast.Compare | ast.IfExp | ast.Subscript | ast.JoinedStr
        if isinstance(node, combined | ast.FormattedValue | ast.Slice | ast.Tuple | ast.List | ast.Set | ast.Dict):
            inner = [each for each in ast.iter_child_nodes(node) if isinstance(each, ast.expr)]
            return all(self._is_operand(each, within) for each in inner)
        return isinstance(node, ast.Constant)

    def _binds_operand(self, statement: ast.stmt, within: frozenset[str]) -> bool:
        if isinstance(statement, ast.Assign):
            return self._is_operand(statement.value, within)
        return isinstance(statement, (*_FUNCTION, ast.ClassDef))

    def _is_base(self, node: ast.expr) -> bool:
        """Whether a base class, such as Generic[T], comes from a library; deriving from it then has no side effects."""
        return self._full_name(node.value if isinstance(node, ast.Subscript) else node) is not None

    def _decorates_quietly(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Attribute) and node.attr in ("setter", "deleter") and isinstance(node.value, ast.Name):
            return True  # @name.setter of a property
        return self._is_operand(node) if isinstance(node, ast.Call) else self._is_known(node)

    def _is_known(self, function: ast.expr) -> bool:
        """Whether a function is listed above as free of side effects."""
        full = self._full_name(function) or ""
        return full in _QUIET or f"{full.rpartition('.')[0]}.*" in _QUIET or full.removeprefix("builtins.") in _QUIET_BUILTINS

    def _full_name(self, node: ast.AST) -> str | None:
        """The full name of a.b.c, such as torch.nn.ReLU, if a comes from a library or from Python; else None."""
        if isinstance(node, ast.Attribute):
            before = self._full_name(node.value)
            return None if before is None else f"{before}.{node.attr}"
        if not isinstance(node, ast.Name):
            return None
        if node.id in self._libraries:
            return self._libraries[node.id]
        return f"builtins.{node.id}" if node.id not in self.bound and hasattr(builtins, node.id) else None


def _stand_for(statement: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
    """Each name that an import binds, with its full name."""
    for alias in statement.names:
        if isinstance(statement, ast.ImportFrom):
            yield alias.asname or alias.name, f"{statement.module}.{alias.name}"
        else:
            first = alias.name.partition(".")[0]
            yield (alias.asname, alias.name) if alias.asname else (first, first)


def _bound(statement: ast.AST) -> set[str]:
    """The names that a statement binds."""
    if isinstance(statement, (ast.ClassDef, *_FUNCTION)):
        return {statement.name}
    if isinstance(statement, _IMPORT):
        return {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
    found = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    inner = [node for node in ast.walk(statement) if isinstance(node, (ast.ClassDef, *_FUNCTION, *_IMPORT))]
    return found.union(*(_bound(node) for node in inner))


def _runs_as_a_script(statement: ast.stmt) -> bool:
    """Whether a statement is `if __name__ == "__main__":`, which an import does not run."""
    return isinstance(statement, ast.If) and ast.unparse(statement.test) == "__name__ == '__main__'" and not statement.orelse
