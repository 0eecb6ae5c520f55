"""The house: imports go down the wings, and what is to be light stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_imports_go_down_the_wings():
    """The contract is in pyproject.toml."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("wing", sorted(path.parent.name for path in (ROOT / "pipeline").glob("*/__init__.py")))
def test_a_wing_says_what_lives_in_it_and_does_nothing(wing):
    tree = ast.parse((ROOT / f"pipeline/{wing}/__init__.py").read_text())
    assert len(tree.body) == 1
    assert "first" in ast.get_docstring(tree)  # which file to read


def test_every_file_has_its_tests():
    """tests/pipeline/<wing>/test_<file>.py tests pipeline/<wing>/<file>.py, in a wing's folders too; there are no others."""
    library, ours = ROOT / "pipeline", ROOT / "tests/pipeline"
    files = {str(path.relative_to(library).with_suffix("")) for path in library.rglob("[!_]*.py")}
    tests = {str(path.relative_to(ours).with_suffix("")).replace("test_", "") for path in ours.rglob("test_*.py")}
    assert files == tests


def test_the_library_knows_nothing_of_click_or_dvc():
    for path in (ROOT / "pipeline").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & {"click", "dvc", "stages"}, path


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("pipeline.cache.reader", "torch"),
        ("pipeline.cache.manifest", "torch"),
        ("pipeline.data.splits", "torch"),
        ("pipeline.stats.metrics", "torch"),
        ("pipeline.stats.comparison", "torch"),
        ("pipeline.models.training", "torch"),
        ("pipeline.training.settings", "torch"),
        ("pipeline.results.report", "torch"),
        ("pipeline.results.cost", "torch"),
        ("pipeline.results.footprint", "torch"),
        ("stages.distill", "torch"),
        ("stages.export", "torch"),
        ("stages.predict", "torch"),
        ("softcache_export", "numpy"),
        ("softcache_export", "pipeline"),
        ("stages.capture", "zarr"),
    ],
)
def test_importing_stays_light(module, absent):
    """A cache can be read without torch, and `--help` waits for nothing."""
    code = f"import sys, {module}; sys.exit({absent!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
