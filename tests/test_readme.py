"""READMEs show what the repository holds: tables as they were written, and a tree of the rooms there are."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TABLES = [
    ("README.md", "mnist", "examples/mnist/results/published.md"),
    ("README.md", "banking77", "examples/banking77/results/published.md"),
    ("examples/banking77/README.md", "results", "examples/banking77/results/published.md"),
    ("examples/banking77/README.md", "speed", "examples/banking77/speed.md"),
    ("examples/generations/README.md", "results", "examples/generations/results/published.md"),
    ("examples/mnist/README.md", "results", "examples/mnist/results/published.md"),
    ("examples/mnist/README.md", "quick", "examples/mnist/quick/results/published.md"),
    ("examples/cifar10/README.md", "quick", "examples/cifar10/quick/results/published.md"),
    ("examples/cifar10/README.md", "gains", "examples/cifar10/quick/gains.md"),
]


@pytest.mark.parametrize(("readme", "marker", "table"), TABLES)
def test_tables_are_those_of_the_results(readme, marker, table):
    shown = re.search(rf"<!-- {marker} -->\n(.*?)<!-- end -->", (ROOT / readme).read_text(), re.DOTALL)[1]
    assert shown == (ROOT / table).read_text()
    assert shown.count("\n| ") > 4


def test_the_tree_names_every_file():
    tree = (ROOT / "README.md").read_text().split("## The rooms")[1].split("\n## ")[0]
    rooms = dict(re.findall(r"^      (\w+)/ +(.*)$", tree, re.MULTILINE))
    for path in (ROOT / "pipeline").glob("*/*.py"):
        assert path.stem == "__init__" or path.stem in re.findall(r"\w+", rooms[path.parent.name]), path


def test_links_lead_somewhere():
    for readme in (
        "README.md",
        "docs/students.md",
        "docs/cache-format.md",
        "docs/teachers.md",
        "docs/export.md",
        "docs/scaling.md",
        "examples/mnist/README.md",
        "examples/banking77/README.md",
        "examples/generations/README.md",
        "examples/cifar10/README.md",
    ):
        here = (ROOT / readme).parent
        for target in re.findall(r"\]\(([^)#]+?)(?:#.*?)?\)", (ROOT / readme).read_text()):
            assert target.startswith("https://") or (here / target).exists(), f"{readme}: {target}"
