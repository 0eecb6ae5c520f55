"""Texts and arrays from a file to measured students: by the commands, and cached against live to the last bit."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from conftest import measured, write_teacher
from pipeline.base import runtime
from pipeline.cache.capture import capture
from pipeline.cache.reader import Cache
from pipeline.cache.settings import Keep
from pipeline.data.ingest import ingest
from pipeline.data.inputs.array import Arrays
from pipeline.data.inputs.text import Texts
from pipeline.data.settings import Views
from pipeline.data.splits import open_splits
from pipeline.data.views import Policy
from pipeline.models.build import build, parse_model
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.encoding import encode
from pipeline.models.predict import predict
from pipeline.training.distill import distill
from pipeline.training.examples import Examples
from pipeline.training.inputs import inputs_of
from pipeline.training.lesson import Soft
from pipeline.training.live import Live
from pipeline.training.losses import SoftLoss
from pipeline.training.objective import LossWeights
from pipeline.training.recipe import Recipe
from pipeline.training.targets import Targets
from projects import says

CPU = torch.device("cpu")
ROWS = 60
WORDS = {"cold": "snow ice frost", "warm": "sun heat fire", "wet": "rain river sea"}

# Nets with tokenizers of their own: a student that counts letters, and a teacher whose sums are exact in any order.
PLUG_IN = '''
import torch

class Letters(torch.nn.Module):
    """Counts the letters a to z of a text, and takes a linear layer of that."""

    def __init__(self, shape, classes, exact=False):
        super().__init__()
        self.logits = torch.nn.Linear(26, classes)
        if exact:
            with torch.no_grad():
                self.logits.weight.copy_((torch.arange(26 * classes) * 7919 % 5 - 2.0).view(classes, 26) / 8)
                self.logits.bias.zero_()

    def encode(self, texts):
        return torch.tensor([[text.lower().count(chr(97 + letter)) for letter in range(26)] for text in texts])

    def forward(self, counts):
        return self.logits(counts.float())

class Exact(torch.nn.Module):
    """Integer weights on integers: every sum is exact in float32."""

    def __init__(self, shape, classes):
        super().__init__()
        size = shape[0] * shape[1]
        self.weight = torch.nn.Parameter((torch.arange(classes * size) * 7919 % 5 - 2.0).reshape(classes, size))

    def forward(self, arrays):
        return arrays.flatten(1).float() @ self.weight.T / 256
'''
PARAMS = """
teach: {{optimizer: adamw(lr=0.05), epochs: 15, batch_size: 8}}
teachers:
  a: {{model: "{teacher}", policy: "{policy}"}}
views: {{policy: "{policy}", views: 3, view_seed: 5}}
capture: {{tile: 4}}
recipe: {{optimizer: adamw(lr=0.05), epochs: 15, batch_size: 8, seeds: [0, 1]}}
students:
  s: {{model: "{student}"}}
