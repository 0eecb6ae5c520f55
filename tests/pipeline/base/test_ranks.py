"""Trainings that several ranks share: the losses and weights of one process, and the same bits after a kill."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rank_trainings
import torch
from rank_trainings import ROWS, STREAMED, VIEWS, history, lessons
from safetensors.torch import load_file

from conftest import run_capture, write_stage_one, write_teacher
from pipeline.base import runtime
from pipeline.base.ranks import Ranks
from pipeline.cache.reader import Cache
from pipeline.data.inputs.image import Images
from pipeline.data.splits import open_splits
from pipeline.data.views import Policy
from pipeline.models.build import build, parse_model
from pipeline.training.examples import Batch, Examples
from pipeline.training.inputs import Numbers
from pipeline.training.targets import Targets

CPU = torch.device("cpu")
TEACHER = "cnn(channels=[6, 5])"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Splits, teachers, and caches in spans of 8 rows; that of `c` has features."""
    runtime.prepare("cpu", threads=1)
    root = write_stage_one(tmp_path_factory.mktemp("ranks"), teachers="ab", rows=ROWS)
    split = open_splits(root / "transfer", ["train"])["train"]
    net = build(parse_model(TEACHER), Images("L", (1, 4, 4)), 3, seed=5)
    write_teacher(root / "teachers/c", net, split, model=TEACHER, seed=5)
    for name in "abc":
        run_capture(root, name, **({"features": ("layer1", "layer2 | pool")} if name == "c" else {}))
    return root


def by_ranks(root: Path, count: int, *names: str) -> dict[str, Any]:
    command = [sys.executable, rank_trainings.__file__, str(root), str(count), *names]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)
    }  # else tests/pipeline is first
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, timeout=500)
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["lessons"]["code"] == 0
    return found


def near_one_process(root: Path, count: int, name: str) -> None:
    """Losses, of 100 steps in one lesson, and weights: float32 sums in another order, of numbers that differ by rounding."""
    lessons(root, root / "1")[name]()
    one, shared = (history(root / number / name) for number in ("1", str(count)))
    assert len(one) == len(shared)
    for expected, found in zip(one, shared, strict=True):
        assert found["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-6, abs=0)
        assert found["valid_nll"] == pytest.approx(expected["valid_nll"], rel=1e-5, abs=0)
        assert abs(found["train_loss"] - expected["train_loss"]) < 1e-5
    files = sorted((root / "1" / name).glob("*.safetensors"))
    assert files
    for path in files:
        expected, found = load_file(path), load_file(root / str(count) / name / path.name)
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-4, atol=2e-6)


def require_resumed(root: Path, count: int, found: dict[str, Any]) -> None:
    """Killed in the sixth epoch, on the second rank; the next run goes on, to the bits of one without a kill."""
    assert found["killed"]["code"] != 0
    assert found["killed"]["states"] == 1
    told = [line for line in found["killed"]["said"].splitlines() if line.startswith("Error: ")]
    assert len(told) <= 1  # of a rank that the launcher has not ended yet
    assert all("expected answers of the other ranks, found none, because one has ended. Run again;" in line for line in told)
    assert (found["resumed"]["code"], found["resumed"]["states"]) == (0, 0)
    assert found["resumed"]["said"].count("wrote ") == 1
    paths = sorted((root / "students/s-T4").glob("*.safetensors"))
    assert len(paths) == 1
    for path in paths:
        assert path.read_bytes() == (root / str(count) / "s-T4" / path.name).read_bytes()
    assert history(root / "students/s-T4") == history(root / str(count) / "s-T4")


def test_two_ranks_are_one_process_and_a_kill_changes_no_bit(root):
    found = by_ranks(root, 2, "hundred", "features", "s-T4")
    assert len(history(root / "2/hundred")) == 100  # each a step on all rows
    for name in ("hundred", "features"):
        near_one_process(root, 2, name)
    require_resumed(root, 2, found)


