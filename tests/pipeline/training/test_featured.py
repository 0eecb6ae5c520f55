"""Cached features as a signal: each row comes with those of its own view, whole or streamed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from guided import CPU, POLICY, ROWS, caches, captured

from pipeline.data.splits import open_splits
from pipeline.training.examples import Examples
from pipeline.training.featured import Featured
from pipeline.training.inputs import Numbers
from pipeline.training.targets import Targets


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return captured(tmp_path_factory.mktemp("guided"), "abc")


@pytest.mark.parametrize("memory", [10**9, 8_000])
@pytest.mark.parametrize("chosen", [None, np.flatnonzero(np.arange(ROWS) % 5)])
def test_each_row_comes_with_the_features_of_its_own_view(data, memory, chosen):
    """Whole or streamed, all rows or some; of a teacher in float32 and one in float16."""
    split = open_splits(data / "transfer", ["transfer"])["transfer"]
    targets = Targets.of(caches(data, "ab"), temperatures=[2.0, 3.0], rule="probabilities", weights=[1, 3])
    signal = Featured.of(targets, ["layer2 | pool", "layer1", "layer1"])
    assert signal.feature_bytes == 5 * 4 + 4 + 6 * 4 * 4 + (5 * 2 + 6) + 6 * 4 * 2  # each begins at a multiple of 8
    plain, made = (Examples(Numbers(split), POLICY, 3, each, memory, CPU, chosen) for each in (targets, signal))
    assert made.whole == (memory == 10**9)
    wanted = [(cache, text) for cache in targets.caches.values() for text in ("layer2 | pool", "layer1")]
    read = [[[cache.feature(text, "transfer", view, span) for span in range(3)] for view in range(3)] for cache, text in wanted]
    expected = [torch.from_numpy(np.stack([np.concatenate(spans) for spans in views])) for views in read]  # (views, rows, …)
    for epoch in range(2):
        logits = {}
        for batch in plain.epoch(1, epoch, 7):
            logits |= dict(zip(zip(batch.rows.tolist(), batch.views.tolist(), strict=True), batch.targets, strict=True))
        seen = 0
        for batch in made.epoch(1, epoch, 7):
            assert [each.dtype for each in batch.features] == [torch.float32, torch.float32, torch.float16, torch.float16]
            for found, values in zip(batch.features, expected, strict=True):
                assert torch.equal(found, values[batch.views, batch.rows])
            for row, view, target in zip(batch.rows.tolist(), batch.views.tolist(), batch.targets, strict=True):
                assert torch.equal(target, logits[row, view])
            seen += len(batch.rows)
        assert seen == made.rows == len(logits)


def test_features_take_memory_and_a_teacher_without_weight_gives_none(data):
    split = open_splits(data / "transfer", ["transfer"])["transfer"]
    targets = Targets.of(caches(data, "ac"), temperatures=[2.0], rule="logits", weights=[1, 0])  # c has no features
    signal = Featured.of(targets, ["layer1"])
    needed = ROWS * (16 + 3 * (3 * 4 + 6 * 4 * 4))  # pixels, and in three views logits and features
    for memory, whole in ((needed, True), (needed - 1, False)):
        assert Examples(Numbers(split), POLICY, 3, signal, memory, CPU).whole == whole
    assert len(signal.teachers) == 1


def test_a_loop_of_ones_own_gets_features_too(data):
    signal = Featured.of(Targets.of(caches(data, "a"), temperatures=[1.0], rule="logits"), ["layer1"])
    wanted = torch.from_numpy(
        np.concatenate([caches(data, "a")["a"].feature("layer1", "transfer", 0, span) for span in range(3)])
    )
    for batch in Examples.of_targets(signal, 1, 10**9, CPU).epoch(0, 0, 7):
        assert torch.equal(batch.features[0], wanted[batch.rows])
