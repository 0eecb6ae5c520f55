"""The source of a plug-in: of its own file what it needs, and every file of the user's that is imported on the way.

All of it is found by reading; nothing is run. Files of the user's are those that lie neither in Python's library, nor in
site-packages, nor in this project; of an installed package that is a plug-in itself, those of that package.

A statement of the plug-in's file counts if the plug-in reaches it by name, or if it may do more than bind a name when the file
is imported. What is known to do no more is listed here; whatever is not known counts.
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
_OWN = ("pipeline", "stages")  # packages of this project
Bytes = Callable[[str, Path], bytes]  # what is in the file of a module

_REFLECTING = {  # reach any name of a file, whatever it is called there
    "globals", "locals", "vars", "eval", "exec", "__dict__", "__globals__", "f_globals", "modules", "__subclasses__",
    "get_type_hints",
}  # fmt: skip
_IMPORTING = {"__import__", "import_module", "run_module", "run_path", "spec_from_file_location", "SourceFileLoader"}
_QUIET = {  # what changes nothing when it is called, or decorates
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
    """What a plug-in is made of. sha256: of the syntax trees of it all. files: by module."""

    name: str
    sha256: str
    files: Mapping[str, Path]


def read(name: str, data: Bytes = lambda module, path: path.read_bytes()) -> Source:
    """The source of `package.module:attribute`. data: what is in a file, where that is not to be read anew.

    Raises InputError where a file is missing or no Python, and for an import by a name that is made at run time.
    """
    module, attribute = name.split(":")
    if find(module) is None:
        raise InputError(f"spec {name}(…)", expected="a module in a file", found="none", fix="Correct the name, or install it.")
    pieces, held, imported = _gather(module, attribute, data)
    if module in imported:  # whoever imports it may use any name of it
        pieces, held, _ = _gather(module, None, data)
    return Source(name, files.sha256(files.canonical_json(sorted(pieces.items()))), held)


def find(module: str) -> Path | None:
    """Where a module lies, in the order in which plugins.load searches; None where it is in no file. No code is run."""
    found, places = None, [os.getcwd(), *sys.path] if os.getcwd() not in sys.path else sys.path
    for name in (*_packages(module), module):
        try:
            found = importlib.machinery.PathFinder.find_spec(name, places)
        except (KeyError, ValueError):  # below a namespace whose parent is not imported
            return None
        if found is None:
            return None
        places = list(found.submodule_search_locations or ())
    return Path(found.origin) if found is not None and found.has_location and found.origin else None


def package(module: str) -> str:
    """The package whose files count, where a plug-in is of an installed one: the one that the module is, or is in."""
    path = find(module)
    return module if path is None or path.name == "__init__.py" else module.rpartition(".")[0] or module


def is_users(path: Path, module: str, own: str) -> bool:
    """Whether a file is the user's: of the package `own`, or in no library and not in this project."""
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

    Of the file of `module` what `attribute` needs counts, all of it where that is None.
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
            line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
            found = f"{first_line(error)}{line}"
            raise InputError(str(path), expected="Python that parses", found=found, fix="Correct the file.") from error
        imported |= names
        pending += [each for name in names for each in (*_packages(name), name)]
    return pieces, held, imported


def _packages(module: str) -> list[str]:
    """The packages around a module, which are imported before it: of a.b.c those are a and a.b."""
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _imports(tree: ast.AST, module: str, path: Path) -> Iterator[str]:
    """Modules that a file names in its imports, inside functions too, and in calls of import_module."""
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
    """The module of a call such as import_module("json"); None of any other."""
    if not isinstance(node, ast.Call) or _last(node.func) not in ("import_module", "__import__") or len(node.args) != 1:
        return None
    [argument] = node.args
    name = argument.value if isinstance(argument, ast.Constant) else None
    return name if isinstance(name, str) and not name.startswith(".") else None


def _require_readable(tree: ast.AST, path: Path) -> None:
    """Raise InputError for an import that cannot be followed by reading."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    literal = {id(call.func) for call in calls if _literal_import(call) is not None}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and _last(node) in _IMPORTING and id(node) not in literal:
            raise InputError(
                f"{path}, line {node.lineno}",
                expected="imports that can be read",
                found=f"{_last(node)}, of what is made up at run time",
                fix="Write `import` and the name, so that edits of what is imported are noticed.",
            )


def _last(node: ast.AST) -> str | None:
    """The last name of a.b.c."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None


# ---------------------------------------------------------------- statements


def _names_library(module: str, path: Path, own: str, statement: ast.Import | ast.ImportFrom) -> bool:
    """Whether an import is of nothing but libraries."""
    paths = {name: find(name) for name in _imports(statement, module, path)}
    return not any(found is not None and is_users(found, name, own) for name, found in paths.items())