temperatures: [2]
distill: {{teachers: [a], alpha: 0.9}}
sweeps: {{all: {{students: [s], alphas: [0.5, 1], seeds: [0]}}}}
ingest: {{train: "{train}", valid: 0.2, test: 0.2}}
"""


def sentences() -> list[tuple[str, str]]:
    """Texts that tell their class by one of three words."""
    names = [list(WORDS)[row % 3] for row in range(ROWS)]
    words = [WORDS[name].split()[row // 3 % 3] for row, name in enumerate(names)]
    return [
        (f"Today, number {row}: {word} everywhere", name) for row, (word, name) in enumerate(zip(words, names, strict=True))
    ]


def tables() -> np.ndarray:
    """(N, 4, 5) float32 of whole numbers; class c is brighter in row c."""
    rows = np.random.default_rng(0).integers(-4, 5, (ROWS, 4, 5)).astype(np.float32)
    rows[np.arange(ROWS), np.arange(ROWS) % 3] += 12
    return rows


def text_source(folder: Path) -> str:
    with (folder / "x.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("question", "intent"), *sentences()])
    return "csv('x.csv', text='question', label='intent')"


def array_source(folder: Path) -> str:
    held = pa.array(tables().tolist(), pa.list_(pa.list_(pa.float32())))
    pq.write_table(pa.table({"array": held, "label": [row % 3 for row in range(ROWS)]}), folder / "x.parquet")
    return "x.parquet"


KINDS = {
    "text": (text_source, "bag(width=8, features=400, length=64)", "kinds_of_net:Letters()", "drop(2)", Texts()),
    "array": (array_source, "mlp(hidden=[12])", "mlp(hidden=[6])", "noise(0.5) | mask(2, axis=1)", Arrays("float32", (4, 5))),
}


@pytest.fixture(params=KINDS)
def project(request, tmp_path, monkeypatch) -> str:
    """In a folder with a source, params.yaml and plug-ins; returns the kind."""
    source, teacher, student, policy, _ = KINDS[request.param]
    runtime.prepare("cpu")
    (tmp_path / "kinds_of_net.py").write_text(PLUG_IN)
    (tmp_path / "params.yaml").write_text(
        PARAMS.format(teacher=teacher, student=student, policy=policy, train=source(tmp_path))
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name, value in {"SOFTCACHE_DEVICE": "cpu", "SOFTCACHE_PLUGINS": "kinds_of_net"}.items():
        monkeypatch.setenv(name, value)
    yield request.param
    sys.modules.pop("kinds_of_net", None)


def test_from_a_file_to_measured_students(project):
    """By the commands, as a user gives them; a student with another tokenizer learns what its teacher knows."""
    facts = KINDS[project][-1]
    said = says(0, "ingest")
    assert ("rows of text, 3 classes" if project == "text" else "rows of 4×5 float32, 3 classes") in said
    splits = open_splits(Path("data/transfer"), ("train", "valid", "test"))
    assert [split.rows for split in splits.values()] == [38, 10, 12]
    assert all(split.inputs == facts for split in splits.values())
    says(0, "teach", "a")
    says(0, "capture", "a")
    says(0, "verify", "a", "--deep", "30")
    said = json.loads(Path("data/caches/a/manifest.json").read_text())["identity"]["inputs"]
    assert said == ({"kind": "text"} if project == "text" else {"kind": "array", "array_dtype": "float32", "shape": [4, 5]})
    for words in (["-T", "2"], ["--hard"], ["-T", "2", "--live"]):
        says(0, "distill", "s", *words)
    says(0, "evaluate")
    found = measured(Path("data/plots"))
    assert min(row.accuracy for name in ("a", "s-hard", "s-T2") for row in found[name, "test"]) > 0.8
    says(0, "sweep", "all")
    says(0, "report")


def test_live_targets_are_those_of_the_cache(project):
    """Of an ordinary teacher, to rounding: every batch of a live lesson shows it the views that it was captured in."""
    _, _, student, policy, facts = KINDS[project]
    for words in (["ingest"], ["teach", "a"], ["capture", "a"]):
        says(0, *words)
    split, views = open_splits(Path("data/transfer"), ["transfer"])["transfer"], Policy.parse(policy, 5)
    how = {"temperatures": [2.0], "rule": "logits"}
    cached = Targets.of({"a": Cache.open(Path("data/caches/a"))}, **how)
    live = Live.open({"a": Path("data/teachers/a")}, split, views, CPU, **how)
    net = build(parse_model(student), facts, 3)
    inputs = inputs_of(split, views, net)
    both = [Examples(inputs, views, 3, signal, 10**9, CPU).epoch(1, 0, 7) for signal in (cached, live)]
    for one, other in zip(*both, strict=True):
        assert torch.equal(one.rows, other.rows)
        assert torch.equal(one.inputs, other.inputs)
        assert (one.targets - other.targets).abs().max() <= 1e-5 * (one.targets.max() - one.targets.min())


EXACT = {
    "text": ("kinds_of_net:Letters(exact=True)", "drop(2)"),
    "array": ("kinds_of_net:Exact()", "mask(2, axis=1) | roll(1)"),
}
STREAMED = {"text": 1.2e-5, "array": 3e-6}  # GB, in which four spans fit, and all rows do not
STUDENTS = {"text": "bag(width=4, features=50, length=64)", "array": "mlp(hidden=[4], dropout=0.2)"}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("rows", ["all", "fraction(0.8)"])
def test_cached_is_live_with_exact_arithmetic(project, tmp_path, monkeypatch, rows, streamed):
    """In memory and streamed, of all rows and of some; the teacher's tokenizer is not the student's."""
    source, *_, facts = KINDS[project]
    text, policy = EXACT[project]
    memory = STREAMED[project] if streamed else 4.0
    monkeypatch.setattr("pipeline.data.ingest.span_rows", lambda classes, row_bytes: 8)
    ingest(train=source(tmp_path), valid=0.2, test=0.2, transfer_set=(), damaged="fail", seed=0, out=tmp_path / "transfer")
    split = open_splits(tmp_path / "transfer", ["train"])["train"]
    net = build(parse_model(text), facts, 3)
    write_teacher(tmp_path / "teachers/a", net, split, model=text)
    given = {"splits": tmp_path / "transfer", "work": tmp_path / "work", "device": CPU}
    views = Views(policy, 3, 5)
    capture(
        teacher=tmp_path / "teachers/a", views=views, keep=Keep(tile=4), out=tmp_path / "caches/a",
        provenance=tmp_path / "provenance.json", **given,
    )  # fmt: skip
    weights, windows, grouped = {}, [], Examples._grouped
    monkeypatch.setattr(Examples, "_grouped", lambda self, spans: windows.append(spans) or grouped(self, spans))
    for kind in ("caches", "teachers"):
        recipe = Recipe.parse(optimizer="sgd(lr=0.2)", schedule="one_cycle()", epochs=3, batch_size=7, memory=memory)
        distill(
            model=STUDENTS[project], recipe=recipe, views=views, rows=rows, weighting=LossWeights(2.0, 0.7), correct=(),
            soft=Soft({"a": tmp_path / kind / "a"}, "logits", SoftLoss.parse("kl"), live=kind == "teachers"), seeds=(1,),
            out=tmp_path / kind / "s", **given,
        )  # fmt: skip
        weights[kind] = (tmp_path / kind / "s/seed-1.safetensors").read_bytes()
    assert weights["caches"] == weights["teachers"]
    assert bool(windows) == streamed


def test_what_is_captured_is_what_the_net_says_of_the_views(project):
    """Row by row, by the policy and the net alone."""
    *_, policy, _ = KINDS[project]
    for words in (["ingest"], ["teach", "a"], ["capture", "a"]):
        says(0, *words)
    split, checkpoint = open_splits(Path("data/transfer"), ["train"])["train"], Checkpoint.teacher(Path("data/teachers/a"))
    net, rows = checkpoint.load(checkpoint.nets[0], CPU), np.arange(split.rows)
    stored, shown, held = Cache.open(Path("data/caches/a")).read("transfer"), Policy.parse(policy, 5), split.read_all()
    for view in range(3):
        views = np.full(split.rows, view)
        inputs = (
            encode(net, shown.rewrite(held.tolist(), rows, views))
            if project == "text"
            else shown.apply(torch.from_numpy(held), rows, views)
        )
        np.testing.assert_allclose(stored[view], predict(net, inputs), atol=1e-4)
    assert (stored[1] != stored[0]).any()


def test_a_net_and_a_policy_for_another_kind_are_refused_by_name(project):
    other = next(kind for kind in KINDS if kind != project)
    says(0, "ingest")
    message = says(2, "teach", "a", "--model", KINDS[other][1])
    assert f"a net for inputs of kind {project}, found a net for {'numbers' if project == 'text' else 'text'}" in message
    message = says(2, "teach", "a", "--policy", KINDS[other][3])
    assert f"expected a step for {project}s: " in message
    says(0, "teach", "a")
    assert f"expected a step for {project}s: " in says(2, "capture", "a", "--policy", "shift(1)")
    says(0, "capture", "a")
    message = says(2, "distill", "s", "-T", "2", "--model", KINDS[other][1])
    assert f"a net for inputs of kind {project}" in message
