"""The house: every import in pipeline/ goes down the floors, and the light rooms stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = [
    {"errors"},
    {"files", "runtime", "randomness", "table", "background", "commands", "temperature"},
    {"syntax", "facts"},
    {"source", "provenance"},
    {"plugins"},
    {"spec"},
    {"transfer", "layout", "models", "losses", "metrics", "comparison", "stack", "times", "tables", "views"},
    {"manifest", "modelfile", "published"},
    {"cache", "work", "checkpoint", "predict", "rows", "recipe", "resume", "run"},
    {"identity", "targets", "bias", "choice", "results"},
    {"examples", "live"},
    {"objective"},
    {"fit"},
    {"lesson"},
    {"ingest", "teach", "capture", "verify", "inspect", "distill", "evaluate", "report", "cost"},
    {"sweep"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


def imported(path: Path) -> set[str]:
    """Rooms of pipeline/ that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "pipeline":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pipeline."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("pipeline") for alias in node.names), "write `from pipeline import x`"
    return found


def test_every_room_has_a_floor():
    assert {path.stem for path in (ROOT / "pipeline").glob("*.py")} - {"__init__"} == set(FLOOR)


@pytest.mark.parametrize("room", sorted(FLOOR))
def test_imports_go_down(room):
    for other in imported(ROOT / f"pipeline/{room}.py"):
        assert FLOOR[other] < FLOOR[room], f"{room} (floor {FLOOR[room]}) imports {other} (floor {FLOOR[other]})"


def test_the_library_knows_nothing_of_click_or_dvc():
    for path in (ROOT / "pipeline").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & {"click", "dvc", "stages"}, path


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("pipeline.cache", "torch"),
        ("pipeline.manifest", "torch"),
        ("pipeline.transfer", "torch"),
        ("pipeline.metrics", "torch"),
        ("pipeline.comparison", "torch"),
        ("pipeline.report", "torch"),
        ("pipeline.cost", "torch"),
        ("stages.distill", "torch"),
        ("stages.capture", "zarr"),
    ],
)
def test_importing_stays_light(module, absent):
    """A cache can be read without torch, and `--help` waits for nothing."""
    code = f"import sys, {module}; sys.exit({absent!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