def _needed(tree: ast.Module, attribute: str, of_library: Callable[[ast.stmt], bool]) -> list[ast.stmt]:
    """The statements of a file that decide what `attribute` is and does: those it reaches, and those that may act on others."""
    statements = [statement for statement in tree.body if not _runs_as_a_script(statement)]
    if any(isinstance(node, ast.alias) and node.name in _REFLECTING for node in ast.walk(tree)):
        return statements
    file = _File(statements, of_library)
    pending = [place for place, statement in enumerate(statements) if file.acts(statement)]
    pending += file.bound.get(attribute, range(len(statements)))  # a name that no statement binds: all may make it
    needed: set[int] = set()
    while pending:
        if (place := pending.pop()) in needed:
            continue
        needed.add(place)
        names = {name for node in ast.walk(statements[place]) for name in _mentioned(node)}
        if names & _REFLECTING:
            return statements
        pending += [other for name in names for other in file.bound.get(name, ())]
    return [statements[place] for place in sorted(needed)]


def _mentioned(node: ast.AST) -> Iterable[str]:
    """The names that one node reaches, of attributes those that reflect."""
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Global):
        return node.names
    return {node.attr} & _REFLECTING if isinstance(node, ast.Attribute) else ()


class _File:
    """What is known of the names of a file. bound: the places of the statements that bind each."""

    def __init__(self, statements: list[ast.stmt], of_library: Callable[[ast.stmt], bool]):
        self._statements, self._of_library = statements, of_library
        self.bound: dict[str, list[int]] = {}
        for place, statement in enumerate(statements):
            for name in _bound(statement):
                self.bound.setdefault(name, []).append(place)
        self._libraries: dict[str, str] = {}  # what each name stands for that a library's import binds, such as nn: torch.nn
        for statement in statements:
            if isinstance(statement, _IMPORT) and of_library(statement):
                self._libraries |= {name: full for name, full in _stand_for(statement) if len(self.bound[name]) == 1}

    def acts(self, statement: ast.stmt) -> bool:
        """Whether a statement may do more than bind names, when the file is imported."""
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
        """Whether an expression does nothing but to have a value."""
        if node is None or isinstance(node, ast.Name):
            return True
        if isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict):
            return all(self._is_quiet(inner) for inner in ast.iter_child_nodes(node) if isinstance(inner, ast.expr))
        if isinstance(node, ast.Lambda):
            return all(map(self._is_quiet, (*node.args.defaults, *node.args.kw_defaults)))
        return self._is_operand(node)

    def _is_operand(self, node: ast.AST, within: frozenset[str] = frozenset()) -> bool:
        """Whether an expression does nothing, and no operator on its value is the user's. within: names in question."""
        if isinstance(node, ast.Name):
            if self._full_name(node) is not None:
                return True
            places = self.bound.get(node.id)
            if not places or node.id in within:
                return False
            return all(self._binds_operand(self._statements[place], within | {node.id}) for place in places)
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
        """Whether a base of a class is of a library, such as Generic[T], and takes no notice of what is derived from it."""
        return self._full_name(node.value if isinstance(node, ast.Subscript) else node) is not None

    def _decorates_quietly(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Attribute) and node.attr in ("setter", "deleter") and isinstance(node.value, ast.Name):
            return True  # of a property
        return self._is_operand(node) if isinstance(node, ast.Call) else self._is_known(node)

    def _is_known(self, function: ast.expr) -> bool:
        """Whether a function is listed as one that changes nothing."""
        full = self._full_name(function) or ""
        return full in _QUIET or f"{full.rpartition('.')[0]}.*" in _QUIET or full.removeprefix("builtins.") in _QUIET_BUILTINS

    def _full_name(self, node: ast.AST) -> str | None:
        """What a.b.c stands for, such as torch.nn.ReLU, where a is of a library or of Python itself; None for any other."""
        if isinstance(node, ast.Attribute):
            before = self._full_name(node.value)
            return None if before is None else f"{before}.{node.attr}"
        if not isinstance(node, ast.Name):
            return None
        if node.id in self._libraries:
            return self._libraries[node.id]
        return f"builtins.{node.id}" if node.id not in self.bound and hasattr(builtins, node.id) else None


def _stand_for(statement: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
    """Each name that an import binds, and what it stands for."""
    for alias in statement.names:
        if isinstance(statement, ast.ImportFrom):
            yield alias.asname or alias.name, f"{statement.module}.{alias.name}"
        else:
            first = alias.name.partition(".")[0]
            yield (alias.asname, alias.name) if alias.asname else (first, first)


def _bound(statement: ast.AST) -> set[str]:
    """Names that a statement of a file binds."""
    if isinstance(statement, (ast.ClassDef, *_FUNCTION)):
        return {statement.name}
    if isinstance(statement, _IMPORT):
        return {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
    found = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    inner = [node for node in ast.walk(statement) if isinstance(node, (ast.ClassDef, *_FUNCTION, *_IMPORT))]
    return found.union(*(_bound(node) for node in inner))


def _runs_as_a_script(statement: ast.stmt) -> bool:
    """`if __name__ == "__main__":` is not run by an import."""
    return isinstance(statement, ast.If) and ast.unparse(statement.test) == "__name__ == '__main__'" and not statement.orelse
