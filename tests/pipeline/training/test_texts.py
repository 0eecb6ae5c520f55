"""Texts in training: nets of other encodings beside each other, whole, streamed, and with teachers in the loop."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.base import runtime
from pipeline.data.ingest import ingest
from pipeline.data.settings import Views
from pipeline.data.splits import open_splits
from pipeline.data.views import Policy
from pipeline.models.build import parse_model
from pipeline.models.ensemble import Ensemble
from pipeline.training.lesson import Ground, Lesson
from pipeline.training.live import Encoding, Live
from pipeline.training.objective import HARD
from pipeline.training.recipe import Recipe
from pipeline.training.resume import Kept

CPU = torch.device("cpu")
ROWS, SPAN = 60, 4
SETTINGS = {"optimizer": "sgd(lr=0.1)", "schedule": "constant", "epochs": 2, "batch_size": 8}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """36 sentences to train on, in spans of 4."""
    runtime.prepare("cpu", threads=1)
    folder = tmp_path_factory.mktemp("texts")
    lines = [f"number {row} of so many words as {row * row},class {row % 3}" for row in range(ROWS)]
    (folder / "source.csv").write_text("\n".join(["text,label", *lines]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.data.ingest.span_rows", lambda classes, row_bytes: SPAN)
        source = f"csv('{folder}/source.csv')"
        ingest(train=source, valid=0.2, test=0.2, transfer_set=(), damaged="fail", seed=0, out=folder / "transfer")
    return folder


def trained(data: Path, lesson: Lesson, model: str, recipe: Recipe, work: Path) -> dict[str, torch.Tensor]:
    """The weights of a student of the labels."""
    with Kept.hold(work / "work", work / "s", [lesson.identity(parse_model(model), recipe, HARD, 1)]) as kept:
        [student] = lesson.train(parse_model(model), recipe, [HARD], seed=1, names=["s"], kept=kept)
    return student.net.state_dict()


def prepared(data: Path, recipe: Recipe, policy: str = "none", views: int = 1) -> Lesson:
    ground = Ground.open(data / "transfer", ("transfer", "train", "valid"), data / "work", CPU)
    how = {"rows": "all", "soft": None, "weightings": [HARD], "correct": (), "recipe": recipe}
    return Lesson.prepare(ground, views=Views(policy, views, 5), **how)


def test_nets_of_other_encodings_learn_from_one_streamed_lesson(data, tmp_path):
    """Each ends as it does in a lesson of its own: none is given what was read for another."""
    recipe = Recipe.parse(memory=6e-6, **SETTINGS)
    shared, models = prepared(data, recipe), [f"bag(length={length}, width=4)" for length in (70, 80, 60)]
    assert not shared.examples.whole
    for number, model in enumerate(models):
        found = trained(data, shared, model, recipe, tmp_path / f"shared-{number}")
        alone = trained(data, prepared(data, recipe), model, recipe, tmp_path / f"alone-{number}")
        assert all(torch.equal(found[name], alone[name]) for name in found)


def test_buffers_are_not_handed_on(data):
    examples = prepared(data, Recipe.parse(**SETTINGS)).examples
    assert replace(examples)._spare is not examples._spare


class Told(nn.Module):
    """Encodes a text as what it is told, and returns what it gets."""

    def __init__(self, dtype: torch.dtype, values: list):
        super().__init__()
        self.dtype, self.values = dtype, values

    def encode(self, texts):
        return torch.tensor([self.values] * len(texts), dtype=self.dtype)

    def forward(self, encoded):
        assert encoded.dtype == self.dtype
        self.seen = encoded
        return encoded.double()


def test_teachers_in_the_loop_get_texts_as_each_encodes_them(data, monkeypatch):
    """Token ids beside floats: in one float32, ids above 2^24 would be others, and nn.Embedding takes no floats."""
    ids, odd = 2**24 + 1, 2**62 + 1
    nets = [Told(torch.bool, [True]), Told(torch.int32, [ids]), Told(torch.float16, [0.5]), Told(torch.int64, [odd])]
    split = open_splits(data / "transfer", ["transfer"])["transfer"]
    reads, policy = [], Policy.parse("drop(1)", 5)
    read = type(split)._read
    monkeypatch.setattr(type(split), "_read", lambda split, span: reads.append(span) or read(split, span))
    ensemble = Ensemble("logits", (0.25,) * 4, (1.0,))
    encoded = [Encoding.of(net.encode(["a"])) for net in nets]
    live = Live(nets, ensemble, {}, [], shape=(1 + 4 + 2 + 8,), texts=split, policy=policy, encoded=encoded)
    stored = torch.zeros(SPAN, *live.shape, dtype=live.dtype)
    live.read(1, 2, stored)
    assert reads == [2]
    monkeypatch.setattr(Ensemble, "combine", lambda ensemble, members, layer: members[0])
    for rows in (stored, stored[:1], stored[3:]):
        live.targets(rows, torch.empty(len(rows), 0))
        assert [net.seen.unique().tolist() for net in nets] == [[True], [ids], [0.5], [odd]]
