"""The hash of a file: what it does changes it, and nothing else."""

import ast

import pytest

from pipeline.base.syntax import tree_hash

TEXT = '"""Doc."""\nimport os\ndef run():\n    """Doc."""\n    return 1  # comment\n'


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("import os\n\n\ndef run():\n    return 1\n", True),
        ('"""Other."""\nimport os  # why\ndef run():\n    "Other."\n    return (1)\n', True),
        ("import os\ndef run():\n    return 2\n", False),
        ("import os\ndef run(x=0):\n    return 1\n", False),
    ],
)
def test_comments_docstrings_and_layout_change_nothing(text, same):
    assert (tree_hash(ast.parse(text)) == tree_hash(ast.parse(TEXT))) == same


def test_the_hash_is_the_same_for_every_python():
    """Pinned on 3.11; 3.12 and 3.13 added fields to syntax trees, which ast.dump shows and this hash must not."""
    tree = ast.parse("async def f(x: int = 1, *, y=None) -> str:\n    return f'{x!r}' if y else b''\n")
    assert tree_hash(tree)[:16] == "05bc8dcce5da84e6"
