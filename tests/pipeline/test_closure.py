"""The closure of a command: which files, and what changes their hash."""

import pytest

from pipeline import closure
from pipeline.errors import InputError


@pytest.fixture
def project(tmp_path, monkeypatch):
    """stages/go.py imports pipeline.a at the top and pipeline.b inside a function; pipeline.c is imported by nobody."""
    monkeypatch.setattr(closure, "ROOT", tmp_path)
    for name, text in {
        "stages/go.py": "from pipeline.a import run\ndef command():\n    from pipeline import b\n",
        "stages/cli.py": "import stages.go\n",
        "pipeline/a.py": '"""Doc."""\nimport os\ndef run():\n    """Doc."""\n    return 1  # comment\n',
        "pipeline/b.py": "x = 1\n",
        "pipeline/c.py": "x = 1\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def names(listing: str) -> list[str]:
    return [line.split("  ")[0] for line in listing.splitlines()]


def test_follows_imports_inside_functions(project):
    assert names(closure.listing("stages.go")) == ["pipeline/a.py", "pipeline/b.py", "stages/go.py"]


@pytest.mark.parametrize(
    "text",
    [
        "import os\n\n\ndef run():\n    return 1\n",
        '"""Other."""\nimport os  # why\ndef run():\n    "Other."\n    return (1)\n',
    ],
)
def test_comments_docstrings_and_layout_change_nothing(project, text):
    before = closure.listing("stages.go")
    (project / "pipeline/a.py").write_text(text)
    assert closure.listing("stages.go") == before


@pytest.mark.parametrize("text", ["import os\ndef run():\n    return 2\n", "import os\ndef run(x=0):\n    return 1\n"])
def test_code_changes_the_hash_of_its_file_only(project, text):
    before = closure.listing("stages.go").splitlines()
    (project / "pipeline/a.py").write_text(text)
    after = closure.listing("stages.go").splitlines()
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True, True]


def test_a_new_import_joins_the_closure(project):
    (project / "pipeline/b.py").write_text("import pipeline.c\n")
    assert "pipeline/c.py" in names(closure.listing("stages.go"))


def test_commands_are_the_files_that_hold_one(project):
    assert closure.commands() == ["go"]


def test_code_that_does_not_parse_is_named(project):
    (project / "pipeline/b.py").write_text("def\n")
    with pytest.raises(InputError, match="b.py"):
        closure.listing("stages.go")


def test_the_hash_is_the_same_for_every_python(project):
    """Pinned on 3.11; 3.12 and 3.13 added fields to syntax trees, which ast.dump shows and this hash must not."""
    (project / "pipeline/a.py").write_text("async def f(x: int = 1, *, y=None) -> str:\n    return f'{x!r}' if y else b''\n")
    assert closure.tree_sha256("pipeline.a")[:16] == GOLDEN


GOLDEN = "05bc8dcce5da84e6"


def test_stages_depend_on_what_they_run():
    assert "pipeline/fit.py" in names(closure.listing("stages.teach"))
    assert "pipeline/fit.py" not in names(closure.listing("stages.capture"))
    assert "pipeline/report.py" not in names(closure.listing("stages.distill"))
    assert "pipeline/distill.py" not in names(closure.listing("stages.teach"))
