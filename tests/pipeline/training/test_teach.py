"""Teaching, and the baseline of a student: what settings of the labels do."""

import numpy as np
import pytest
import torch

from conftest import recipe, write_stage_one
from pipeline.base import runtime
from pipeline.data.settings import Views
from pipeline.data.splits import open_splits
from pipeline.models.build import build, parse_model
from pipeline.models.predict import predict
from pipeline.training.distill import distill
from pipeline.training.objective import HARD
from pipeline.training.teach import teach

MODEL, CPU = "mlp(hidden=[])", torch.device("cpu")


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_smoothed_labels_are_learned_from(tmp_path, smoothing):
    """At a learning rate of 0 the loss of an epoch is that of the initial net: −Σ q log p, in numpy."""
    runtime.prepare("cpu")
    write_stage_one(tmp_path)
    split = open_splits(tmp_path / "transfer", ["train"])["train"]
    logits = predict(build(parse_model(MODEL), split.inputs, 3, seed=1), torch.from_numpy(split.read_all())).astype(float)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wanted = (1 - smoothing) * np.eye(3)[split.labels()] + smoothing / 3
    expected = -(wanted * np.log(probabilities)).sum(1).mean()
    how = {"model": MODEL, "recipe": recipe(optimizer="sgd(lr=0)", epochs=1, label_smoothing=smoothing)}
    given = {"splits": tmp_path / "transfer", "work": tmp_path / "work", "device": CPU}
    taught = teach(**how, policy="none", seed=1, out=tmp_path / "t", **given)
    assert taught.train_loss == pytest.approx(expected, rel=1e-6)
    views = Views("none", 1, 0)
    [student] = distill(
        **how, views=views, rows="all", soft=None, weighting=HARD, correct=(), seeds=(1,), out=tmp_path / "s", **given
    )
    assert student.history[0].train_loss == pytest.approx(expected, rel=1e-6)