@pytest.mark.soak
@pytest.mark.parametrize("count", [2, 3])
def test_every_lesson(root, count):
    found = by_ranks(root, count)
    for name in lessons(root, root):
        if name != "s-T4":  # whose dropped units are others on every rank
            near_one_process(root, count, name)
    require_resumed(root, count, found)
    for run, told in (("fails", "the sixth epoch: expected nothing, found a mishap."), ("sweep", "found softcache sweep, ")):
        assert found[run]["code"] == 2
        assert found[run]["said"].count("Error: ") == 1
        assert told in found[run]["said"]


@pytest.mark.soak
def test_torchrun_itself(root):
    """As the help of `softcache distill` says, with what it prints."""
    folder = Path(sys.executable).parent
    (root / "params.yaml").write_text(rank_trainings.PARAMS)
    words = ["--no-python", "--nproc-per-node", "2", str(folder / "softcache"), "distill", "s", "-T", "4", "--data", "."]
    done = subprocess.run([folder / "torchrun", *words], cwd=root, capture_output=True, text=True, check=True, timeout=500)
    assert done.stdout.count("wrote students/s-T4: 1 seed") == 1
    assert "Warning" not in done.stderr


# ---------------------------------------------------------------- which rows a rank reads


class Counted(Numbers):
    """Rows of a split; `read_rows` says which were read."""

    def read(self, span, indices, views):
        self.__dict__.setdefault("read_rows", []).extend(
            span * self.span + (np.arange(len(views[0])) if indices is None else indices)
        )
        return super().read(span, indices, views)


def examples(root: Path, here: Ranks, *, memory: float = 1.0, draws: int = 1, policy: str = "shift(1)") -> Examples:
    split = open_splits(root / "transfer", ["train"])["train"]
    targets = Targets.of({"a": Cache.open(root / "caches/a")}, temperatures=[1.0], rule="logits")
    return Examples(
        Counted(split), Policy.parse(policy, VIEWS.seed), 3, targets, int(memory * 1e9), CPU, draws=draws, ranks=here
    )


def columns(batch: Batch) -> list[torch.Tensor]:
    return [batch.rows, batch.views, batch.inputs, batch.targets, batch.partners, batch.shares]


@pytest.mark.parametrize(("count", "batch_size"), [(2, 12), (3, ROWS - 1), (5, 5), (2, 500)])
@pytest.mark.parametrize(
    ("memory", "draws", "policy"), [(1.0, 1, "shift(1)"), (STREAMED, 2, "shift(1)"), (STREAMED, 1, "mixup(100)")]
)
def test_pieces_of_ranks_are_the_batches_of_one_process(root, count, batch_size, memory, draws, policy):
    how = {"memory": memory, "draws": draws, "policy": policy}
    assert examples(root, Ranks(), **how).whole == (memory == 1)
    expected = list(examples(root, Ranks(), **how).epoch(3, 1, batch_size))
    each = [examples(root, Ranks(number, count), **how) for number in range(count)]
    pieces = [list(one.epoch(3, 1, batch_size)) for one in each]
    assert {len(one) for one in pieces} == {len(expected)}
    for batch, shared in zip(expected, zip(*pieces, strict=True), strict=True):
        lengths = [len(one.rows) for one in shared]
        assert max(lengths) - min(lengths) <= draws
        for wanted, *found in zip(columns(batch), *map(columns, shared), strict=True):
            assert torch.equal(torch.cat(found), wanted)
    if memory == STREAMED and policy == "shift(1)":
        for one, batches in zip(each, pieces, strict=True):
            trained = torch.cat([batch.rows for batch in batches]).unique().tolist()
            assert sorted(one.inputs.read_rows) == trained  # each once, and none of other ranks


def test_an_epoch_can_be_repeated_by_a_rank(root):
    one = examples(root, Ranks(1, 2), memory=STREAMED)
    first, again = (torch.cat([batch.rows for batch in one.epoch(3, 1, 12)]) for _ in range(2))
    assert torch.equal(first, again)
    other = torch.cat([batch.rows for batch in one.epoch(3, 2, 12)])
    assert not torch.equal(first, other)
