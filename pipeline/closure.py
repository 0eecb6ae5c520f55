"""The code behind a result: which files of this project a module imports, and a hash of what each one does.

The hash is of the syntax tree without docstrings, so that comments, docstrings and layout change nothing.
"""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

from pipeline import files
from pipeline.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("pipeline", "stages")
_NO_COMMANDS = ("__init__", "cli", "options", "terminal")  # of the files in stages/


def listing(module: str) -> str:
    """One line per project file in the import closure of `module` (such as stages.teach): path, two spaces, sha256."""
    pending, found = [module], {}
    while pending:
        name = pending.pop()
        if name not in found:
            found[name], imports = _read(name)
            pending += [imported for imported in imports if _file(imported).exists()]
    return "".join(f"{_file(name).relative_to(ROOT)}  {found[name]}\n" for name in sorted(found))


def tree_sha256(module: str) -> str:
    """Hash of one project module's own syntax tree, docstrings left out."""
    return _read(module)[0]


def commands() -> list[str]:
    """Modules of stages/ that are a command, by file name."""
    return sorted(path.stem for path in (ROOT / "stages").glob("*.py") if path.stem not in _NO_COMMANDS)


def _file(module: str) -> Path:
    return ROOT / f"{module.replace('.', '/')}.py"


def _read(module: str) -> tuple[str, list[str]]:
    """Hash of a module's syntax tree, and what it imports."""
    path = _file(module)
    facts = path.stat()
    return _digested(path, facts.st_mtime_ns, facts.st_size)


@functools.cache
def _digested(path: Path, changed: int, size: int) -> tuple[str, list[str]]:
    """A file is read again only when it is another."""
    tree = _parse(path)
    imports = list(_imports(tree))
    return tree_hash(tree), imports  # the hash takes the docstrings out of the tree


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise InputError(str(path), expected="Python that parses", found=str(error), fix="Correct the file.") from error


def _imports(tree: ast.Module) -> Iterator[str]:
    """Modules of this project that a file imports, inside functions too; `from a import b` may mean module a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in PACKAGES)


def tree_hash(tree: ast.Module) -> str:
    """Hash of what a file does; takes the docstrings out of the tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:]
    return files.sha256(repr(_plain(tree)).encode())


def _plain(node: object) -> object:
    """A syntax tree as nested tuples without empty fields: ast.dump changes from one Python version to the next."""
    if isinstance(node, ast.AST):
        fields = ((name, _plain(value)) for name, value in ast.iter_fields(node) if name != "kind")
        return (type(node).__name__, *(field for field in fields if field[1] not in (None, ())))
    if isinstance(node, list):
        return tuple(_plain(item) for item in node)
    return None if node is None else (type(node).__name__, node)
