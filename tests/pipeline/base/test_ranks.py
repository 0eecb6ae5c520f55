"""Trainings that several ranks share: the losses and weights of one process, and the same bits after a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
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
    """Splits, teachers, and caches in spans of 8 rows."""
    runtime.prepare("cpu", threads=1)
    root = write_stage_one(tmp_path_factory.mktemp("ranks"), teachers="ab", rows=ROWS)
    for name in "ab":
        run_capture(root, name)
    return root


@pytest.fixture(scope="module")
def features(root) -> None:
    """A third teacher, and features of it in its cache."""
    split = open_splits(root / "transfer", ["train"])["train"]
    net = build(parse_model(TEACHER), Images("L", (1, 4, 4)), 3, seed=5)
    write_teacher(root / "teachers/c", net, split, model=TEACHER, seed=5)
    run_capture(root, "c", features=("layer1", "layer2 | pool"))


def by_ranks(root: Path, count: int, *what: str) -> dict[str, Any]:
    command = [sys.executable, rank_trainings.__file__, str(root), str(count), *what]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)
    }  # else tests/pipeline is first
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, timeout=500)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def near_one_process(root: Path, shared: Path) -> None:
    """Losses, of 100 steps in one lesson, and weights: float32 sums in another order, of numbers that differ by rounding."""
    if not (alone := root / "1" / shared.name).exists():
        lessons(root, root / "1")[shared.name]()
    assert len(history(alone)) == len(history(shared))
    for expected, found in zip(history(alone), history(shared), strict=True):
        assert found["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-6, abs=0)
        assert found["valid_nll"] == pytest.approx(expected["valid_nll"], rel=1e-5, abs=0)
        assert abs(found["train_loss"] - expected["train_loss"]) < 1e-5
    files = sorted(alone.glob("*.safetensors"))
    assert files
    for path in files:
        expected, found = load_file(path), load_file(shared / path.name)
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-4, atol=2e-6)


def require_resumed(found: dict[str, Any]) -> None:
    """Killed in the sixth epoch of the second seed, on the second rank; the next run goes on."""
    killed, resumed = found["killed"], found["resumed"]
    assert killed["code"] != 0
    assert killed["states"] == 2
    told = [line for line in killed["said"].splitlines() if line.startswith("Error: ")]
    assert len(told) <= 1  # of a rank that the launcher has not ended yet
    assert all("expected answers of the other ranks, found none, because one has ended. Run again;" in line for line in told)
    assert (resumed["code"], resumed["states"], resumed["ended"]) == (0, 0, ["done"])
    assert resumed["said"].count(": 1 of 2 students are trained already") == 1
    assert resumed["said"].count("wrote ") == 1


def test_two_ranks_of_which_one_is_killed_are_one_process(root):
    require_resumed(by_ranks(root, 2))
    near_one_process(root, root / "students/s-T4")


@pytest.mark.soak
@pytest.mark.usefixtures("features")
@pytest.mark.parametrize("count", [2, 3])
def test_every_lesson(root, count):
    out = root / str(count)
    shutil.rmtree(out, ignore_errors=True)
    found = by_ranks(root, count, "all")
    assert found["lessons"]["code"] == 0
    assert len(history(out / "hundred")) == 100  # each a step on all rows
    for name in lessons(root, root):
        if name != "drops-T4":  # whose dropped units are others on every rank
            near_one_process(root, out / name)
    require_resumed(found)
    written = root / "students/drops-T4"
    weights = sorted(written.glob("*.safetensors"))
    assert len(weights) == 2
    for path in weights:
        assert path.read_bytes() == (out / "drops-T4" / path.name).read_bytes()
    assert history(written) == history(out / "drops-T4")
    for run, told in (("fails", "the sixth epoch: expected nothing, found a mishap."), ("sweep", "found softcache sweep, ")):
        assert found[run]["code"] == 2
        assert found[run]["said"].count("Error: ") == 1
        assert told in found[run]["said"]


def torchrun(root: Path, work: Path, *words: str) -> "subprocess.Popen[str]":
    """Start what the help of `softcache distill` says."""
    (root / "params.yaml").write_text(rank_trainings.PARAMS)
    folder = Path(sys.executable).parent
    before = [folder / "torchrun", "--no-python", "--nproc-per-node", "2"]
    distill = [folder / "softcache", "distill", "s", "-T", "4", "--data", ".", "--work", work, *words]
    return subprocess.Popen([*before, *distill], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.soak
@pytest.mark.parametrize("sent", [None, signal.SIGINT, signal.SIGKILL])
def test_torchrun_itself(root, tmp_path, sent):
    """Stopped or not, it leaves no rank behind, which would hold the pipes and the folder of the training."""
    if sent is not None:
        started = torchrun(root, tmp_path, "--epochs", "20000")
        for _ in range(6000):
            if started.poll() is None and not list(tmp_path.glob("trainings/*/*.state")):
                time.sleep(0.01)
        started.send_signal(sent)
        _, said = started.communicate(timeout=100)
        assert started.returncode != 0
        assert said.count("Interrupted; run again") == (sent == signal.SIGINT)
    done = torchrun(root, tmp_path)
    printed, said = done.communicate(timeout=500)
    assert done.returncode == 0
    assert printed.count("wrote students/s-T4: 2 seeds") == 1
    assert "Warning" not in said


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


@pytest.mark.parametrize(("count", "batch_size"), [(2, 12), (3, ROWS - 1), (5, 5)])
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
