"""A git and DVC repository with the pipeline in it, small enough to run as a whole."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import images, write_parquet

ROOT = Path(__file__).resolve().parent.parent

PARAMS = """
ingest: {train: data/source/source.parquet, valid: 0.25, test: 0.25, seed: 0}
teach: {optimizer: "sgd(lr=0.1, momentum=0.9)", epochs: 1, batch_size: 8, policy: shift(1)}
teachers:
  a: {model: "mlp(hidden=[5])", seed: 1}
  b: {model: "mlp(hidden=[5])", seed: 2}
views: {policy: shift(1), views: 2, view_seed: 0}
capture: {dtype: float32, tile: 16}
recipe: {optimizer: sgd(lr=0.1), epochs: 1, batch_size: 8, seeds: [0, 1]}
students:
  tiny: {model: "mlp(hidden=[3])"}
temperatures: [1]
distill: {teachers: [a, b], rule: probabilities, alpha: 0.9}
exports: {}
"""


class Repository:
    """A git and DVC repository with this project's own code and dvc.yaml."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("pipeline", "stages"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copyfile(ROOT / "softcache_export.py", folder / "softcache_export.py")
        for name in ("dvc.yaml", ".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore"):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
        shutil.copytree(ROOT / ".dvc/plots", folder / ".dvc/plots")
        for absent in ("      - data/caches/c\n", "      - data/caches/d\n"):  # a teacher less takes its line away
            self.edit("dvc.yaml", absent, "")
        self.edit("pipeline/models/latency.py", "SECONDS = 0.5", "SECONDS = 0.01")
        write_parquet(folder / "data/source/source.parquet", *images(48), names=["low", "middle", "high"])
        (folder / "params.yaml").write_text(PARAMS)
        subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)

    def softcache(self, *args: str, code: int = 0) -> str:
        return self.run([sys.executable, "-c", "from stages.cli import main; main()", *args], code)

    def dvc(self, *args: str, code: int = 0) -> str:
        return self.run([sys.executable, "-m", "dvc", *args], code)

    def run(self, words: list[str], code: int = 0) -> str:
        bin_folder = Path(sys.executable).parent
        env = os.environ | {
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder),
            "SOFTCACHE_DEVICE": "cpu",
            "DVC_NO_ANALYTICS": "1",
        }
        done = subprocess.run(
            words,
            cwd=self.folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def repro(self, *args: str) -> list[str]:
        """Run `dvc repro`; returns the stages whose command ran (with --dry: would run)."""
        return re.findall(r"^Running stage '(.+)':$", self.dvc("repro", *args), re.MULTILINE)

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.folder / path).read_text()
        assert old in text
        (self.folder / path).write_text(text.replace(old, new))
