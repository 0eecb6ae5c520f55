"""What is trained beside a net takes part in what a killed training goes on from."""

from pathlib import Path

import pytest
import torch
from guided import HINT, RECIPE, SIMILAR, captured, soft, trained

from pipeline.training import fit
from pipeline.training.recipe import Recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return captured(tmp_path_factory.mktemp("guided"), "a")


def test_a_killed_training_goes_on_to_the_same_bits(data, tmp_path, monkeypatch):
    """Projections and their momentum are part of what is kept; with `ema` and `keep: best` besides."""
    recipe = Recipe.parse(**vars(RECIPE.settings) | {"ema": 0.5, "keep": "best"})
    expected = trained(data, tmp_path / "whole/s-T2", soft(data, HINT, SIMILAR), recipe=recipe)
    monkeypatch.setattr(fit, "SAVING", 1e9)
    usual = fit._Training.epoch

    def killed(self, bar):
        if self.done == 2:
            raise KeyboardInterrupt
        usual(self, bar)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fit._Training, "epoch", killed)
        trained(data, tmp_path / "s-T2", soft(data, HINT, SIMILAR), recipe=recipe)
    done = []
    monkeypatch.setattr(fit._Training, "epoch", lambda self, bar: (done.append(self.done), usual(self, bar)))
    found = trained(data, tmp_path / "s-T2", soft(data, HINT, SIMILAR), recipe=recipe)
    assert done == [2]
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
