"""Syntax: a hash of Python code that ignores comments, docstrings and layout."""

import ast

from pipeline.base import files


def tree_hash(tree: ast.Module) -> str:
    """Hash of a file's code, without its docstrings, which are removed from `tree`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:]
    return files.sha256(repr(_plain(tree)).encode())


def _plain(node: object) -> object:
    """A syntax tree as nested tuples without empty fields; ast.dump differs between Python versions."""
    if isinstance(node, ast.AST):
        fields = ((name, _plain(value)) for name, value in ast.iter_fields(node) if name != "kind")
        return (type(node).__name__, *(field for field in fields if field[1] not in (None, ())))
    if isinstance(node, list):
        return tuple(_plain(item) for item in node)
    return None if node is None else (type(node).__name__, node)
