"""Texts in training: nets of other encodings beside each other, whole, streamed, and with teachers in the loop."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.base import runtime
from pipeline.data.ingest import ingest
from pipeline.data.settings import Views
from pipeline.models.build import parse_model
from pipeline.training.lesson import Ground, Lesson
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
